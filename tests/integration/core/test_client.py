"""The Python client against a real core: seed 003's example, and answers that get lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.client.core import CoreClient
from agent.client.errors import CoreError, CoreRefused, CoreUnreachable
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.plain_node import PlainNode

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def node(shared_core: CoreProcess) -> PlainNode:
    return PlainNode(shared_core.url, shared_core.token, "n1", env="prod")


@pytest.fixture
def client(shared_core: CoreProcess, node: PlainNode) -> Iterator[CoreClient]:
    with CoreClient(shared_core.url, shared_core.token) as client:
        yield client


Loss = type[httpx.TransportError] | httpx.Response


class Losing(httpx.BaseTransport):
    """A network that delivers requests and loses answers: as many as it is told to.

    What is heard instead is an error, or somebody else's answer.
    """

    def __init__(self, losses: int, error: Loss = httpx.ReadError) -> None:
        self.losses = losses
        self.sent: list[str] = []
        self._error = error
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.sent.append(f"{request.method} {request.url.path}")
        if self._error is not httpx.ConnectError or not self.losses:
            answer = self._inner.handle_request(request)
            answer.read()
        if self.losses:
            self.losses -= 1
            if isinstance(self._error, httpx.Response):
                return self._error
            raise self._error("lost")
        return answer


def losing(
    core: CoreProcess, losses: int, error: Loss = httpx.ReadError
) -> tuple[CoreClient, Losing]:
    network = Losing(losses, error)
    http = httpx.Client(transport=network)
    client = CoreClient(core.url, core.token, http=http)
    client._transport._pause = lambda _: None  # nobody waits for a network that is a test's
    return client, network


def action(**more: Any) -> dict[str, Any]:
    return {"kind": "sleep", "node": "n1", **more}


def in_hours(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def test_the_page_s_example_works(
    shared_core: CoreProcess, node: PlainNode, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Seed 003's lines, as docs/client.md prints them."""
    page = (ROOT / "docs" / "client.md").read_text()
    found = re.search(r"```python\n(.*?CoreClient\(.*?)```", page, re.DOTALL)
    assert found
    example = found[1].replace("http://localhost:8080", shared_core.url)
    monkeypatch.setenv("CORE_TOKEN_FILE", str(shared_core.token_file))
    for given, said in (
        (action(from_date=in_hours(1)), r"Action \S+ scheduled for \d{4}-"),
        (action(), r"^$"),
    ):
        exec(example, {"action": given})
        assert re.match(said, capsys.readouterr().out)
    with node.working():
        exec(example.replace("dispatch(action", "dispatch(action, wait_s=20"), {"action": action()})
    assert capsys.readouterr().out.startswith("Executed immediately: {")


def test_every_outcome_is_told(client: CoreClient, node: PlainNode) -> None:
    queued = client.dispatch(action())
    assert (queued.is_queued(), queued.is_scheduled(), queued.scheduled_for) == (True, False, None)
    at = in_hours(2)
    later = client.dispatch(action(from_date=at))
    assert later.is_scheduled()
    assert later.scheduled_for is not None
    assert abs(later.scheduled_for - at) < timedelta(milliseconds=1)
    dry = client.dispatch(action(), dry_run=True)
    assert (dry.is_dry_run(), dry.would_be) == (True, "queued")
    waiting = client.dispatch(action(risk_level="dangerous"))
    assert waiting.is_pending_approval()
    once = client.dispatch(action(dedup_key="k1"))
    again = client.dispatch(action(dedup_key="k1"))
    assert (again.is_deduplicated(), again.action_id) == (True, once.action_id)
    several = client.dispatch({"kind": "sleep", "selector": "env=prod"})
    assert several.is_queued()
    assert [one.node for one in several.actions] == ["n1"]


def test_waiting_tells_how_it_ended(client: CoreClient, node: PlainNode) -> None:
    with node.working():
        outcome = client.dispatch(action(), wait_s=20)
        assert outcome.is_executed()
        assert outcome.response is not None
        assert outcome.response["exit_code"] == 0
        made = client.dispatch(action())
        assert made.action_id is not None
        ended = client.wait(made.action_id, timeout_s=20)
        assert (ended.is_done(), ended.has_ended(), ended.status) == (True, True, "FINISHED")
        again = client.retry(made.action_id, wait_s=20)
        assert again.is_executed()
    later = client.dispatch(action(from_date=in_hours(1)))
    assert later.action_id is not None
    began = time.monotonic()
    assert not client.wait(later.action_id, timeout_s=0.3).has_ended()
    assert 0.2 < time.monotonic() - began < 5


