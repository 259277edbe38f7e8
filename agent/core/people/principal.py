"""Who asks, and what the role allows. Pure.

The roles are a ladder: each may do all that the one before may.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.domain.errors import Refused


class Role(StrEnum):
    """What a token is for, weakest first."""

    VIEWER = "viewer"  # looks
    OPERATOR = "operator"  # dispatches, cancels, nudges, freezes
    APPROVER = "approver"  # decides what waits for a person
    ADMIN = "admin"  # nodes' identities, tokens, rules, webhooks


_LADDER = list(Role)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated person or program; `name` is what records and audit say."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether everything that `role` may do is allowed."""
        return _LADDER.index(self.role) >= _LADDER.index(role)

    def require(self, role: Role) -> None:
        """Raise `Refused` (403) unless allowed."""
        if not self.may(role):
            raise Refused(
                "forbidden",
                f"this needs the role {role.value}; the token of {self.name!r} has "
                f"{self.role.value}",
            )


CORE = Principal("core", Role.ADMIN)
"""The core itself, where a rule or a timer acts."""
