"""How a node comes in: a single-use token becomes a credential (DESIGN §6).

Unknown, used and expired tokens get the same answer; the log and the event know which it was. An
unbound token can only bring in a new node: taking over a known one needs a token made for it.
The first use of a credential revokes every other one of that node.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.nodes.decommission import bring_back
from agent.core.nodes.stream import ask_for_state
from agent.core.occasion import Occasion
from agent.core.store.locks import lock_agent, serialize
from agent.core.store.notices import announce
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, credentials, enrollment_tokens
from agent.core.timers import TimerKind
from agent.core.tokens import digest_of, matches
from agent.core.wakeups import credential_topic
from agent.domain.errors import Refused, shown
from agent.domain.ids import is_id
from agent.wire.messages import Enroll, Enrolled

TTL_S_DEFAULT = 3600.0
TTL_S_MAX = 30 * 86400.0
NONCE_CHARS_MAX = 128
UNUSED_MAX = 8  # credentials of one token that nobody has used yet: one per lost answer
_RESERVED = frozenset({"enroll", "freeze", "freezes", "thaw", "nudge"})  # paths of the API


class EnrolmentRefused(Refused):
    """The same words for every cause; `cause` is for the log."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(
            "unauthorized",
            "this enrolment token cannot be used; make another with: corectl enroll-token",
        )


def create_token(
    connection: Connection, occasion: Occasion, agent_id: str | None, ttl_s: float
) -> tuple[str, datetime]:
    """A new token, shown once, and when it expires. Raises `Refused`."""
    if agent_id is not None:
        _require_node_name(agent_id)
    token = occasion.new_secret()
    expires_at = occasion.now + timedelta(seconds=ttl_s)
    row = {
        "digest": digest_of(token),
        "agent_id": agent_id,
        "created_at": occasion.now,
        "expires_at": expires_at,
    }
    connection.execute(insert(enrollment_tokens), [row])
    return token, expires_at


def enroll(connection: Connection, occasion: Occasion, message: Enroll) -> Enrolled:
    """A credential for the token. Raises `EnrolmentRefused`, `Refused`; then nothing changed."""
    if not 1 <= len(message.nonce) <= NONCE_CHARS_MAX:
        raise Refused("bad_request", f"nonce must have 1 to {NONCE_CHARS_MAX} characters")
    serialize(connection, f"token:{digest_of(message.token)}")
    agent_id = _asked_name(occasion, _usable_token(connection, occasion, message), message)
    serialize(connection, f"node:{agent_id}")
    lock_agent(connection, agent_id)
    # Again: only now is nobody else about to use the token, take the name or end the node.
    token = _usable_token(connection, occasion, message)
    _require_free(connection, token, agent_id)
    if token.used_at is None:
        _bring_in(connection, occasion, agent_id, message)
    # What was issued before stays good until one of them is used: which answer got lost, this one
    # or an earlier one that a delayed duplicate of the request overtook, nobody here can know.
    _make_room(connection, token.digest)
    credential = occasion.new_secret()
    issued = {
        "digest": digest_of(credential),
        "agent_id": agent_id,
        "token_digest": token.digest,
        "issued_at": occasion.now,
    }
    connection.execute(insert(credentials), [issued])
    connection.execute(
        update(enrollment_tokens)
        .where(enrollment_tokens.c.digest == token.digest)
        .values(used_at=occasion.now, nonce_digest=digest_of(message.nonce), used_for=agent_id)
    )
    return Enrolled(agent_id=agent_id, credential=credential)


def _make_room(connection: Connection, token_digest: str) -> None:
    """Forget the oldest unused credentials of this token beyond the bound."""
    mine = credentials.c.token_digest == token_digest
    newest = select(credentials.c.digest).where(mine).order_by(credentials.c.issued_at.desc())
    too_old = connection.execute(newest.offset(UNUSED_MAX - 1)).scalars().all()
    if too_old:
        connection.execute(delete(credentials).where(credentials.c.digest.in_(too_old)))


