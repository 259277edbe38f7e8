"""Who may go without a person: the whole space, against the sentences of DESIGN §7."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from agent.domain.approval import (
    ApprovalDecision,
    ApprovalMode,
    ApprovalPolicy,
    RuleWord,
    decide_approval,
    effective_risk,
    is_proposal,
)
from agent.domain.definition import ApprovalState, Requester, RiskLevel
from agent.domain.errors import Refused
from tests.unit.domain.builders import NOW, make_definition

DIGEST = "d" * 64
UNTIL = NOW + timedelta(days=7)
LEVELS = [None, *RiskLevel]
SAFE, GUARDED, DANGEROUS = RiskLevel
RECOMMEND, SUPERVISED, AUTONOMOUS = ApprovalMode
RULES = {
    "none": None,
    "delays": RuleWord(name="r"),
    "requires": RuleWord(name="r", requires=True, reason="prod"),
    "approves": RuleWord(name="r", approves=True),
    "approves sure ones": RuleWord(name="r", approves=True, min_confidence=0.95),
}


def decide(
    mode: ApprovalMode = SUPERVISED,
    *,
    rule: RuleWord | None = None,
    manifest: RiskLevel | None = None,
    approver: str | None = None,
    four_eyes: bool = False,
    **fields: Any,
) -> ApprovalDecision:
    return decide_approval(
        make_definition(**fields),
        policy=ApprovalPolicy(mode=mode, four_eyes=four_eyes),
        now=NOW,
        digest=DIGEST,
        manifest_risk=manifest,
        rule=rule,
        approver=approver,
        expires_at=UNTIL,
    )


def test_the_strictest_level_counts_wherever_it_stands() -> None:
    for levels in product(LEVELS, repeat=3):
        given = [level for level in levels if level is not None]
        found = effective_risk(*levels)
        for word in (DANGEROUS, GUARDED, SAFE):
            if word in given:
                assert found is word
                break
        else:
            assert found is None


def test_every_combination_says_what_the_sentences_say() -> None:
    """The policy once more, in the words of the design, over everything it looks at."""
    seen = 0
    for mode, own, manifest, required, eligible, confidence, proposer, word in product(
        ApprovalMode, LEVELS, LEVELS, [None, False, True], [None, False, True],
        [None, 0.0, 0.89, 0.9, 0.95, 1.0], [None, "supervisor"], RULES,
    ):  # fmt: skip
        rule = RULES[word]
        found = decide(
            mode, rule=rule, manifest=manifest, risk_level=own, approval_required=required,
            autonomous_eligible=eligible, confidence=confidence, proposed_by=proposer,
        )  # fmt: skip
        risk = effective_risk(own, manifest)
        proposal = confidence is not None or proposer is not None
        asked = 0.95 if word == "approves sure ones" else 0.9
        sure = (confidence or 0.0) >= asked
        matching = word.startswith("approves")
        may = risk is SAFE or (risk is GUARDED and bool(eligible))
        policy = proposal and may and sure and matching
        waits = (
            risk is DANGEROUS  # always
            or required is True  # in every mode
            or word == "requires"
            or mode is RECOMMEND  # everything, even safe
            or (risk is GUARDED and not (mode is AUTONOMOUS and policy))
            or (matching and proposal and not sure)  # the rule is the policy for proposals
        )
        case = f"{mode} {own} {manifest} {required} {eligible} {confidence} {proposer} {word}"
        assert found.needed == waits, f"{case}: {found.why}"
        assert found.risk is risk
        if waits:
            assert found.record is not None, case
            assert found.record.state is ApprovalState.PENDING, case
            assert (found.record.digest, found.record.expires_at) == (DIGEST, UNTIL), case
        elif policy:
            assert found.record is not None, case
            assert (found.record.state, found.record.by) == (ApprovalState.APPROVED, "policy:r")
            assert (found.record.at, found.record.digest) == (NOW, DIGEST), case
        else:
            assert found.record is None, case
        seen += 1
    assert seen > 10_000


@pytest.mark.parametrize("mode", ApprovalMode)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_dangerous_always_waits_for_a_person(mode: ApprovalMode, rule: RuleWord | None) -> None:
    for own, manifest in [(DANGEROUS, None), (None, DANGEROUS), (SAFE, DANGEROUS)]:
        found = decide(
            mode, rule=rule, manifest=manifest, risk_level=own, confidence=1.0,
            autonomous_eligible=True, approval_required=False,
        )  # fmt: skip
        assert found.needed
        assert "dangerous" in found.why


def test_a_rule_can_raise_the_risk_and_nothing_can_lower_it() -> None:
    raising = RuleWord(name="r", risk_level=GUARDED)
    assert decide(rule=raising, risk_level=SAFE).needed
    assert decide(rule=raising, risk_level=SAFE).risk is GUARDED
    lowering = RuleWord(name="r", approves=True, risk_level=SAFE)
    assert decide(rule=lowering, manifest=GUARDED, confidence=1.0).needed


def test_only_a_proposal_is_approved_by_a_rule() -> None:
    rule = RuleWord(name="r", approves=True)
    assert is_proposal(make_definition(requester=Requester.SPOOL))
    lax = ApprovalPolicy(mode=AUTONOMOUS, min_confidence=0.0)
    asked = make_definition(risk_level=GUARDED, autonomous_eligible=True)
    found = decide_approval(asked, policy=lax, now=NOW, digest=DIGEST, rule=rule)
    assert found.needed
    assert "proposal" in found.why
    spooled = make_definition(
        risk_level=GUARDED, autonomous_eligible=True, requester=Requester.SPOOL
    )
    assert not decide_approval(spooled, policy=lax, now=NOW, digest=DIGEST, rule=rule).needed


def test_an_approver_may_dispatch_and_approve_in_one_step() -> None:
    found = decide(risk_level=DANGEROUS, approver="ann")
    assert not found.needed
    assert found.record is not None
    assert (found.record.by, found.record.digest) == ("ann", DIGEST)
    assert decide(risk_level=SAFE, approver="ann").record is None, "nothing was to be approved"


def test_four_eyes_keep_both_steps_apart() -> None:
    with pytest.raises(Refused, match="four eyes") as caught:
        decide(risk_level=GUARDED, approver="ann", four_eyes=True)
    assert caught.value.code == "four_eyes"
    assert not decide(risk_level=SAFE, approver="ann", four_eyes=True).needed


def test_it_says_why() -> None:
    assert "guarded" in decide(risk_level=GUARDED).why
    assert "prod" in decide(rule=RULES["requires"]).why
    assert "approval_required" in decide(approval_required=True).why
    low = decide(AUTONOMOUS, rule=RULES["approves"], risk_level=SAFE, confidence=0.5)
    assert "0.5 where 0.9" in low.why
    none = decide(AUTONOMOUS, risk_level=GUARDED)
    assert "no auto_approve rule" in none.why
