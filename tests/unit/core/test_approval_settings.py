"""What `cored` can be told about approvals, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.settings import read_settings
from agent.domain.approval import ApprovalMode, ApprovalPolicy
from agent.domain.errors import InvalidDocument


def read(**environ: str) -> Any:
    return read_settings(
        {"state_dir": "/nowhere"}, {f"CORE_{k}": v for k, v in environ.items()}, None
    )


def test_the_defaults() -> None:
    found = read()
    assert found.approval_policy == ApprovalPolicy(mode=ApprovalMode.SUPERVISED, min_confidence=0.9)
    assert (found.approval_ttl_s, found.public_url) == (604_800, None)


def test_what_is_told() -> None:
    found = read(
        APPROVAL_MODE="autonomous", MIN_CONFIDENCE="0.95", FOUR_EYES="true", APPROVAL_TTL_S="60",
        PUBLIC_URL="https://core.example/",
    )  # fmt: skip
    assert found.approval_policy == ApprovalPolicy(
        mode=ApprovalMode.AUTONOMOUS, min_confidence=0.95, four_eyes=True
    )
    assert (found.approval_ttl_s, found.public_url) == (60, "https://core.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPROVAL_MODE", "superviced"), ("MIN_CONFIDENCE", "1.1"), ("MIN_CONFIDENCE", "nan"),
        ("MIN_CONFIDENCE", "much"), ("FOUR_EYES", "perhaps"), ("APPROVAL_TTL_S", "0"),
        ("APPROVAL_TTL_S", "inf"), ("PUBLIC_URL", "core.example"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read(**{name: value})
    [fault] = caught.value.faults
    assert fault.path == f"CORE_{name}"
