"""All rules of a core, in the order in which they are asked. Immutable; any thread may ask.

Ascending priority, then file, then position; the first that matches decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.rules.rule import Finding, Rule, RuleFailed, Scene
from agent.core.rules.verdict import Verdict
from agent.domain.errors import Fault, InvalidDocument


@dataclass(frozen=True, slots=True)
class Asked:
    """One rule that was asked, and what it found; `failed`: why it could not be answered."""

    rule: Rule
    finding: Finding | None = None
    failed: str | None = None


class RuleBook:
    """The rules; `digest` is the same wherever the files are the same."""

    def __init__(self, rules: Sequence[Rule] = (), digest: str = "") -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.priority))  # stable: file, position
        self.digest = digest
        self._asked = tuple(rule for rule in self.rules if rule.is_enabled)

    def judge(self, scene: Scene) -> Verdict:
        """The verdict on one dispatch. Raises `InvalidDocument` where a rule cannot be answered."""
        for rule in self._asked:
            try:
                finding = rule.find(scene)
            except RuleFailed as error:
                raise InvalidDocument([_fault(rule, str(error))]) from None
            if finding.verdict is not None:
                return finding.verdict
        return Verdict()

    def explain(self, scene: Scene) -> list[Asked]:
        """The rules that `judge` asks, with what each found; it ends where `judge` would."""
        trail: list[Asked] = []
        for rule in self._asked:
            try:
                finding = rule.find(scene)
            except RuleFailed as error:
                return [*trail, Asked(rule, failed=str(error))]
            trail.append(Asked(rule, finding))
            if finding.verdict is not None:
                break
        return trail


def _fault(rule: Rule, why: str) -> Fault:
    return Fault("rules", f"the rule {rule.name!r} ({rule.place}) cannot be answered: {why}")
