"""Signed links: a yes or a no that can be sent by chat or mail, to somebody without a token.

The link itself is the authority, lent by the person who made it: it names the question, its
digest, the answer, the names and the end of its time, under an HMAC with a secret that all `cored`s
of one database share. It works once, since the question is decided then; it is worth nothing once
its maker may not approve any more, or what is asked has become something else.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import insert, or_, select
from sqlalchemy.engine import Connection

from agent.core.approvals.deciding import Answer
from agent.core.occasion import Occasion
from agent.core.people.principal import Role
from agent.core.store.locks import serialize
from agent.core.store.schema import api_tokens, meta
from agent.domain.definition import ApprovalState
from agent.domain.errors import Refused
from agent.domain.instants import format_instant, from_us, to_us
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed
from agent.wire.strict_json import encode

TTL_S_MIN, TTL_S_DEFAULT, TTL_S_MAX = 60, 86_400.0, 30 * 86_400.0
TOKEN_CHARS_MAX = 2048
SECRET_KEY = "approval_link_secret"  # noqa: S105  (the name of a row, not a secret)
_MAY_APPROVE = [role.value for role in (Role.APPROVER, Role.ADMIN)]
_BODY = {"ttl_s": Field(f.number(TTL_S_MIN, TTL_S_MAX)), "for": Field(f.text(128))}


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link says; short names, since it has to fit into a line of a mail."""

    a: str  # the approval
    d: str  # its digest
    v: str  # approved or rejected
    m: str  # who made the link
    n: str | None = None  # for whom
    e: int  # when it ends, microseconds since 1970

    @property
    def expires_at(self) -> datetime:
        """When it ends."""
        return from_us(self.e)

    @property
    def acts_as(self) -> str:
        """Who is recorded: the maker, or whom the maker gave it to."""
        return self.m if self.n is None else f"link:{self.n}"

    def answer(self, reason: str | None) -> Answer:
        """The answer that the link stands for."""
        return Answer(
            state=ApprovalState(self.v),
            by=self.acts_as,
            authority=self.m,
            reason=reason,
            digest=self.d,
            via="link",
        )


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants a link for."""

    ttl_s: float = TTL_S_DEFAULT
    name: str | None = None


def read_order(document: Any) -> Order:
    """Raises `InvalidDocument` with every fault."""
    values = read_closed(document, _BODY)
    return Order(values.get("ttl_s", TTL_S_DEFAULT), values.get("for"))


def claim_for(
    row: Any, order: Order, maker: str, state: ApprovalState, occasion: Occasion
) -> Claim:
    """The claim of a new link about this question; it ends with the question at the latest."""
    ends = occasion.now + timedelta(seconds=order.ttl_s)
    if row.expires_at is not None:
        ends = min(ends, row.expires_at)
    return Claim(a=row.id, d=row.digest, v=state.value, m=maker, n=order.name, e=to_us(ends))


def seal(claim: Claim, secret: str) -> str:
    """The link's own part of its address."""
    body = encode({k: v for k, v in msgspec.structs.asdict(claim).items() if v is not None})
    return f"{_text(body)}.{_text(_mac(body, secret))}"


def unseal(token: str, secret: str | None, now: datetime) -> Claim:
    """What a link says, if it is one of ours. Raises `Refused`: `not_found`, `gone`."""
    body, mac = _parts(token)
    if not secret:
        raise _not_ours()  # none was ever made; an empty secret is one that everybody knows
    if not hmac.compare_digest(mac, _mac(body, secret)):
        raise _not_ours()
    claim = msgspec.json.decode(body, type=Claim)
    if claim.expires_at <= now:
        at = format_instant(claim.expires_at)
        raise Refused("gone", f"this link ended at {at}; ask for another")
    return claim


def shared_secret(connection: Connection, occasion: Occasion) -> str:
    """The secret; made by whoever needs it first. In a write transaction."""
    found = known_secret(connection)
    if found is None:
        serialize(connection, SECRET_KEY)
        found = known_secret(connection)
    if found is None:
        found = occasion.new_secret()
        connection.execute(insert(meta), [{"key": SECRET_KEY, "value": found}])
    return found


def known_secret(connection: Connection) -> str | None:
    """The secret, or None where no link was ever made."""
    found: str | None = connection.execute(
        select(meta.c.value).where(meta.c.key == SECRET_KEY)
    ).scalar()
    return found


def require_maker(connection: Connection, claim: Claim, now: datetime) -> None:
    """Raise `Refused` (`forbidden`) where the maker may not approve any more."""
    standing = (
        select(api_tokens.c.id)
        .where(
            api_tokens.c.name == claim.m,
            api_tokens.c.role.in_(_MAY_APPROVE),
            api_tokens.c.revoked_at.is_(None),
            or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > now),
        )
        .limit(1)
    )
    if connection.execute(standing).first() is None:
        raise Refused("forbidden", f"{claim.m!r}, who made this link, may not approve any more")


def _parts(token: str) -> tuple[bytes, bytes]:
    if len(token) > TOKEN_CHARS_MAX or not token.isascii():
        raise _not_ours()
    body, _, mac = token.partition(".")
    try:
        return _bytes(body), _bytes(mac)
    except (NotBase64, ValueError):
        raise _not_ours() from None


def _not_ours() -> Refused:
    return Refused(
        "not_found", "this is no link of this core; was it cut short where it was copied from?"
    )


def _mac(body: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), b"approval link\n" + body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