def _usable_token(connection: Connection, occasion: Occasion, message: Enroll) -> AnyRow:
    token = _token_row(connection, digest_of(message.token))
    if token is None:
        raise EnrolmentRefused("unknown")
    if token.expires_at <= occasion.now:
        raise EnrolmentRefused("expired")
    if token.used_at is None:
        return token
    if not matches(digest_of(message.nonce), [token.nonce_digest]):
        raise EnrolmentRefused("used")
    used = select(credentials.c.used_at).where(
        credentials.c.token_digest == token.digest, credentials.c.used_at.is_not(None)
    )
    if connection.execute(used).first() is not None:
        raise EnrolmentRefused("its credential is in use")
    return token


def _token_row(connection: Connection, digest: str) -> AnyRow | None:
    found = select(enrollment_tokens).where(enrollment_tokens.c.digest == digest)
    return connection.execute(found).first()


def _asked_name(occasion: Occasion, token: AnyRow, message: Enroll) -> str:
    """Which node this is: the token's word, else the node's own, else a new one."""
    bound = token.agent_id or token.used_for
    if bound is not None:
        if message.agent_id not in (None, bound):
            raise Refused(
                "forbidden",
                f"this token is for the node {bound!r}, not for {shown(message.agent_id)}",
            )
        return str(bound)
    agent_id = message.agent_id or occasion.new_id()
    _require_node_name(agent_id)
    return agent_id


def _require_free(connection: Connection, token: AnyRow, agent_id: str) -> None:
    """An unbound token takes no name that is in use."""
    if token.agent_id is not None or token.used_for is not None:
        return
    known = connection.execute(select(agents.c.id).where(agents.c.id == agent_id)).first()
    if known is not None:
        raise Refused(
            "exists",
            f"there is a node {agent_id!r} already; to enroll it anew make a token for it: "
            f"corectl enroll-token --node {agent_id}",
        )


def _require_node_name(agent_id: str) -> None:
    if not is_id(agent_id) or agent_id in _RESERVED:
        raise Refused(
            "bad_request",
            f"{shown(agent_id)} cannot name a node: 1–128 of A–Z a–z 0–9 . _ : @ -, first a "
            "letter or digit",
        )


def _bring_in(connection: Connection, occasion: Occasion, agent_id: str, message: Enroll) -> None:
    known = connection.execute(select(agents).where(agents.c.id == agent_id)).first()
    if known is None:
        row = {
            "id": agent_id,
            "enrolled_at": occasion.now,
            "stream_epoch": occasion.new_mark(),
            "acked_mark": occasion.new_mark(),
        }
        connection.execute(insert(agents), [row])
        timers.arm(connection, TimerKind.NODE_SILENT, agent_id, occasion.now)
    else:
        bring_back(connection, occasion, known)
    body = {"version": message.version[:64], "again": known is not None}
    journal.append(connection, occasion, agent_id, journal.ENROLLED, body=body)
    if known is not None:  # with whatever database: what it still has, only its state tells
        ask_for_state(connection, occasion, agent_id, by="core", reason="enrolled anew")


_USE = (
    update(credentials)
    .where(credentials.c.digest == bindparam("b_digest"))
    .values(used_at=bindparam("b_now"))
    .returning(credentials.c.digest)
)
_REVOKE_OTHERS = delete(credentials).where(
    credentials.c.agent_id == bindparam("b_agent"), credentials.c.digest != bindparam("b_digest")
)


def first_use(connection: Connection, occasion: Occasion, digest: str, agent_id: str) -> bool:
    """The credential works: from now on it is the only one of its node.

    False, and nothing changed, if the first use of another one has revoked it meanwhile.
    """
    lock_agent(connection, agent_id)
    used = connection.execute(_USE, {"b_digest": digest, "b_now": occasion.now})
    if used.first() is None:
        return False
    connection.execute(_REVOKE_OTHERS, {"b_agent": agent_id, "b_digest": digest})
    announce(connection, [credential_topic(agent_id)])  # the others are revoked by that
    return True
