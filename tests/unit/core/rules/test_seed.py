"""Seed 003's rules exactly as printed there (CHECKLIST 35, 36)."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.rules.verdict import Result
from tests.unit.core.rules.conftest import Faults, Load, rule, scene

YAML = """\
rules:
  - name: delay-reminders
    priority: 10
    description: "Send reminder emails after a 1-hour delay"
    condition:
      field: action.action_type
      eq: "send_reminder"
    action:
      type: schedule
      delay_seconds: 3600

  - name: offpeak-batch-reports
    priority: 15
    description: "Delay batch reports by 6 hours to run off-peak"
    condition:
      all:
        - field: action.action_type
          eq: "generate_report"
        - field: action.metadata.priority
          eq: "low"
    action:
      type: schedule
      delay_seconds: 21600
"""
CEL = """\
// Delay reminders by 1 hour
action.action_type == "send_reminder" ? schedule(3600) : allow()

// Delay low-priority reports by 6 hours
action.action_type == "generate_report" && action.metadata.priority == "low" ? schedule(21600) : allow()
"""  # noqa: E501  (as printed)

CASES = [
    ({"kind": "send_reminder"}, 3600),
    ({"action_type": "send_reminder"}, 3600),
    ({"kind": "generate_report", "metadata": {"priority": "low"}}, 21600),
    ({"kind": "generate_report", "metadata": {"priority": "high"}}, None),
    ({"kind": "generate_report", "metadata": {}}, None),
    ({"kind": "generate_report"}, None),
    ({"kind": "another"}, None),
]


@pytest.mark.parametrize(("action", "delay_s"), CASES)
@pytest.mark.parametrize("files", [{"scheduled_yaml": YAML}, {"scheduled_cel": CEL}])
def test_the_rules_as_printed(
    load: Load, files: dict[str, str], action: dict[str, Any], delay_s: int | None
) -> None:
    verdict = load(**files).judge(scene(action))
    assert verdict.delay_s == delay_s
    assert verdict.result is (Result.SCHEDULE if delay_s else Result.ALLOW)
    assert (verdict.rule is None) == (delay_s is None)


@pytest.mark.parametrize(("action", "delay_s"), CASES)
def test_cel_as_a_condition(load: Load, action: dict[str, Any], delay_s: int | None) -> None:
    text = (
        rule(
            """'action.action_type == "send_reminder"'""",
            "{type: schedule, delay_seconds: 3600}",
        )
        + """\
  - name: reports
    condition: >
      action.action_type == "generate_report"
      && action.metadata.priority == "low"
    action: {type: schedule, delay_seconds: 21600}
"""
    )
    assert load(scheduled_yaml=text).judge(scene(action)).delay_s == delay_s


def test_what_a_rule_says_of_itself(load: Load) -> None:
    yaml, cel = load(a_yaml=YAML).rules, load(b_cel=CEL).rules
    assert [(rule.name, rule.priority, rule.place) for rule in yaml] == [
        ("delay-reminders", 10, "a.yaml:2"),
        ("offpeak-batch-reports", 15, "a.yaml:12"),
    ]
    reasons = [rule.description for rule in cel if rule.file == "b.cel"]
    assert reasons == ["Delay reminders by 1 hour", "Delay low-priority reports by 6 hours"]
    verdict = load(a_yaml=YAML).judge(scene({"kind": "send_reminder"}))
    assert verdict.reason == "Send reminder emails after a 1-hour delay"


@pytest.mark.parametrize("seconds", [1, 604_800])
def test_the_bounds_of_a_delay_are_within(load: Load, seconds: Any) -> None:
    text = f"true ? schedule({seconds}) : allow()"
    assert load(a_cel=text).judge(scene()).delay_s == seconds


@pytest.mark.parametrize("seconds", ["0", "604801", "-1", "1.5", '"1"', "true", "", "1, 2, 3"])
def test_a_literal_delay_out_of_bounds_fails_at_load(faults: Faults, seconds: Any) -> None:
    (told,) = faults(a_cel=f"// why\naction.id == 'x' ? schedule({seconds}) : allow()")
    assert told.startswith("a.cel:2: schedule()")


@pytest.mark.parametrize("seconds", ["0", "604801", "1.5", "'1'", "null", "true"])
def test_in_yaml_as_well(faults: Faults, seconds: Any) -> None:
    (told,) = faults(a_yaml=rule("'true'", f"{{type: schedule, delay_seconds: {seconds}}}"))
    assert told.startswith("a.yaml:4: delay_seconds")
