"""Conditions of YAML rules: combination, fields, what a missing one means, order of the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.rules.verdict import Result
from agent.domain.definition import RiskLevel
from agent.domain.errors import InvalidDocument
from tests.unit.core.rules.conftest import Load, rule, scene

ACTION = {
    "kind": "backup",
    "id": "a-1",
    "metadata": {"priority": "low", "n": 3, "when": "2026-01-15T13:00:00+01:00"},
    "payload": {"steps": [{"name": "first"}, {"name": "second"}], "example.com/x": 1},
    "labels": {"env": "prod"},
    "created_at": "2026-01-15T12:00:00Z",
}
NODE = {"id": "web-1", "labels": {"role": "web", "example.com/zone": "a"}, "silent": False}


def matches(load: Load, condition: str, action: Any = ACTION, node: Any = NODE) -> bool:
    return load(a_yaml=rule(condition)).judge(scene(action, node)).result is Result.SUPPRESS


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("{field: action.kind, eq: backup}", True),
        ("{field: action.action_id, eq: a-1}", True),
        ("{field: action.metadata.n, gt: 2, lt: 4}", True),
        ("{field: action.metadata.n, gt: 2, lt: 3}", False),
        ("{field: action.metadata.when, lte: 2026-01-15T12:00:00Z}", True),
        ("{field: now, gte: 2026-01-15T12:00:00Z}", True),
        ("{field: now, gt: 2026-01-15T12:00:00Z}", False),
        ("{field: 'action.payload.steps[1].name', eq: second}", True),
        ("{field: 'action.payload.steps[2].name', eq: second}", False),
        ("""{field: 'action.payload["example.com/x"]', eq: 1}""", True),
        ("""{field: 'node.labels["example.com/zone"]', in: [a, b]}""", True),
        ("{field: node.labels.role, matches: '^web$'}", True),
        ("{field: node.silent, eq: false}", True),
        ("{field: action.labels, contains: env}", True),
        ("{any: [{field: action.kind, eq: x}, {field: action.kind, eq: backup}]}", True),
        ("{any: [{field: action.kind, eq: x}, {field: action.kind, eq: y}]}", False),
        ("{all: [{field: action.kind, eq: backup}, {field: node.id, eq: web-2}]}", False),
        ("{all: [{not: {field: node.id, eq: x}}, {any: ['1 == 2', 'true']}]}", True),
        # Of what is missing every comparison is false; `not` turns that around.
        ("{field: action.metadata.missing, eq: 1}", False),
        ("{field: action.metadata.missing, ne: 1}", False),
        ("{not: {field: action.metadata.missing, eq: 1}}", True),
        ("{field: action.metadata.missing.deeper, eq: 1}", False),
        ("{field: action.kind.deeper, eq: 1}", False),
        ("'action.metadata.missing == 1'", False),
        ("'!(action.metadata.missing == 1)'", False),
        ("{not: 'action.metadata.missing == 1'}", True),
        ("'!has(action.metadata.missing)'", True),
        ("""'now >= timestamp("2026-01-15T12:00:00Z")'""", True),
        ("""'timestamp(action.metadata.when) == now'""", True),
        ("""'action.payload.steps.exists(s, s.name == "second")'""", True),
        ("""'node.labels["example.com/zone"] == "a"'""", True),
        ("""'node.labels.role.matches("^w.b$")'""", True),
        ("'action.payload.steps[7].name == \"x\"'", False),
    ],
)
def test_conditions(load: Load, condition: str, expected: bool) -> None:
    assert matches(load, condition) is expected


trees = st.recursive(
    st.booleans(),
    lambda inner: st.tuples(st.sampled_from(["all", "any"]), st.lists(inner, min_size=1))
    | st.tuples(st.just("not"), inner),
    max_leaves=8,
)  # fmt: skip


@given(trees)
def test_combinations_are_boolean_algebra(tree: Any) -> None:
    from agent.core.rules.conditions import Reader
    from agent.core.rules.yaml_marks import Marked

    def written(node: Any) -> Any:
        if isinstance(node, bool):
            return {"field": "action.kind", "eq": "backup" if node else "x"}
        word, parts = node
        return {word: written(parts) if word == "not" else [written(part) for part in parts]}

    def value(node: Any) -> bool:
        if isinstance(node, bool):
            return node
        word, parts = node
        return (
            not value(parts) if word == "not" else {"all": all, "any": any}[word](map(value, parts))
        )

    document = Marked()
    condition = Reader(document).read(written(tree), ())
    assert not document.faults
    assert (condition(scene(ACTION)) is None) == value(tree)


@pytest.mark.parametrize(
    "condition",
    [
        "{field: action.metadata.priority, gt: 3}",
        "{field: action.metadata.n, starts_with: x}",
        "'action.metadata.priority > 3'",
        "'1 / (action.metadata.n - 3) == 1'",
        "'9223372036854775807 + action.metadata.n > 0'",
        "'action.metadata.n'",
        "'timestamp(action.metadata.priority) < now'",
        "{not: 'action.metadata.priority > 3'}",
    ],
)
def test_what_cannot_be_answered_refuses_the_dispatch(load: Load, condition: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        matches(load, condition)
    (fault,) = caught.value.faults
    assert "'r' (a.yaml:2) cannot be answered" in fault.message


def test_the_first_that_matches_decides(load: Load) -> None:
    book = load(
        b_yaml="""
