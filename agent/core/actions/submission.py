"""A dispatch as it was sent, read: the definition, where it goes, and how it is to be treated.

Pure. Every fault of the document is told together; a member that is almost one of ours is a slip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from agent.core.actions.targets import Target, read_target
from agent.core.occasion import Occasion
from agent.domain.definition import Definition, Owner, Requester
from agent.domain.errors import FAULTS_SHOWN_MAX, Fault, InvalidDocument, shown
from agent.domain.instants import format_instant
from agent.wire import fields as f
from agent.wire.definition import FIELDS, OWN_PREFIX, SLIP_CUTOFF, decode_submitted
from agent.wire.fields import Field, read_fields

DEDUP_KEY_CHARS_MAX = 256
DEDUP_TTL_S_MIN, DEDUP_TTL_S_MAX = 1, 604_800
DEDUP_TTL_S_DEFAULT = 86_400.0

_CORES: Mapping[str, str] = {
    "owner": "what is dispatched belongs to the core; leave it out",
    "revision": "the core counts revisions; leave it out",
    "requester": "the core records through which door an action came; leave it out",
    "recurring_id": "occurrences are made by the node; leave it out",
    "nominal_at": "occurrences are made by the node; leave it out",
    "approval": "approvals are recorded by the core, not sent with a dispatch",
}


def _dedup_key(value: Any) -> str:
    text: str = f.text(DEDUP_KEY_CHARS_MAX)(value)
    if not text:
        raise ValueError("is empty; leave it out, or name what must not happen twice")
    return text


MEMBERS: Mapping[str, Field] = {
    "dedup_key": Field(_dedup_key),
    "dedup_ttl_s": Field(f.number(DEDUP_TTL_S_MIN, DEDUP_TTL_S_MAX)),
    "approve": Field(f.boolean),
}
"""Of the dispatch itself, besides those of its target; none is a part of the definition."""
_FILTERED = ("correlation_id", "service", "dedup_key")
_OF_THE_DISPATCH = {*MEMBERS, "selector", "pick"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was asked for. The definition has no `node` yet where a selector says where."""

    definition: Definition
    target: Target
    has_own_id: bool
    """Whether the caller chose the id: then it may be taken."""
    dedup_key: str | None = None
    dedup_ttl_s: float | None = None
    approve: bool = False


def read_submission(
    document: Any,
    occasion: Occasion,
    default_target: Target | None = None,
    *,
    told: Sequence[Fault] = (),
    **made: Any,
) -> Submission:
    """The dispatch. `made` are members of the definition that the core itself says (`retry_of`).

    Raises `InvalidDocument` with every fault; `told` are those that were found before.
    """
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"a dispatch is an object, not {shown(document)}")])
    given = {key: value for key, value in document.items() if value is not None}  # null is silence
    faults = [*told, *(Fault(name, why) for name, why in _CORES.items() if name in given)]
    if given.get("should_be_executed") is False:
        faults.append(Fault("should_be_executed", "a dispatch of nothing; use cancel to withdraw"))
    target, target_faults = read_target(given, default_target)
    values, value_faults = read_fields(given, MEMBERS)
    faults += [*target_faults, *value_faults, *_slips(given)]
    faults += [
        Fault(name, "has a NUL character, which no list can be filtered by")
        for name in _FILTERED
        if isinstance(given.get(name), str) and "\0" in given[name]
    ]
    if "dedup_ttl_s" in given and "dedup_key" not in given:
        faults.append(Fault("dedup_ttl_s", "is for a dedup_key; give one"))
    has_own_id = "id" in given or "action_id" in given
    one_name = has_own_id and given.get("schedule") is None  # a recurring action's is for all
    if one_name and target is not None and not target.is_one:
        faults.append(
            Fault("id", "is one action's; with a selector each node's gets an id of its own")
        )
    definition = _definition(given, occasion, faults, has_own_id=has_own_id, made=made)
    assert target is not None, "else there are faults"
    return Submission(
        definition=definition,
        target=target,
        has_own_id=has_own_id,
        dedup_key=values.get("dedup_key"),
        dedup_ttl_s=values.get("dedup_ttl_s"),
        approve=values.get("approve", False),
    )


def _definition(
    given: Mapping[str, Any],
    occasion: Occasion,
    faults: list[Fault],
    *,
    has_own_id: bool,
    made: Mapping[str, Any],
) -> Definition:
    """The definition. Raises `InvalidDocument` with its faults and those that came before."""
    apart = {*_CORES, *_OF_THE_DISPATCH}
    members = {key: value for key, value in given.items() if key not in apart} | {**made}
    if any(fault.path == "node" for fault in faults):
        members.pop("node", None)  # told already
    defaults: dict[str, Any] = {"created_at": format_instant(occasion.now)}
    if not has_own_id:
        defaults["id"] = occasion.new_id()
    try:
        definition = decode_submitted(
            members,
            owner=Owner.CORE.value,
            requester=Requester.CORE_API.value,
            revision=1,
            **defaults,
        )
    except InvalidDocument as error:
        raise InvalidDocument([*faults, *error.faults]) from None
    if definition.to_date is not None and definition.to_date <= occasion.now:
        faults.append(Fault("to_date", f"{format_instant(definition.to_date)} has passed already"))
    if faults:
        raise InvalidDocument(faults)
    return definition


def _slips(given: Mapping[str, Any]) -> Iterator[Fault]:
    """Members that are almost one of the dispatch's own; the definition's are told with it."""
    unknown = (
        key
        for key in given
        if key not in FIELDS and key not in _OF_THE_DISPATCH and not key.startswith(OWN_PREFIX)
    )
    for key in islice(unknown, FAULTS_SHOWN_MAX):
        name = key[: f.NAME_CHARS_MAX]
        ours = f.snake_case(key)
        if ours in _OF_THE_DISPATCH:
            yield Fault(name, f"is called {ours!r} here")
        elif hint := f.nearest(name, _OF_THE_DISPATCH, SLIP_CUTOFF):
            own = "a member of your own begins with x_, or goes into metadata"
            yield Fault(name, f"is not known here{hint} ({own})")
