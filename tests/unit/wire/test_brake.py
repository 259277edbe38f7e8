"""A brake as JSON: all faults together, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.brake import Brake
from agent.domain.errors import InvalidDocument
from agent.wire.brake import decode_brake, encode_brake
from tests.unit.domain.builders import NOW, after


def faults(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocument) as caught:
        decode_brake(document, NOW)
    return [(fault.path, fault.message) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("document", "expires_at"),
    [
        ({"kind": "k", "reason": "r"}, None),
        ({"labels": {"a": "b"}, "reason": " r ", "for_s": 60}, after(60)),
        ({"kind": "k", "labels": {}, "reason": "r", "until": "2026-03-01T13:00:00Z"}, after(3600)),
    ],
)
def test_what_is_taken(document: dict[str, Any], expires_at: Any) -> None:
    values = decode_brake(document, NOW)
    assert (values["expires_at"], values["reason"]) == (expires_at, "r")
    assert values["elapses"] is ("for_s" in document)
    brake = Brake(id=3, by="ann", created_at=NOW, **values)
    shown = encode_brake(brake)
    assert (shown["id"], shown["kind"], shown["by"]) == (3, document.get("kind"), "ann")
    assert shown["created_at"] == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ([], [""]),
        ({}, ["reason", "kind"]),
        ({"kind": "K!", "reason": "", "for_s": 0, "x": 1}, ["kind", "for_s", "x", "reason"]),
        ({"labels": {}, "reason": "r"}, ["kind"]),
        ({"labels": {"a": 1}, "reason": "r"}, ["labels"]),
        ({"kind": "k", "reason": "r" * 501}, ["reason"]),
        ({"kind": "k", "reason": "r", "for_s": 9, "until": "2026-03-02T00:00:00Z"}, ["until"]),
        ({"kind": "k", "reason": "r", "until": "2026-03-01T12:00:00Z"}, ["until"]),
        ({"kind": "k", "reason": "r", "until": "tomorrow"}, ["until"]),
    ],
)
def test_what_is_refused_with_all_its_faults(document: Any, paths: list[str]) -> None:
    assert [path for path, _ in faults(document)] == paths
