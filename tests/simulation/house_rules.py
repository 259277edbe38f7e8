"""The rules of a simulated core: an action says in its metadata which of them it meets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.core.rules.verdict import Result, Verdict


class HouseRules:
    """`agent.core.rules.verdict.Rules`; nothing in them depends on when they are asked."""

    def judge(self, action: Mapping[str, Any], node: Mapping[str, Any]) -> Verdict:
        """What the metadata's `rule` names, else everything is allowed."""
        name, _, value = str((action.get("metadata") or {}).get("rule", "")).partition(":")
        match name:
            case "ask":
                return Verdict(result=Result.REQUIRE_APPROVAL, rule=name)
            case "suppress":
                return Verdict(result=Result.SUPPRESS, rule=name)
            case "delay":
                return Verdict(result=Result.SCHEDULE, rule=name, delay_s=int(value))
        return Verdict()
