"""The digest that an approval is bound to: the same for the same content, wherever computed."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.errors import InvalidDocument
from agent.wire import strict_json
from agent.wire.canonical import canonical_json, digest_of, digest_of_document
from agent.wire.definition import decode_definition, encode_definition

# RFC 8785, appendix B: the bits of a double, and how JavaScript writes it.
NUMBERS = {
    5e-324: "5e-324", -5e-324: "-5e-324", 1.7976931348623157e308: "1.7976931348623157e+308",
    9007199254740992.0: "9007199254740992", 295147905179352830000.0: "295147905179352830000",
    9.999999999999997e22: "9.999999999999997e+22", 1e23: "1e+23",
    1.0000000000000001e23: "1.0000000000000001e+23", 999999999999999700000.0:
    "999999999999999700000", 999999999999999900000.0: "999999999999999900000", 1e21: "1e+21",
    9.999999999999997e-7: "9.999999999999997e-7", 0.000001: "0.000001",
    333333333.3333332: "333333333.3333332", 333333333.33333325: "333333333.33333325",
    0.0: "0", 10.0: "10", -1.5: "-1.5", 1e-7: "1e-7",
}  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_written_as_the_standard_has_them(number: float) -> None:
    assert canonical_json(number) == NUMBERS[number]
    assert canonical_json(-0.0) == "0"


def test_the_standards_own_example() -> None:
    text = (
        b'{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],'
        b'"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/",'
        b'"literals":[null,true,false]}'
    )
    assert canonical_json(strict_json.decode(text)) == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf16_code_units() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = msgspec.json.decode(canonical_json(dict.fromkeys(keys, 0)))
    assert list(found) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        canonical_json(float("nan"))


def test_large_integers_are_exact() -> None:
    assert canonical_json(2**63 - 1) == "9223372036854775807"
    assert canonical_json(2**53 + 1) != canonical_json(2**53)


def test_what_changes_without_the_content_is_left_out() -> None:
    base: dict[str, Any] = {
        "id": "a",
        "kind": "k",
        "payload": {"n": 1},
        "schedule": {"every": "1h"},
    }
    same: list[dict[str, Any]] = [
        {"revision": 9},
        {"should_be_executed": False},
        {"approval": {"state": "approved", "by": "ann"}},
        {"schedule": {"every": "1h", "paused": True, "paused_reason": "party"}},
    ]
    for change in same:
        assert digest_of_document(base | change) == digest_of_document(base)
    other: list[dict[str, Any]] = [
        {"payload": {"n": 2}}, {"kind": "l"}, {"node": "n"}, {"from_date": "2026-01-01T00:00:00Z"},
        {"schedule": {"every": "2h"}}, {"unknown": None},
    ]  # fmt: skip
    found = {digest_of_document(base | change) for change in other}
    assert len(found) == len(other)
    assert digest_of_document(base) not in found


def test_it_is_what_anybody_would_compute() -> None:
    document = {"kind": "k", "id": "a", "timeout_s": 10.0}
    plain = b'{"id":"a","kind":"k","timeout_s":10}'
    assert digest_of_document(document) == hashlib.sha256(plain).hexdigest()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8), json_values, max_size=4
)
dates = st.sampled_from(
    ["2026-01-15T12:00:00Z", "2026-01-15T12:00:00.5+02:00", "2026-01-15t12:00:00.123456789-09:30"]
)
schedules = st.sampled_from(
    [
        "every 5 minutes", {"every": "3 days and 4 hours", "jitter": "10s"},
        {"cron": "0 0 12 L * *", "timezone": "Europe/Berlin", "duration": "8 h"},
        {"at": "10:15 am", "catch_up": {"mode": "all", "max_age_s": 60}, "overlap": "queue"},
        {"interval": 60000}, {"date": "2026-02-01T00:00:00+01:00"}, {"after": "b", "delay": 90},
    ]
)  # fmt: skip
seconds = st.floats(1, 1000) | st.integers(1, 1000)
optional: dict[str, st.SearchStrategy[Any]] = {
    "payload": objects, "metadata": objects, "x_own": json_values, "x_other": json_values,
    "labels": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    "from_date": dates, "created_at": dates | st.floats(0, 2e9) | st.integers(0, 2 * 10**9),
    "app_names": st.lists(st.text(max_size=4), max_size=3), "timeout_s": seconds,
    "grace_s": seconds, "retry": st.fixed_dictionaries({}, optional={
        "max_attempts": st.integers(1, 9), "delay_s": seconds, "backoff": st.floats(1, 9),
    }),
    "on_restart": st.sampled_from(["rerun", "never"]), "dry_run": st.booleans(),
    "confidence": st.floats(0, 1), "approval_required": st.booleans(),
    "risk_level": st.sampled_from(["safe", "guarded", "dangerous"]),
    "rollback_reference": st.text(max_size=5) | objects, "schedule": schedules,
    "requires": st.just(["windows"]), "service": st.text(max_size=5),
}  # fmt: skip
documents = st.fixed_dictionaries({"id": st.just("a"), "kind": st.just("k")}, optional=optional)


@settings(max_examples=300, deadline=None)
@given(documents)
def test_it_survives_the_way_to_the_node_and_back(document: dict[str, Any]) -> None:
    """What the core stored and sent is what a node has, tells, and sends back to a core."""
    try:
        definition = decode_definition(document, owner="core")
    except InvalidDocument:
        return
    sent = strict_json.encode(encode_definition(definition))
    received = strict_json.decode(sent)
    assert digest_of_document(received) == digest_of(definition)
    again = decode_definition(received)
    assert digest_of(again) == digest_of(definition)
    assert digest_of_document(msgspec.json.decode(sent)) == digest_of(definition)