def test_looking_cancelling_and_moving(client: CoreClient) -> None:
    made = client.dispatch(action(from_date=in_hours(1), correlation_id="c1"))
    assert made.action_id is not None
    moved = client.reschedule(made.action_id, in_hours(5), reason="off-peak")
    assert moved.document["from_date"] > in_hours(4).isoformat()
    assert [one.id for one in client.actions(correlation_id="c1")] == [made.action_id]
    gone = client.cancel(made.action_id, reason="acknowledged")
    assert (gone.phase, client.get(made.action_id).phase) == ("CANCELLED", "CANCELLED")
    other = client.dispatch(action(from_date=in_hours(1), correlation_id="c2"))
    client.cancel_correlated("c2")
    assert client.get(str(other.action_id)).phase == "CANCELLED"


def test_errors_carry_all_faults(client: CoreClient, shared_core: CoreProcess) -> None:
    with pytest.raises(CoreRefused) as caught:
        client.dispatch({"kind": "sleep", "node": "n1", "timout_s": 3, "grace_s": -1})
    assert (caught.value.status, caught.value.code) == (422, "invalid")
    assert {fault.path for fault in caught.value.faults} == {"timout_s", "grace_s"}
    assert "timout_s" in str(caught.value)
    with pytest.raises(CoreRefused) as caught:
        client.get("no/such thing?")
    assert caught.value.status == 404
    with CoreClient(shared_core.url, "wrong") as stranger, pytest.raises(CoreRefused) as caught:
        stranger.dispatch(action())
    assert caught.value.status == 401


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://core", "http://[::1", ""])
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(CoreError, match="not a URL"):
        CoreClient(url, "token")


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with CoreClient("http://127.0.0.1:1", "x", retries=0) as client:
        with pytest.raises(CoreUnreachable) as caught:
            client.dispatch(action())
        assert not caught.value.maybe_done
    with pytest.raises(CoreError, match="token file"):
        CoreClient(token_file=tmp_path / "nothing")


@pytest.mark.parametrize("error", [httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError])
@pytest.mark.parametrize(
    "given",
    [
        lambda: action(from_date=in_hours(1)),
        lambda: {"kind": "sleep", "selector": "env=prod", "from_date": in_hours(1)},
        lambda: {"kind": "sleep", "selector": "env=prod", "pick": "any", "from_date": in_hours(1)},
        lambda: {"kind": "sleep", "labels": {"env": "prod"}, "from_date": in_hours(1)},
    ],
    ids=["node", "selector", "any", "labels"],
)
def test_a_lost_answer_is_asked_for_again_and_done_once(
    shared_core: CoreProcess,
    node: PlainNode,
    error: type[httpx.TransportError],
    given: Callable[[], dict[str, Any]],
) -> None:
    with CoreClient(shared_core.url, shared_core.token) as plain:
        before = len(list(plain.actions()))
        client, network = losing(shared_core, 2, error)
        outcome = client.dispatch(given())
        assert outcome.is_scheduled()
        assert network.sent[:3] == ["POST /v1/dispatch"] * 3
        parts = outcome.actions or (outcome,)
        assert all(one.is_scheduled() and one.scheduled_for for one in parts)
        assert len(list(plain.actions())) == before + 1
        assert plain.get(str(parts[0].action_id)).phase == "SCHEDULED"


@pytest.mark.parametrize("losses", [0, 1])
@pytest.mark.parametrize("where", [{"node": "n1"}, {"selector": "env=prod"}], ids=["node", "many"])
def test_a_recurring_action_is_one_by_its_id(
    shared_core: CoreProcess, node: PlainNode, where: dict[str, Any], losses: int
) -> None:
    client, network = losing(shared_core, 0)
    before = recurring_ids(client)
    network.losses = losses
    outcome = client.dispatch({"kind": "sleep", "schedule": {"every": "1 day"}, **where})
    assert (outcome.outcome, outcome.scheduled_for) == ("scheduled", None)
    assert recurring_ids(client) - before == {outcome.action_id}


