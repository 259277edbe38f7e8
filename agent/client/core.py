"""`CoreClient`: dispatch, look, cancel, wait. Plain blocking calls, safe to share among threads.

A connection that breaks is nobody's problem: what was sent is sent again, and done once (see
`agent.client.identity`). Everything else that the core can do: `request`.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from agent.client import identity
from agent.client.errors import CoreError, CoreRefused
from agent.client.outcome import DEDUPLICATED, Action, Outcome, read_action, read_outcome
from agent.client.transport import Ask, Transport
from agent.domain.ids import new_id
from agent.domain.phase import Phase

URL_DEFAULT = "http://127.0.0.1:8080"
TOKEN_FILE_VARIABLE = "CORE_TOKEN_FILE"  # noqa: S105  (a variable's name, not a token)
POLL_S = 60.0  # the core's own bound of one long poll
RETRIES = 4
PAGE = 500
_EXISTS, _ENDED = "exists", "already_ended"


class CoreClient:
    """One core, spoken to with one token."""

    def __init__(
        self,
        url: str = URL_DEFAULT,
        token: str | None = None,
        *,
        token_file: str | Path | None = None,
        retries: int = RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        """`token`, or a file with it; by default the one that `CORE_TOKEN_FILE` names.

        `http` is a client of one's own, for certificates or a proxy; it is then not closed here.
        """
        # A proxy from somebody's shell must not carry the token.
        chosen = httpx.Client(trust_env=False) if http is None else http
        self._own = chosen if http is None else None
        self._transport = Transport(
            chosen,
            url,
            token if token is not None else _token_of(token_file),
            retries=retries,
            pause=time.sleep,
        )
        self._now: Callable[[], datetime] = partial(datetime.now, UTC)
        self._monotonic: Callable[[], float] = time.monotonic

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._own is not None:
            self._own.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float = 0.0,
        repeatable: bool | None = None,
    ) -> Any:
        """Any operation of the core's; a lost answer is asked for again where that is harmless.

        Raises `CoreRefused`, `CoreUnreachable`.
        """
        harmless = method.upper() in {"GET", "PUT", "DELETE"} if repeatable is None else repeatable
        return self._transport.call(
            method, path, query=query, body=body, wait_s=wait_s, repeatable=harmless
        )

    def dispatch(
        self, action: Mapping[str, Any], *, wait_s: float = 0.0, dry_run: bool = False
    ) -> Outcome:
        """Dispatch one action (docs/dispatch.md), or one to each node that a selector matches.

        It is stored when this returns; with `wait_s`, it has ended or that time is over.
        """
        return self._dispatch("/v1/dispatch", action, wait_s=wait_s, dry_run=dry_run)

    def retry(
        self, action_id: str, changes: Mapping[str, Any] | None = None, *, wait_s: float = 0.0
    ) -> Outcome:
        """The same again, as a new action: an ended one only."""
        given = dict(changes or {})
        given.setdefault("id", self._new_id())
        return self._dispatch(f"{_path(action_id)}/retry", given, wait_s=wait_s, dry_run=False)

    def _dispatch(
        self, path: str, action: Mapping[str, Any], *, wait_s: float, dry_run: bool
    ) -> Outcome:
        sent = dict(action) if dry_run else identity.identified(action, self._new_id)
        query = {"dry_run": True if dry_run else None, "wait": wait_s or None}
        try:
            answer = self._transport.call("POST", path, query=query, body=sent, wait_s=wait_s)
        except CoreRefused as refusal:
            if not (refusal.code == _EXISTS and refusal.maybe_done):
                raise
            return read_outcome(self._stored(sent, wait_s))
        if answer["outcome"] == DEDUPLICATED and not identity.has_own_key(action):
            answer = identity.undone(answer, self._found(answer))
        return read_outcome(answer)

    def dispatch_batch(
        self, actions: Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> list[Outcome]:
        """Many dispatches, each for itself: what became of each, in their order.

        One that was refused is `failed`, with its `faults` and its error in `document`.
        """
        sent = [dict(one) if dry_run else identity.identified(one, self._new_id) for one in actions]
        query = {"dry_run": True if dry_run else None}
        ask = Ask("POST", "/v1/dispatch/batch", query, {"actions": sent})
        answer, maybe_done = self._transport.call_noting(ask)
        results = []
        for given, own, one in zip(sent, actions, answer["results"], strict=True):
            result = one
            if maybe_done and one.get("error") == _EXISTS:
                result = self._stored(given, 0.0)
            elif one["outcome"] == DEDUPLICATED and not identity.has_own_key(own):
                result = identity.undone(one, self._found(one))
            results.append(read_outcome(result))
        return results

    def _stored(self, sent: Mapping[str, Any], wait_s: float) -> dict[str, Any]:
        """The answer that was lost: the action is there, under the id that was made here."""
        name = identity.id_of(sent)
        if name is None:
            raise CoreError("the core says that an id is taken, and none was sent")
        if identity.is_recurring(sent):
            path = f"/v1/recurring/{quote(name, safe='')}"
            return identity.created_outcome(self._transport.call("GET", path))
        query = {"wait": wait_s or None, "owner": "core"}
        found = self._transport.call("GET", _path(name), query=query, wait_s=wait_s)
        return identity.stored_outcome(found, waited=wait_s > 0)

    def _found(self, answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """The actions that an answer names, as they are now."""
        if "actions" not in answer:
            name = answer["action_id"]
            return {name: self._transport.call("GET", _path(name), query={"owner": "core"})}
        listed = self.actions(correlation_id=answer["correlation_id"])
        return {one.id: one.document for one in listed}

    def get(self, action_id: str, *, node: str | None = None) -> Action:
        """One action, whole. Raises `CoreRefused` (404)."""
        return read_action(self._transport.call("GET", _path(action_id), query={"node": node}))

    def wait(self, action_id: str, timeout_s: float | None = None) -> Action:
        """The action when it has ended, or as it is after `timeout_s`."""
        until = None if timeout_s is None else self._monotonic() + timeout_s
        while True:
            left_s = POLL_S if until is None else min(POLL_S, until - self._monotonic())
            query = {"wait": max(0.0, left_s)}
            found = read_action(
                self._transport.call("GET", _path(action_id), query=query, wait_s=POLL_S)
            )
            if found.has_ended() or (until is not None and self._monotonic() >= until):
                return found

    def actions(self, **filters: Any) -> Iterator[Action]:
        """Actions, newest first, page by page; filters as `GET /v1/actions` has them."""
        for document in self._pages("/v1/actions", "actions", filters):
            yield read_action(document)

    def cancel(self, action_id: str, *, reason: str | None = None, stop: bool = False) -> Action:
        """Withdraw it; `stop` also what has started. Raises `CoreRefused` (409: too late)."""
        body = {"reason": reason, "if_started": "stop" if stop else "refuse"}
        try:
            answer = self._transport.call("POST", f"{_path(action_id)}/cancel", body=body)
        except CoreRefused as refusal:
            if not (refusal.code == _ENDED and refusal.maybe_done):
                raise
            found = self.get(action_id)
            if found.phase != Phase.CANCELLED.value:
                raise
            return found  # by the first of our requests
        return read_action(answer)

    def cancel_correlated(self, correlation_id: str, *, reason: str | None = None) -> Any:
        """Withdraw everything that is open with this correlation id; what was done to which."""
        query, body = {"correlation_id": correlation_id}, {"reason": reason}
        return self._transport.call("POST", "/v1/actions/cancel", query=query, body=body)

    def reschedule(
        self,
        action_id: str,
        from_date: datetime,
        to_date: datetime | None = None,
        *,
        reason: str | None = None,
    ) -> Action:
        """Another time, until it has started. Raises `CoreRefused` (409)."""
        body = {"from_date": from_date, "to_date": to_date, "reason": reason}
        return read_action(
            self._transport.call("POST", f"{_path(action_id)}/reschedule", body=body)
        )

    def events(
        self, after: int = 0, *, follow: bool = True, **filters: Any
    ) -> Iterator[Mapping[str, Any]]:
        """Events behind a number, each once, in order; with `follow` it waits for more, for ever.

        Keep the `id` of the last one that you have dealt with, and begin with it next time.
        """
        position: Any = after
        wait_s = POLL_S if follow else 0.0
        while True:
            query = {**filters, "after": position, "limit": PAGE, "wait": wait_s or None}
            page = self._transport.call("GET", "/v1/events", query=query, wait_s=wait_s)
            yield from page["events"]
            if not page["events"] and not follow and page["next"] == str(position):
                return
            position = page["next"]

    def _pages(
        self, path: str, member: str, filters: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        after = None
        while True:
            query = {"limit": PAGE, **filters, "after": after}
            page = self._transport.call("GET", path, query=query)
            yield from page[member]
            after = page["next"]
            if after is None:
                return

    def _new_id(self) -> str:
        return new_id(self._now(), secrets.randbits)


def _path(action_id: str) -> str:
    return f"/v1/actions/{quote(action_id, safe='')}"


def _token_of(file: str | Path | None) -> str | None:
    """None is allowed: a proxy in front of the core may add one."""
    named = file or os.environ.get(TOKEN_FILE_VARIABLE)
    if not named:
        return None
    try:
        return Path(named).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CoreError(f"the token file {named} cannot be read: {error}") from error
