"""Server-sent events on the command line: in whatever pieces they come, and after every break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest

from agent.cli import event_feed
from agent.cli.api_client import ApiRefused, Streamed, Unreachable
from agent.cli.event_feed import Feed, Frame, frames
from agent.cli.event_sentences import sentence_of, told

STREAM = (
    b"retry: 3000\nid: 4\n\n"
    b':\n\nid: 5\nevent: a\ndata: {"id": 5, "x": "\xc3\xa4"}\n\n'
    b'id: 6\r\nevent: b\r\ndata:{"id": 6}\r\n\r\n'
    b"id: 9\n\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_frames_come_out_however_they_are_cut(size: int) -> None:
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert list(frames(chunks)) == [
        Frame("4", None), Frame("5", '{"id": 5, "x": "ä"}'), Frame("6", '{"id": 6}'),
        Frame("9", None),
    ]  # fmt: skip


def test_half_a_frame_at_the_end_is_no_event() -> None:
    assert list(frames([b'id: 5\ndata: {"id": 5}\n'])) == []


def test_a_line_without_end_is_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "LINE_BYTES_MAX", 100)
    with pytest.raises(Unreachable, match="without end"):
        list(frames([b"x" * 60, b"x" * 60]))


class Script:
    """A client whose streams are told: a list of chunks, or what is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []

    @contextmanager
    def stream(self, path: str, **more: Any) -> Iterator[Streamed]:
        self.asked.append(more["headers"].get("Last-Event-ID"))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield Streamed(None, iter(answer))  # type: ignore[arg-type]


def event(number: int) -> bytes:
    return f'id: {number}\nevent: a\ndata: {{"id": {number}}}\n\n'.encode()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "RETRY_S_MIN", 0.0)


def numbers(script: Script, count: int, said: list[str]) -> list[int]:
    feed = Feed(script, {}, None, said.append)  # type: ignore[arg-type]
    return [one["id"] for one in islice(feed.events(), count)]


def test_it_comes_back_with_the_number_it_reached() -> None:
    away = Unreachable(OSError(), "cannot reach it")
    script = Script([b"id: 3\n\n"], [event(4)], away, away, [b"id: 9\n\n"], [event(10)])
    said: list[str] = []
    assert numbers(script, 2, said) == [4, 10]
    assert script.asked == [None, "3", "4", "4", "4", "9"]
    assert said == ["cannot reach it; trying again until it is back", "the core is back"]


def test_a_core_that_never_was_there_is_an_error() -> None:
    with pytest.raises(Unreachable):
        numbers(Script(Unreachable(OSError(), "x")), 1, [])


def test_a_hole_is_told_and_passed_over() -> None:
    gone = ApiRefused(410, "gone", "the events after 4 are no longer kept")
    script, said = Script([event(4)], gone, [event(90)]), list[str]()
    assert numbers(script, 2, said) == [4, 90]
    assert script.asked[-1] is None
    assert "no longer kept" in said[0]


@pytest.mark.parametrize("status", [401, 403, 422])
def test_what_coming_back_cannot_change_is_an_error(status: int) -> None:
    with pytest.raises(ApiRefused):
        numbers(Script([event(1)], ApiRefused(status, "x", "no")), 2, [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"type": "transition", "action_id": "a", "from": "STARTED", "to": "FAILED",
             "reason": "exit_nonzero", "attempt": 2, "execution": {"exit_code": 3}},
            "a: STARTED → FAILED (exit_nonzero), exit code 3, attempt 2",
        ),
        ({"type": "gap", "first": 3, "last": 9, "reason": "full"}, "events 3 to 9 are lost (full)"),
        ({"type": "dispatched", "action_id": "a", "kind": "k", "requested_by": "me"},
         "a: k was dispatched by me"),
        ({"type": "definition_refused", "action_id": "a", "revision": 2,
          "faults": [{"path": "kind", "message": "is unknown"}]},
         "a: the node refused revision 2: kind: is unknown"),
        ({"type": "something_new", "id": 3, "node": "n", "x": {"y": 1}, "z": None},
         'something new x={"y":1}'),
        ({"type": "local_definition", "action_id": "r", "recurring": {"state": "paused"},
          "definition": {"kind": "k"}}, "r: the recurring k is paused on its node"),
    ],
)  # fmt: skip
def test_an_event_is_a_sentence(given: dict[str, Any], expected: str) -> None:
    assert told(given) == expected


def test_a_line_tells_when_and_where() -> None:
    event = {"type": "enrolled", "node": None, "stored_at": "2026-03-01T12:00:00Z"}
    assert sentence_of(event) == "2026-03-01T12:00:00Z  core  enrolled"
