"""A client that a public generator makes of the description: it dispatches and reads an action."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.core_process import CoreProcess
from tests.fakes.plain_node import PlainNode

pytestmark = pytest.mark.timeout(90)
NAME = "core_client"


class Generated:
    """Its modules, by the name that a program would import."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core
        self.models: Any = importlib.import_module(f"{NAME}.models")
        made = importlib.import_module(f"{NAME}.client").AuthenticatedClient
        self.client: Any = made(core.url, core.token)

    def call(self, group: str, operation: str, *given: Any, **more: Any) -> Any:
        module = importlib.import_module(f"{NAME}.api.{group}.{operation}")
        return module.sync(*given, client=self.client, **more)


@pytest.fixture(scope="module")
def generated(
    shared_core: CoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Generated]:
    directory = tmp_path_factory.mktemp("generated")
    description = directory / "openapi.json"
    description.write_bytes(httpx.get(f"{shared_core.url}/openapi.json").content)
    config = directory / "config.yaml"
    config.write_text("post_hooks: []\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", description,
         "--output-path", directory / NAME, "--meta", "none", "--config", config,
         "--fail-on-warning"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(directory))
    yield Generated(shared_core)
    sys.path.remove(str(directory))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def node(shared_core: CoreProcess) -> PlainNode:
    return PlainNode(shared_core.url, shared_core.token, "g1", env="prod")


def test_it_dispatches_and_reads_an_action(generated: Generated, node: PlainNode) -> None:
    models = generated.models
    payload = models.NewActionPayload.from_dict({"seconds": 1})
    body = models.NewAction(kind="sleep", node=node.id, payload=payload)
    outcome = generated.call("dispatch", "dispatch", body=body)
    assert outcome.outcome is models.OutcomeName.QUEUED
    shown = generated.call("actions", "get_action", outcome.action_id)
    assert (shown.phase, shown.kind, shown.node) == (models.Phase.QUEUED, "sleep", node.id)
    assert shown.payload["seconds"] == 1
    assert isinstance(shown.created_at, datetime)
    assert [one["id"] for one in node.pull()] == [shown.id]
    node.run(shown.id)
    ended = generated.call("actions", "get_action", shown.id, wait=10.0)
    assert (ended.phase, ended.execution_status) == (
        models.Phase.DONE, models.ExecutionStatus.FINISHED,
    )  # fmt: skip
    events = generated.call("actions", "get_history", shown.id).events
    assert [event.by for event in events][-1] is models.Source.NODE


def test_it_schedules_lists_and_withdraws(generated: Generated, node: PlainNode) -> None:
    models = generated.models
    later = datetime.now(UTC) + timedelta(hours=1)
    body = models.NewAction(action_type="sleep", node=node.id, from_date=later)
    outcome = generated.call("dispatch", "dispatch", body=body)
    assert outcome.outcome is models.OutcomeName.SCHEDULED
    assert abs(outcome.scheduled_for - later) < timedelta(milliseconds=1)
    page = generated.call("actions", "list_actions", node=node.id, phase=models.Phase.SCHEDULED)
    assert [one.id for one in page.actions] == [outcome.action_id]
    gone = generated.call(
        "actions", "cancel_action", outcome.action_id, body=models.CancelRequest(reason="enough")
    )
    assert gone.phase is models.Phase.CANCELLED


def test_an_error_is_a_value_with_its_faults(generated: Generated) -> None:
    models = generated.models
    body = models.NewAction(kind="sleep", node="nobody", grace_s=-1)
    refused = generated.call("dispatch", "dispatch", body=body)
    assert isinstance(refused, models.Error)
    assert [fault.path for fault in refused.faults] == ["grace_s"]


def test_nodes_tokens_and_the_log_can_be_read(generated: Generated, node: PlainNode) -> None:
    models = generated.models
    assert node.id in [one.id for one in generated.call("agents", "list_agents").agents]
    new = models.NewToken(name="made", role=models.Role.VIEWER)
    made = generated.call("access", "create_token", body=new)
    assert (made.role, made.state) == (models.Role.VIEWER, models.TokenState.ACTIVE)
    lines = generated.call("access", "list_audit", what="token_create").lines
    assert lines[0].target == "made"
    assert generated.call("access", "verify_audit").ok


def test_every_operation_has_a_module_of_its_own(
    generated: Generated, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing was left out as too strange to be generated."""
    package = Path(str(generated.models.__file__)).parents[1]
    made = {path.stem for path in package.glob("api/*/*.py") if path.stem != "__init__"}
    document = json.loads(httpx.get(f"{generated.core.url}/openapi.json").content)
    described = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    assert made == described
