"""What this life of `agentd` counts for Prometheus: in memory, from 0 at each start.

The engine, the runner's connection and the API tell what happened; nothing here decides. What can
be read from the state at any time is a gauge and is measured when asked (`agent.node.scrape`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from agent.domain.action import Action
from agent.domain.lifecycle import ExecutionStatus
from agent.infra.prometheus import COUNTER, HISTOGRAM, Family, Histogram, Sample
from agent.node import metric_names as names

LATENESS_BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200,
)  # fmt: skip
"""From a timer's own jitter to hours behind an exclusive action."""


class Metrics:
    """The counters; every label has few values, all of our own choosing."""

    def __init__(self) -> None:
        self._starts = 0
        self._lateness = Histogram(LATENESS_BOUNDS_S)
        self._endings: Counter[tuple[str, str]] = Counter()
        self._again: Counter[str] = Counter()
        self._missed = 0
        self._output: Counter[str] = Counter(stdout=0, stderr=0)
        self._store_failures = 0
        self._api: Counter[int] = Counter()
        self._runner_pid: int | None = None
        self._runner_restarts = 0

    def turned(self, late_s: Iterable[float], ended: Iterable[Action]) -> None:
        """A turn of the engine is committed: how late its starts were, and what ended."""
        for seconds in late_s:
            self._starts += 1
            self._lateness.observe(max(0.0, seconds))
        for action in ended:
            self._count_end(action)

    def _count_end(self, action: Action) -> None:
        reason = action.reason or "none"
        if action.execution_status is ExecutionStatus.NULL:
            self._again[reason] += 1
        else:
            self._endings[action.execution_status.value, reason] += 1
            self._missed += int((action.missed or {}).get("count", 0))
        if action.attempt:
            self._count_output(action.output or {})

    def _count_output(self, output: Mapping[str, Any]) -> None:
        for stream in ("stdout", "stderr"):
            self._output[stream] += int((output.get(stream) or {}).get("bytes", 0))

    def store_failed(self) -> None:
        """A transaction could not be committed."""
        self._store_failures += 1

    def api_answered(self, code: int) -> None:
        """An answer of the local API went out."""
        self._api[code] += 1

    def runner_connected(self, pid: int) -> None:
        """A runner said hello; another pid than before means that it was restarted."""
        self._runner_restarts += self._runner_pid not in (None, pid)
        self._runner_pid = pid

    def families(self) -> list[Family]:
        """All counters as they stand."""
        endings = [
            Sample(number, {"status": status, "reason": reason})
            for (status, reason), number in sorted(self._endings.items())
        ]
        return [
            _counter(names.STARTS, "Starts of attempts.", self._starts),
            Family(
                names.LATENESS, HISTOGRAM, "Seconds from due to start.", self._lateness.samples()
            ),
            Family(names.ENDINGS, COUNTER, "Actions that reached a final status.", endings),
            _by(names.AGAIN, "Attempts after which another was planned.", "reason", self._again),
            _counter(names.MISSED, "Instants of schedules that never ran.", self._missed),
            _by(names.OUTPUT_BYTES, "Bytes that scripts wrote.", "stream", self._output),
            _counter(
                names.RUNNER_RESTARTS, "Runners seen beyond the first.", self._runner_restarts
            ),
            _counter(
                names.STORE_FAILURES, "Transactions that could not commit.", self._store_failures
            ),
            _by(names.API_REQUESTS, "Answers of the local API.", "code", self._api),
        ]


def _counter(name: str, help_text: str, value: float) -> Family:
    return Family(name, COUNTER, help_text, [Sample(value)])


def _by(name: str, help_text: str, label: str, counts: Mapping[Any, int]) -> Family:
    samples = [Sample(number, {label: str(key)}) for key, number in sorted(counts.items())]
    return Family(name, COUNTER, help_text, samples)
