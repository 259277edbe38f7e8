"""Several writers on one PostgreSQL are as right as SQLite's one.

Without the locks of `store.locks` nearly all of these fail.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.fakes.core_backends import Backend, Rejected
from tests.fakes.postgres import Postgres
from tests.fakes.racing import Races
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def races(postgres: Postgres) -> Races:
    return Races(postgres.database())


class Scene:
    """A node with one action that it has, known to both writers."""

    def __init__(self, races: Races) -> None:
        self.races = races
        self.node = races.play(ReportingNode.enrolled)
        self.action_id = races.play(self._dispatch)
        races.play(lambda backend: self.at(backend).pull())

    async def _dispatch(self, backend: Backend) -> str:
        answer = await backend.dispatch({"kind": "sleep", "node": self.node.id})
        return str(answer["action_id"])

    def at(self, backend: Backend) -> ReportingNode:
        """The node, speaking to that backend."""
        self.node.backend = backend
        return self.node

    def action(self) -> dict[str, Any]:
        return self.races.play(lambda backend: backend.action(self.action_id))


def code(result: Any) -> str:
    assert isinstance(result, Rejected), result
    return str(result.code)


def test_a_cancel_sees_the_end_that_came_just_before(races: Races) -> None:
    scene = Scene(races)
    events = scene.node.ran(scene.action_id)
    pushed, cancelled = races.meet(
        lambda backend: scene.at(backend).push(*events),
        lambda backend: backend.cancel(scene.action_id, {}),
    )
    assert pushed == {"acked": 2}
    assert code(cancelled) == "already_ended"
    assert scene.action()["execution_status"] == "FINISHED"


def test_a_report_leaves_the_cancel_that_came_just_before(races: Races) -> None:
    scene = Scene(races)
    started = scene.node.ran(scene.action_id)[0]
    cancelled, pushed = races.meet(
        lambda backend: backend.cancel(scene.action_id, {}),
        lambda backend: scene.at(backend).push(started),
    )
    assert cancelled["revision"] == 2
    assert pushed == {"acked": 1}
    action = scene.action()
    assert action["execution_status"] == "STARTED"
    assert (action["revision"], action["should_be_executed"]) == (2, False)


def test_the_same_push_twice_is_stored_once(races: Races) -> None:
    scene = Scene(races)
    events = scene.node.ran(scene.action_id)
    both = races.meet(
        lambda backend: scene.at(backend).push(*events),
        lambda backend: scene.at(backend).push(*events),
    )
    assert both == ({"acked": 2}, {"acked": 2})
    history = races.play(lambda backend: backend.history(scene.action_id))
    assert [event["type"] for event in history].count("transition") == 2


def test_of_two_starts_the_later_speaks(races: Races) -> None:
    scene = Scene(races)
    first, second = secrets.token_hex(8), secrets.token_hex(8)

    def pull_as(instance: str) -> Any:
        return lambda backend: backend.pull((scene.node.id, scene.node.credential, instance), "", 0)

    races.meet(pull_as(first), pull_as(second))
    with pytest.raises(Rejected) as caught:
        races.play(pull_as(first))
    assert caught.value.code == "fenced"
    races.play(pull_as(second))


def test_one_id_is_dispatched_once(races: Races) -> None:
    one, other = races.play(ReportingNode.enrolled), races.play(ReportingNode.enrolled)
    action_id = f"once-{secrets.token_hex(4)}"

    def to(node: ReportingNode) -> Any:
        return lambda backend: backend.dispatch({"id": action_id, "kind": "sleep", "node": node.id})

    first, second = races.meet(to(one), to(other))
    assert first["action_id"] == action_id
    assert code(second) == "exists"


def test_one_key_is_dispatched_once(races: Races) -> None:
    one, other = races.play(ReportingNode.enrolled), races.play(ReportingNode.enrolled)
    key = secrets.token_hex(4)

    def to(node: ReportingNode) -> Any:
        return lambda backend: backend.dispatch(
            {"kind": "sleep", "node": node.id, "dedup_key": key}
        )

    first, second = races.meet(to(one), to(other))
    assert first["outcome"] == "queued"
    assert (second["outcome"], second["action_id"]) == ("deduplicated", first["action_id"])


def test_two_dispatches_to_one_node_are_both_delivered(races: Races) -> None:
    scene = Scene(races)

    def dispatch(backend: Backend) -> Any:
        return backend.dispatch({"kind": "sleep", "node": scene.node.id})

    made = {answer["action_id"] for answer in races.meet(dispatch, dispatch)}
    pulled = races.play(lambda backend: scene.at(backend).pull())
    assert {action["id"] for action in pulled["actions"]} == made


def test_what_is_dispatched_during_a_pull_comes_with_it_or_the_next(races: Races) -> None:
    """The pull acknowledges what it had; the new delivery is beyond that, and stays."""
    scene = Scene(races)
    answer, during = races.meet(
        lambda backend: backend.dispatch({"kind": "sleep", "node": scene.node.id}),
        lambda backend: scene.at(backend).pull(),
    )
    after = races.play(lambda backend: scene.at(backend).pull())
    pulled = [action["id"] for action in during["actions"] + after["actions"]]
    assert pulled == [answer["action_id"]]


def test_one_token_enrols_once(races: Races) -> None:
    token = races.play(lambda backend: backend.token(None))

    def enrol(nonce: str) -> Any:
        return lambda backend: backend.enroll({"token": token, "nonce": nonce})

    first, second = races.meet(enrol("a"), enrol("b"))
    assert first["credential"]
    assert code(second) == "unauthorized"


def test_one_name_is_taken_once(races: Races) -> None:
    name = f"n-{secrets.token_hex(5)}"
    tokens = [races.play(lambda backend: backend.token(None)) for _ in range(2)]

    def enrol(token: str) -> Any:
        return lambda backend: backend.enroll({"token": token, "nonce": "n", "agent_id": name})

    first, second = races.meet(enrol(tokens[0]), enrol(tokens[1]))
    assert first["agent_id"] == name
    assert code(second) == "exists"


def test_of_two_credentials_the_one_that_is_used_first_stays(races: Races) -> None:
    token = races.play(lambda backend: backend.token(None))
    body = {"token": token, "nonce": "kept"}
    one, other = (races.play(lambda backend: backend.enroll(body)) for _ in range(2))

    def pull_with(answer: dict[str, Any]) -> Any:
        who = (answer["agent_id"], answer["credential"], "an-instance")
        return lambda backend: backend.pull(who, "", 0)

    first, second = races.meet(pull_with(one), pull_with(other))
    assert first["full"] is True
    assert code(second) == "unauthorized"


def test_two_nudges_are_one_request(races: Races) -> None:
    node = races.play(ReportingNode.enrolled)
    first, second = races.meet(
        lambda backend: backend.nudge(node.id), lambda backend: backend.nudge(node.id)
    )
    assert first["request_id"] == second["request_id"]
