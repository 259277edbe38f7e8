"""Bad rule files: every fault of all files at once, each with file, line and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.rules.loading import FILE_BYTES_MAX, FILES_MAX, RULES_MAX, load_rules
from agent.core.rules.operators import OPERATORS
from agent.core.rules.verdict import Result
from agent.domain.errors import InvalidDocument
from tests.unit.core.rules.conftest import Faults, rule


def test_all_at_once(faults: Faults) -> None:
    told = faults(
        a_yaml="""\
rules:
  - name: one
    priorty: 3
    condition:
      any:
        - field: action.metdata
          eq: x
        - field: nod.id
          equals: y
    action: {type: shedule, delay_seconds: 5}
  - name: one
    condition: {field: action.kind, gt: [1], in: x}
    action: {type: schedule, ttl_seconds: 5}
  - just text
""",
        b_cel="action.kind == 'x' ? schedul(5) : allow()\n\nnope ? suppress() : alow()\n",
    )
    assert told == [
        "a.yaml:3: 'priorty' is not known here; did you mean 'priority'?",
        "a.yaml:6: an action has no 'metdata'; did you mean 'metadata'?",
        "a.yaml:8: there is no 'nod'; did you mean 'node'?",
        f"a.yaml:9: 'equals' is no operator; there are {', '.join(OPERATORS)}",
        f"a.yaml:10: type 'shedule' is not one of {', '.join(Result)}; did you mean 'schedule'?",
        "a.yaml:12: gt: gt compares numbers, texts or dates, not [1]",
        "a.yaml:12: in: in takes a list of 1 to 1000 values, not 'x'",
        "a.yaml:13: 'ttl_seconds' is not known here; did you mean 'delay_seconds'?",
        "a.yaml:13: delay_seconds is missing",
        "a.yaml:14: a rule is a mapping, not 'just text'",
        "b.cel:1: there is no function 'schedul'; did you mean 'schedule'?",
        "b.cel:3: there is no function 'alow'; did you mean 'allow'?",
        "b.cel:3: there is no variable 'nope'; did you mean 'node'?",
        "a.yaml:11: the name 'one' is taken by a.yaml:2",
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("rules: [", 1, "expected the node content"),
        ("rules:\n  - name: a\n   x: b", 3, "but found"),
        ("a: &x 1", 1, "anchors"),
        ("a: *x", 1, "aliases"),
        ("rules: []\nrules: []", 2, "stands twice"),
        ("rules: !!python/object:os.system []", 1, "the tag"),
        ("rules: !mine []", 1, "the tag"),
        ("rules: []\n---\nrules: []", 2, "document"),
        ("[" * 40, 1, "nested deeper"),
        ("- a", 1, "a mapping with rules:"),
        ("rulez: []", 1, "a mapping with rules:"),
        ("rules: {a: 1}", 1, "must be a list"),
        ("rules: []\nextra: 1", 2, "'extra' is not known here"),
        ("a: \x01", 1, "special characters"),
        ("{[a]: 1}", 1, "a key must be a text"),
        ("? {a: 1}\n: 2", 1, "a key must be a text"),
        ("rules:\n- name: a\n  enabled: yes", 3, "yes is ambiguous"),
        ("rules:\n- name: a\n  priority: 010", 3, "010 is ambiguous"),
        ("rules:\n- name: a\n  priority: 12:30", 3, "12:30 is ambiguous"),
        ("rules:\n- name: a\n  priority: 99999999999999999999", 3, "ambiguous"),
        ("rules:\n- name: a\n  priority: .inf", 3, "ambiguous"),
        ("rules:\n- name: a\n  description: 1e6", 3, "1e6 is ambiguous"),
        ("rules:\n- name: a\n  description: 08", 3, "08 is ambiguous"),
        ("rules:\n- name: a\n  description: 0o17", 3, "0o17 is ambiguous"),
        ("rules:\n- name: a\n  priority: !!binary aGk=", 3, "the tag"),
        ("rules:\n- name: a\n  <<: {b: 1}", 3, "'<<' is not known here"),
    ],
)
def test_yaml(faults: Faults, text: str, line: int, words: str) -> None:
    told = faults(a_yaml=text)
    assert any(one.startswith(f"a.yaml:{line}: ") and words in one for one in told), told


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("{}", "a condition has field, all, any or not"),
        ("{feild: action.kind, eq: x}", "did you mean 'field'?"),
        ("{field: action.kind}", "nothing is asked of the field"),
        ("{field: 3, eq: x}", "field must be a text"),
        ("{field: action..kind, eq: x}", "is no field"),
        ("{field: 'action.kind[', eq: x}", "is no field"),
        ("{field: node.label, eq: x}", "a node has no 'label'; did you mean 'labels'?"),
        ("{field: action.Kind, eq: x}", "did you mean 'kind'?"),
        ("{all: []}", "a list of 1 to 100"),
        ("{all: {a: 1}}", "a list of 1 to 100"),
        ("{all: ['true'], any: ['true']}", "exclude each other"),
        ("{not: 'true', eq: 3}", "does not stand beside not"),
        ("[1]", "must be an expression of CEL, or a mapping"),
        ("3", "must be an expression of CEL, or a mapping"),
        ("''", "there is no expression"),
        ("'action.kind =='", "Syntax error"),
        ("'action.kind = 3'", "write =="),
        ("'schedule(3)'", "has no place in a condition"),
        ("'action.metdata == 1'", "did you mean 'metadata'?"),
        ("'foo(1)'", "there is no function 'foo'"),
        ("'Foo{a: 1} == 1'", "there is no variable 'Foo'"),
        ("'action.kind.matches(action.kind)'", "takes one literal"),
        ("""'action.kind.matches("[")'""", "matches():"),
        (r"""'action.kind.matches("\\w{99}")'""", "repeat too much"),
        (r"""'"".matches("\\w{30}") || "".matches("\\w{30}")'""", "together they weigh 1800"),
        ("{field: action.kind, matches: '['}", "matches:"),
        ("{not: " * 14 + "'true'" + "}" * 14, "nested deeper than 12"),
    ],
)
def test_conditions(faults: Faults, condition: str, words: str) -> None:
    told = faults(a_yaml=rule(condition))
    assert any(one.startswith("a.yaml:3: ") and words in one for one in told), told


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("{}", "type is missing"),
        ("[]", "action: is a mapping"),
        ("{type: 3}", "type 3 is not one of"),
        ("{type: suppress, delay_seconds: 3}", "is not known here"),
        ("{type: deduplicate, ttl_seconds: 0}", "outside 1 to 604800"),
        ("{type: auto_approve, min_confidence: 2}", "outside 0 to 1"),
        ("{type: require_approval, risk_level: high}", "is not one of safe, guarded, dangerous"),
        ("{type: suppress, reason: [1]}", "must be text"),
    ],
)
def test_actions(faults: Faults, action: str, words: str) -> None:
    told = faults(a_yaml=rule("'true'", action))
    assert any(one.startswith("a.yaml:4: ") and words in one for one in told), told


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("true", 1, "decides nothing"),
        ("\n\n'abc\n", 3, "a text that begins here has no end"),
        ("true ? suppress() : #", 1, "has no place in CEL"),
        ("true ? suppress() allow()", 1, "Syntax error"),
        ("true ?\n suppress() :\n :", 3, "Syntax error"),
        ("true ? suppress( : allow()\n\ntrue ? allow() : allow()", 1, "Syntax error"),
        ("// prioriti: 3\ntrue ? suppress() : allow()", 1, "did you mean 'priority'?"),
        ("// priority: high\ntrue ? suppress() : allow()", 1, "priority must be a whole number"),
        ("// priority: 1\n// priority: 2\ntrue ? suppress() : allow()", 2, "stands twice"),
        ("// enabled: no\ntrue ? suppress() : allow()", 1, "enabled must be true or false"),
        ("// name: a\n\ntrue ? suppress() : allow()", 1, "'name' is not known here"),
        ("true ? suppress() : allow()\n\n// priority: 3\n", 3, "belongs to no expression"),
        ("[1].exists(x, x > 0) ? deduplicate(0) : allow()", 1, "ttl_seconds 0 is outside"),
        ("true ? require_approval('', 'high') : allow()", 1, "risk_level 'high' is not one of"),
        ("true ? suppress(1, 2) : allow()", 1, "takes at most 1"),
        ("[1].map(x, suppress()) == [] ? allow() : allow()", 1, "inside of all, exists"),
        ("true ? suppress() : allow()" + " " * 5000 + "+ 1", 1, "at most 4096"),
        ("(" * 30 + "true" + ")" * 30 + " ? suppress() : allow()", 1, "more than 24 brackets"),
        ("true ? " * 40 + "allow()" + " : suppress()" * 40, 1, "times ?; at most 32"),
        ("-" * 500 + "1 == 1 ? suppress() : allow()", 1, "parts; at most 400"),
        ("'a'+'a'+'a'+'a'+'a'+'a'+'a'+'a'+'a'+'a' == '' ? allow() : allow()", 1, "times +"),
        ("[1].all(a, [1].all(b, [1].all(c, true))) ? allow() : allow()", 1, "in one another"),
        ("[1].all(a, a + 1 > 0) ? suppress() : allow()", 1, "+ inside of all"),
        ("[''].all(a, a.matches('x')) ? suppress() : allow()", 1, "matches() inside"),
        ("[1].existsOne(a, true) ? suppress() : allow()", 1, "no function 'existsOne'"),
        ("x.all(a, true) ? suppress() : allow()", 1, "no variable 'x'"),
    ],
)
def test_cel(faults: Faults, text: str, line: int, words: str) -> None:
    told = faults(a_cel=text)
    assert any(one.startswith(f"a.cel:{line}: ") and words in one for one in told), told


def test_an_ambiguous_scalar_hides_no_other_fault(faults: Faults) -> None:
    text = (
        "rules:\n- name: 010\n  prioritty: 1\n  priority: 010\n  condition: 'true'\n"
        "  action: {type: schedule, delay_seconds: 604801}\n"
    )
    told = faults(a_yaml=text)
    assert [one.partition(": ")[0] for one in told] == [f"a.yaml:{line}" for line in (2, 3, 4, 6)]


def test_all_files_together_are_bounded(tmp_path: Path) -> None:
    text = "# " + "x" * 250_000 + "\n"
    for number in range(18):
        (tmp_path / f"{number}.yaml").write_text(text)
    with pytest.raises(InvalidDocument, match=r"bytes in all; at most 4194304"):
        load_rules(tmp_path)


def test_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="cannot be read: No such file"):
        load_rules(tmp_path / "none")
    (tmp_path / "big.yaml").write_text("#" * (FILE_BYTES_MAX + 1))
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "latin.cel").write_bytes(b"// a\n'\xe9' == 'x' ? suppress() : allow()")
    (tmp_path / "gone.yml").symlink_to("nowhere")
    with pytest.raises(InvalidDocument) as caught:
        load_rules(tmp_path)
    assert [str(fault) for fault in caught.value.faults] == [
        f"big.yaml: is larger than {FILE_BYTES_MAX} bytes",
        "dir.yaml: is not a plain file",
        "gone.yml: cannot be read: No such file or directory",
        "latin.cel:2: not UTF-8: byte 0xe9",
    ]


def test_how_many(tmp_path: Path) -> None:
    some = "true ? suppress() : allow()\n" * (RULES_MAX + 1)
    (tmp_path / "a.cel").write_text(some)
    with pytest.raises(InvalidDocument, match=f"{RULES_MAX + 1} rules in all"):
        load_rules(tmp_path)
    for number in range(FILES_MAX):
        (tmp_path / f"{number}.yaml").write_text("")
    with pytest.raises(InvalidDocument, match="rule files; at most"):
        load_rules(tmp_path)


def test_what_is_not_a_rule_file_is_left_alone(tmp_path: Path) -> None:
    for name in ("readme.md", ".a.yaml", "a.yaml~", "a.yaml.swp", "b.YAML"):
        (tmp_path / name).write_text("{[")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "windows.yml").write_bytes(
        b"\xef\xbb\xbf" + rule("'true'").replace("\n", "\r\n").encode()
    )
    assert [one.place for one in load_rules(tmp_path).rules] == ["windows.yml:2"]
