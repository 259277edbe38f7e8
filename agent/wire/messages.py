"""The node protocol's messages (DESIGN §6, docs/protocol.md), version 1.

Envelopes are Structs, decoded strictly in type and openly in members: a field that a newer side
adds is ignored. Items inside (definitions, events) stay plain values here and are decoded one by
one, so that a bad item is refused alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec

from agent.domain.errors import AgentError, Fault
from agent.wire import strict_json

PROTOCOL = 1
INSTANCE_HEADER = "Agent-Instance"
PROTOCOL_HEADER = "Agent-Protocol"
EVENTS_PER_PUSH_MAX = 500
STATE_PART_ACTIONS_MAX = 500
BODY_BYTES_MAX = 4 * 1024 * 1024

TRANSITION = "transition"
LOCAL_DEFINITION = "local_definition"
DEFINITION_APPLIED = "definition_applied"
DEFINITION_REFUSED = "definition_refused"
GAP = "gap"
UNREADABLE = "unreadable"

ERROR_FENCED = "fenced"
ERROR_FORKED = "forked"
ERROR_GAP = "gap"
ERROR_UNAUTHORIZED = "unauthorized"

SEND_STATE = "send_state"
FREEZE = "freeze"
THAW = "thaw"
REQUEST_TYPES = frozenset(
    {SEND_STATE, "cancel_local", "approve_local", "reject_local", FREEZE, THAW}
)


class Message(msgspec.Struct, kw_only=True, omit_defaults=False):
    """Base of the envelopes. `ITEMS` names the list whose items stand or fall alone."""

    ITEMS: ClassVar[str] = ""


class Enroll(Message):
    """`POST /v1/agents/enroll`.

    `nonce` (chosen by the node, kept until it has its credential) lets a node whose answer was
    lost ask again with the same token.
    """

    token: str
    nonce: str
    agent_id: str | None = None
    version: str = ""


class Enrolled(Message):
    """The answer: the credential is shown once and stored hashed at the core."""

    agent_id: str
    credential: str


class Request(Message):
    """What the core asks of a node; idempotent by `id`. `args`: what its type needs besides."""

    id: str
    type: str
    action_id: str | None = None
    by: str | None = None
    reason: str | None = None
    args: dict[str, Any] | None = None


class PullAnswer(Message):
    """`GET /v1/agents/{agent}/actions`. `actions` are definitions, each with its own faults.

    One that no strict decoder takes is a `strict_json.BadItem`.
    """

    ITEMS: ClassVar[str] = "actions"

    cursor: str
    full: bool = False
    actions: list[Any] = []
    requests: list[Request] = []


class EventsPush(Message):
    """`POST /v1/agents/{agent}/events`: in rising `seq` without holes."""

    agent_epoch: str
    events: list[Any]


class EventsAck(Message):
    """All events up to and including `acked` are durable at the core."""

    acked: int


class StatePush(Message):
    """`PUT /v1/agents/{agent}/state`, in parts: everything the node has.

    `as_of_seq` is the newest event that this state includes, `first_seq` the oldest event that the
    node can still send (the next one it will make, if it holds none), `cursor` the applied one.
    `snapshot` names the parts that belong together; `last` closes it.
    """

    agent_epoch: str
    as_of_seq: int
    first_seq: int
    cursor: str = ""
    snapshot: str = ""
    part: int = 0
    last: bool = True
    actions: list[Any] = []


class StateAccepted(Message):
    """The answer to a state part: `faults` name items that could not be read and were left out."""

    faults: list[dict[str, str]] = []


class NodeReport(Message):
    """`PUT /v1/agents/{agent}/node`: what the node is; sent on connection and on change."""

    version: str
    protocol: int = PROTOCOL
    features: list[str] = []
    catalogue: list[dict[str, Any]] = []
    clock: dict[str, Any] = {}
    brakes: list[dict[str, Any]] = []
    pause: dict[str, Any] | None = None
    """`paused` and, if so, since when, by whom and why; absent from older nodes."""
    progress: list[dict[str, Any]] = []
    host: str = ""
    labels: dict[str, Any] = {}
    """What the node's owner calls it; absent from older nodes."""


class ErrorAnswer(Message, omit_defaults=True):
    """Every answer that is not a success, on every API of ours."""

    error: str
    message: str
    faults: list[dict[str, str]] = []
    expected: int | None = None
    acked: int | None = None
    """With `bad_events` and `gap`: what of the same push is durable all the same."""


M = TypeVar("M", bound=msgspec.Struct)


class BadMessage(AgentError):
    """The body is JSON but not the message that was expected."""


def decode_message(data: bytes, message: type[M]) -> M:
    """Bytes → message. Raises `NotJson` or `BadMessage`, each with what is wrong."""
    items = message.ITEMS if issubclass(message, Message) else ""
    document = strict_json.decode_items(data, items) if items else strict_json.decode(data)
    return convert_message(document, message)


def convert_message(document: Any, message: type[M]) -> M:
    """Plain values → message. Raises `BadMessage`."""
    try:
        return msgspec.convert(document, type=message)
    except msgspec.ValidationError as error:
        raise BadMessage(str(error)) from None


def plain_faults(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    """Faults as JSON."""
    return [{"path": fault.path, "message": fault.message} for fault in faults]