rules:
  - {name: last, condition: 'true', action: {type: suppress}}
  - {name: idle, priority: 1, enabled: false, condition: 'true', action: {type: suppress}}
  - {name: second, priority: 5, condition: 'action.kind == "x"', action: {type: allow}}
""",
        a_cel="""
// priority: 5
action.kind == "y" ? require_approval("why", "dangerous") : allow()
// enabled: false
true ? suppress() : allow()
""",
    )
    assert [rule.name for rule in book.rules] == ["idle", "a.cel#1", "second", "a.cel#2", "last"]
    assert book.judge(scene({"kind": "x"})).rule == "second"
    verdict = book.judge(scene({"kind": "y"}))
    assert (verdict.result, verdict.reason) == (Result.REQUIRE_APPROVAL, "why")
    assert verdict.risk_level is RiskLevel.DANGEROUS
    assert book.judge(scene({"kind": "z"})).rule == "last"
    told = [
        (asked.rule.name, asked.finding and asked.finding.why)
        for asked in book.explain(scene({"kind": "z"}))
    ]
    assert told == [
        ("a.cel#1", "it comes to allow()"),
        ("second", "'action.kind == \"x\"' is false"),
        ("last", "its condition holds"),
    ]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("{type: deduplicate, ttl_seconds: 60}", {"ttl_s": 60}),
        ("{type: deduplicate}", {"ttl_s": None}),
        ("{type: auto_approve, min_confidence: 0.95}", {"min_confidence": 0.95}),
        ("{type: require_approval, reason: r, risk_level: guarded}", {"reason": "r"}),
        ("{type: allow, risk_level: guarded}", {"risk_level": RiskLevel.GUARDED}),
        ("{type: schedule, delay_seconds: 1}", {"delay_s": 1}),
    ],
)
def test_results_and_their_parameters(load: Load, action: str, expected: dict[str, Any]) -> None:
    verdict = load(a_yaml=rule("'true'", action)).judge(scene())
    assert verdict.rule == "r"
    assert {name: getattr(verdict, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("deduplicate()", {"result": "deduplicate"}),
        ("deduplicate(60)", {"ttl_s": 60}),
        ("auto_approve(0.95)", {"min_confidence": 0.95}),
        ("allow('guarded')", {"risk_level": "guarded", "result": "allow"}),
        ("schedule(60 * action.metadata.n)", {"delay_s": 180}),
        ("schedule(size(action.payload.steps) * 10, 'why')", {"delay_s": 20, "reason": "why"}),
        ("suppress()", {"result": "suppress"}),
        ("allow()", {"rule": None}),
        ("schedule(action.metadata.missing)", {"rule": None}),
    ],
)
def test_results_in_cel(load: Load, call: str, expected: dict[str, Any]) -> None:
    verdict = load(a_cel=f"true ? {call} : allow()").judge(scene(ACTION))
    assert {name: getattr(verdict, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "schedule(action.metadata.n * 1000000)",
        "schedule(action.metadata.n - 3)",
        "schedule(action.metadata.priority)",
        "require_approval('r', action.metadata.priority)",
        "action.metadata.n == 3 ? true : allow()",
        "{'call': 'exec', 'arguments': []} == {} ? suppress() : {'call': 'exec', 'arguments': []}",
        "action.metadata.n == 4 ? allow() : action.metadata",
    ],
)
def test_a_computed_one_out_of_bounds_refuses_the_dispatch(load: Load, text: str) -> None:
    with pytest.raises(InvalidDocument, match=r"a\.cel:1"):
        load(a_cel=text if ":" in text else f"true ? {text} : allow()").judge(scene(ACTION))


def test_data_is_never_taken_for_a_decision(load: Load) -> None:
    """Whoever dispatches must not write the verdict, whatever an expression comes to."""
    book = load(a_cel="action.kind == 'x' ? suppress() : action.payload")
    for name in ("call", "0", "schedule"):
        payload = {name: "auto_approve", "arguments": [], "1": []}
        with pytest.raises(InvalidDocument, match="it gives"):
            book.judge(scene({"kind": "y", "payload": payload}))


@pytest.mark.parametrize("call", ["string(action.metadata)", 'now.getHours("Europe/Berlin")'])
def test_a_call_that_does_not_fit_says_so(load: Load, call: str) -> None:
    with pytest.raises(InvalidDocument, match=r"(string|getHours)\(\) does not take what it is"):
        load(a_yaml=rule(f"'{call} == 3'")).judge(scene(ACTION))
