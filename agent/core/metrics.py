"""What the core tells Prometheus: counters of this life, and gauges measured when asked.

The parts count for themselves; here their numbers get names. Every label has few values, all of
our own choosing, or as many as there are rules or webhooks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from starlette.types import Scope

from agent.core import metric_names as names
from agent.core.events.delivery import Tally
from agent.core.events.hub import Hub
from agent.core.nodes.arrivals import Arrivals
from agent.core.scrape import Counted
from agent.core.store.metered import MeteredStore
from agent.core.wakeups import Wakeups
from agent.version import VERSION

STORE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_TOTAL = "_total"  # the library appends it to counters itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers are: parts of a core that count for themselves."""

    wakeups: Wakeups
    hub: Hub
    webhook_tally: Tally
    removed: Mapping[str, int]
    dispatched: Mapping[str, int]
    rules_matched: Mapping[tuple[str, str], int]
    store: MeteredStore
    arrivals: Arrivals


class Metrics:
    """The registry, and what is counted nowhere else."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        self._store_seconds = Histogram(
            names.STORE_SECONDS,
            "Seconds of a piece of work in the database, waiting included.",
            ["what"],
            buckets=STORE_BOUNDS_S,
            registry=self.registry,
        )
        self._answers: Counter[tuple[str, str, str]] = Counter()

    def store_took(self, what: str, seconds: float) -> None:
        """A read or a write has ended."""
        self._store_seconds.labels(what).observe(seconds)

    def answered(self, scope: Scope, status: int) -> None:
        """An answer began."""
        route = getattr(scope.get("route"), "path", "none")
        self._answers[scope["method"] if route != "none" else "any", route, str(status)] += 1

    def exposition(self, counted: Counted, sources: Sources, under_way: int) -> bytes:
        """Everything as text."""
        families = [
            *self._requests(under_way),
            *_events(counted, sources),
            *_fleet(counted, sources),
            *_webhooks(counted, sources.webhook_tally),
            *_store(sources.store),
            *_pushes(sources.arrivals),
        ]
        measured = CollectorRegistry(auto_describe=False)
        measured.register(_Ready(families))
        return generate_latest(self.registry) + generate_latest(measured)

    def _requests(self, under_way: int) -> Iterator[Metric]:
        yield _gauge(names.BUILD_INFO, "Always 1.", {(VERSION,): 1}, "version")
        yield _counter(names.REQUESTS, "Answers.", self._answers, "method", "route", "code")
        yield _gauge(names.REQUESTS_UNDER_WAY, "Requests that wait or run.", {(): under_way})


class _Ready:
    """Families that were made already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families


def _events(counted: Counted, sources: Sources) -> Iterator[Metric]:
    hub = sources.hub
    yield _gauge(names.NEWEST_EVENT, "Number of the newest event.", {(): counted.newest_event})
    yield _gauge(names.EVENTS_PRUNED, "Events up to it are forgotten.", {(): counted.pruned_up_to})
    removed = {(what,): count for what, count in sources.removed.items()}
    yield _counter(names.PRUNED_ROWS, "Rows that retention took.", removed, "what")
    yield _gauge(names.SUBSCRIBERS, "Who listens to live events.", {(): hub.subscribers})
    yield _counter(names.SUBSCRIBERS_CUT, "Listeners that were too slow.", {(): hub.cut_off})
    polls = sources.wakeups.waiting("agent")
    yield _gauge(names.POLLS_OPEN, "Nodes whose long poll is open.", {(): polls})


def _fleet(counted: Counted, sources: Sources) -> Iterator[Metric]:
    yield _gauge(names.NODES, "Nodes by state.", _keyed(counted.nodes), "state")
    open_ones = _keyed(counted.actions_open)
    yield _gauge(names.ACTIONS_OPEN, "Actions that have not ended.", open_ones, "status")
    pending = {(): counted.approvals_pending}
    yield _gauge(names.APPROVALS_PENDING, "Questions that wait for a person.", pending)
    yield _gauge(names.TIMERS_PENDING, "Timers that are set.", _keyed(counted.timers), "kind")
    outcomes = _keyed(sources.dispatched)
    yield _counter(names.DISPATCHES, "Dispatches by outcome.", outcomes, "outcome")
    matched = dict(sources.rules_matched)
    yield _counter(names.RULE_MATCHES, "Rules that matched.", matched, "rule", "result")


def _webhooks(counted: Counted, tally: Tally) -> Iterator[Metric]:
    yield _gauge(names.WEBHOOKS, "Webhooks.", _keyed(counted.webhooks), "state")
    behind = _keyed(counted.webhook_behind)
    yield _gauge(names.WEBHOOK_BEHIND, "Events behind the newest.", behind, "webhook")
    messages = {
        ("delivered",): tally.delivered,
        ("failed",): tally.failed,
        ("given_up",): tally.given_up,
    }
    yield _counter(names.WEBHOOK_MESSAGES, "Attempts by outcome.", messages, "outcome")
    yield _gauge(names.WEBHOOK_DEAD_LETTERS, "Dead letters kept.", {(): counted.dead_letters})


def _store(store: MeteredStore) -> Iterator[Metric]:
    waiting = _keyed(store.waiting)
    yield _gauge(names.STORE_WAITING, "Work that waits or runs.", waiting, "what")
    yield _counter(names.STORE_FAILURES, "Work the database refused.", {(): store.failures})


def _pushes(arrivals: Arrivals) -> Iterator[Metric]:
    waiting = {(): arrivals.waiting}
    yield _gauge(names.PUSHES_WAITING, "Pushes that are not being stored yet.", waiting)
    groups = _keyed(arrivals.groups)
    yield _counter(names.PUSH_GROUPS, "Groups of pushes by outcome.", groups, "outcome")


Labelled = Mapping[Any, float]  # by the values of the labels, a tuple


def _keyed(values: Mapping[str, int]) -> Labelled:
    return {(key,): value for key, value in sorted(values.items())}


def _gauge(name: str, help_text: str, values: Labelled, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, help_text: str, values: Labelled, *labels: str) -> Metric:
    family = CounterMetricFamily(name.removesuffix(_TOTAL), help_text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family
