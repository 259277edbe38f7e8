"""What is counted of a turn, of the runner and of the API."""

from __future__ import annotations

from typing import Any

from agent.domain.lifecycle import ExecutionStatus
from agent.infra.prometheus import encode
from agent.node.metrics import Metrics
from tests.unit.domain.builders import make_action


def counted(metrics: Metrics) -> dict[str, str]:
    lines = encode(metrics.families()).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def ended(status: str, reason: str, **fields: Any) -> Any:
    return make_action(execution_status=ExecutionStatus(status), reason=reason, **fields)


def test_a_turn_is_counted_by_what_it_started_and_ended() -> None:
    metrics = Metrics()
    output = {"stdout": {"bytes": 10, "tail": "x"}, "stderr": {"bytes": 3}}
    metrics.turned(
        [0.02, -0.5, 400.0],
        [
            ended("FINISHED", "exit_zero", attempt=1, output=output),
            ended("FINISHED", "exit_zero", attempt=1),
            ended("NULL", "retry", attempt=1, output=output),
            ended("WONT_START", "missed", missed={"count": 40}),
        ],
    )
    found = counted(metrics)
    assert found["agentd_starts_total"] == "3"
    assert found['agentd_start_lateness_seconds_bucket{le="0.01"}'] == "1", "never before it is due"
    assert found['agentd_start_lateness_seconds_bucket{le="300"}'] == "2"
    assert found['agentd_endings_total{status="FINISHED",reason="exit_zero"}'] == "2"
    assert found['agentd_endings_total{status="WONT_START",reason="missed"}'] == "1"
    assert found['agentd_attempts_again_total{reason="retry"}'] == "1"
    assert found["agentd_missed_instants_total"] == "40"
    assert found['agentd_output_bytes_total{stream="stdout"}'] == "20"
    assert found['agentd_output_bytes_total{stream="stderr"}'] == "6"


def test_the_buckets_tell_a_punctual_start_from_a_late_one() -> None:
    metrics = Metrics()
    metrics.turned([0.0008, 0.003, 0.007], [])
    found = counted(metrics)
    buckets = [
        found[f'agentd_start_lateness_seconds_bucket{{le="{bound}"}}']
        for bound in ("0.001", "0.0025", "0.005", "0.01")
    ]
    assert buckets == ["1", "1", "2", "3"]


def test_a_runner_that_comes_back_is_no_restart_and_another_one_is() -> None:
    metrics = Metrics()
    for pid in (10, 10, 11):
        metrics.runner_connected(pid)
    assert counted(metrics)["agentd_runner_restarts_total"] == "1"


def test_answers_are_counted_by_code_and_failures_of_the_store() -> None:
    metrics = Metrics()
    for code in (200, 200, 404):
        metrics.api_answered(code)
    metrics.store_failed()
    found = counted(metrics)
    assert found['agentd_api_requests_total{code="200"}'] == "2"
    assert found['agentd_api_requests_total{code="404"}'] == "1"
    assert found["agentd_store_failures_total"] == "1"
