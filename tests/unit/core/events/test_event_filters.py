"""Which events pass; what a bad filter is told; when a message is tried again."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from agent.core.events.backoff import DELAY_S_MAX, next_delay_s
from agent.core.events.filter import Beside, EventFilter, filter_document, read_filter
from agent.core.events.signing import secret_of, sign
from agent.domain.errors import InvalidDocument


class Event:
    """As much of a row as a filter looks at."""

    def __init__(self, node: str = "n1", kind: str = "enrolled", action: str | None = None) -> None:
        self.agent_id = node
        self.type = kind
        self.action_id = action


def passes(wanted: EventFilter, event: Any, **beside: Any) -> bool:
    return wanted.wants(event, Beside(**beside))


def test_nothing_given_is_everything() -> None:
    assert passes(read_filter({}), Event("", "webhook_gap"))


@pytest.mark.parametrize(
    ("given", "event", "beside", "expected"),
    [
        ({"node": "n1"}, Event("n1"), {}, True),
        ({"node": "n1"}, Event("n2"), {}, False),
        ({"type": "a, enrolled"}, Event(), {}, True),
        ({"type": ["a"]}, Event(), {}, False),
        ({"action_id": "x"}, Event(action="x"), {}, True),
        ({"action_id": "x"}, Event(action=None), {}, False),
        ({"kind": "k"}, Event(action="x"), {"kind": "k"}, True),
        ({"kind": "k"}, Event(action="x"), {}, False),
        ({"correlation_id": "c"}, Event(), {"correlation_id": "c"}, True),
        ({"selector": "env=prod"}, Event(), {"labels": {"env": "prod"}}, True),
        ({"selector": "env=prod"}, Event(), {"labels": {}}, False),
        ({"selector": "!env"}, Event(""), {"labels": {}}, False),
        ({"node": "n1", "type": "other"}, Event("n1"), {}, False),
    ],
)
def test_all_that_is_given_must_hold(
    given: dict[str, Any], event: Event, beside: dict[str, Any], expected: bool
) -> None:
    assert passes(read_filter(given), event, **beside) is expected


def test_a_filter_is_shown_as_it_was_given() -> None:
    given = {"selector": "env=prod", "type": ["a", "b"], "kind": "k"}
    assert filter_document(read_filter(given)) == given


def test_all_faults_are_told_together() -> None:
    with pytest.raises(InvalidDocument) as caught:
        read_filter({"selector": "=", "node": 3, "type": [], "kind": "a\0", "nodes": "n1"})
    assert {fault.path for fault in caught.value.faults} == {
        "selector", "node", "type", "kind", "nodes",
    }  # fmt: skip


def test_delays_double_up_to_an_hour_and_differ() -> None:
    delays = [next_delay_s(n, 5.0, lambda _: 0) for n in range(1, 14)]
    assert delays[:4] == [2.5, 5.0, 10.0, 20.0]
    assert delays[-1] == DELAY_S_MAX / 2
    some = {next_delay_s(3, 5.0, secrets.randbits) for _ in range(20)}
    assert len(some) > 15
    assert all(10.0 <= one <= 18.0 for one in some)


def test_a_receiver_may_ask_for_longer_but_not_for_ever() -> None:
    assert next_delay_s(1, 5.0, lambda _: 0, 30.0) == 30.0
    assert next_delay_s(1, 5.0, lambda _: 0, 1.0) == 2.5
    assert next_delay_s(1, 5.0, lambda _: 0, 999_999.0) == DELAY_S_MAX


def test_the_signature_is_the_conventions() -> None:
    """The example of the Standard Webhooks libraries."""
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret_of(bytes(32)), "a", 1, b"") != sign(secret_of(bytes(31) + b"x"), "a", 1, b"")


@pytest.mark.parametrize("word", ["a\0b", "a b", "", "x" * 65, "täglich", "A", 3])
def test_what_is_no_event_type(word: object) -> None:
    with pytest.raises(InvalidDocument, match="no event type"):
        read_filter({"type": ["a", word]})