def recurring_ids(client: CoreClient) -> set[str]:
    listed = client.request("GET", "/v1/recurring", query={"limit": 500})["recurring"]
    return {one["id"] for one in listed}


@pytest.mark.parametrize(
    "heard",
    [
        httpx.Response(503, json={"error": "unavailable", "message": "lost during the commit"}),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(504, text="<html>Gateway Timeout</html>"),
    ],
    ids=["commit", "gateway", "late"],
)
def test_an_answer_that_leaves_it_open_is_a_lost_one(
    shared_core: CoreProcess, node: PlainNode, heard: httpx.Response
) -> None:
    client, network = losing(shared_core, 1, heard)
    assert client.dispatch(action(from_date=in_hours(1))).is_scheduled()
    assert network.sent[:2] == ["POST /v1/dispatch"] * 2
    client, network = losing(shared_core, 5, heard)
    with pytest.raises((CoreRefused, CoreUnreachable)) as caught:
        client.request("POST", "/v1/agents/n1/nudge")
    assert caught.value.maybe_done
    assert network.sent == ["POST /v1/agents/n1/nudge"]


def test_a_cancellation_whose_answer_was_lost_is_no_refusal(
    shared_core: CoreProcess, node: PlainNode
) -> None:
    client, network = losing(shared_core, 0)
    made = client.dispatch(action(from_date=in_hours(1)))
    name = str(made.action_id)
    network.losses = 1
    client._transport._pause = lambda _: node.move(name, "NULL", "WONT_START", "withdrawn")
    assert client.cancel(name).phase == "CANCELLED"
    with pytest.raises(CoreRefused, match="already_ended"):
        client.cancel(name)


def test_a_lost_answer_of_a_batch_too(shared_core: CoreProcess, node: PlainNode) -> None:
    client, _ = losing(shared_core, 1)
    taken = client.dispatch(action(id="taken-b", from_date=in_hours(1)))
    assert taken.is_scheduled()
    client, _ = losing(shared_core, 1)
    given = [
        action(from_date=in_hours(1)),
        {"kind": "sleep", "selector": "env=prod"},
        action(grace_s=-1),
        action(dedup_key="k2"),
    ]
    results = client.dispatch_batch(given)
    assert [one.outcome for one in results] == ["scheduled", "queued", "failed", "deduplicated"]
    assert [fault.path for fault in results[2].faults] == ["grace_s"]


def test_an_id_that_was_taken_before_is_refused(client: CoreClient) -> None:
    client.dispatch(action(id="mine", from_date=in_hours(1)))
    with pytest.raises(CoreRefused) as caught:
        client.dispatch(action(id="mine"))
    assert (caught.value.code, caught.value.maybe_done) == ("exists", False)


def test_what_must_not_be_repeated_is_not(shared_core: CoreProcess) -> None:
    client, network = losing(shared_core, 5)
    with pytest.raises(CoreUnreachable, match="may have been done") as caught:
        client.request("POST", "/v1/agents/n1/nudge")
    assert caught.value.maybe_done
    assert network.sent == ["POST /v1/agents/n1/nudge"]


def test_the_end_of_patience_is_told(shared_core: CoreProcess) -> None:
    client, network = losing(shared_core, 99)
    with pytest.raises(CoreUnreachable) as caught:
        client.dispatch(action())
    assert caught.value.maybe_done
    assert len(network.sent) == 5


def test_events_are_each_told_once_and_can_be_gone_on_with(client: CoreClient) -> None:
    made = client.dispatch(action(from_date=in_hours(1)))
    everything = list(client.events(follow=False))
    numbers = [event["id"] for event in everything]
    assert numbers == sorted(set(numbers))
    assert made.action_id in {event["action_id"] for event in everything}
    assert list(client.events(numbers[-1], follow=False)) == []
    some = list(client.events(follow=False, type=["dispatched", "enrolled"]))
    assert {event["type"] for event in some} == {"dispatched", "enrolled"}
    stream = client.events(numbers[-1])
    other = client.dispatch(action(from_date=in_hours(1)))
    assert next(stream)["action_id"] == other.action_id
