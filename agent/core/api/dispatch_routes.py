"""Dispatch and actions over HTTP (docs/dispatch.md): authenticate, decode, call, encode."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.batching import Item
from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX, ActionRef, Filter
from agent.core.actions.service import Dispatch
from agent.core.actions.submitting import WAIT_S_MAX
from agent.core.people.door import Door
from agent.core.people.principal import Principal, Role
from agent.domain.definition import ApprovalState, Owner
from agent.domain.errors import Fault, InvalidDocument
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase
from agent.infra.asgi import answer, error_answer, read_json, read_optional_json, unless_gone
from agent.infra.query import Query
from agent.wire import strict_json

AFTER_MAX = 2**53


class DispatchRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, dispatch: Dispatch) -> None:
        self._door = door
        self._dispatch = dispatch

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [
            Route("/v1/dispatch", self.dispatch, methods=["POST"]),
            Route("/v1/dispatch/batch", self.batch, methods=["POST"]),
            Route("/v1/actions", self.list_actions, methods=["GET"]),
            Route("/v1/actions/cancel", self.cancel_correlated, methods=["POST"]),
            Route("/v1/actions/{id}", self.get_action, methods=["GET"]),
            Route("/v1/actions/{id}/history", self.history, methods=["GET"]),
            Route("/v1/actions/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/actions/{id}/reschedule", self.reschedule, methods=["POST"]),
            Route("/v1/actions/{id}/retry", self.retry, methods=["POST"]),
        ]

    async def _operator(self, request: Request) -> dict[str, Any]:
        """Who asks, as the service wants to know it."""
        who: Principal = await self._door.require(request, Role.OPERATOR)
        return {"by": who.name, "may_approve": who.may(Role.APPROVER)}

    async def dispatch(self, request: Request) -> Response:
        """One action to one node, to several, or to any of them."""
        who = await self._operator(request)
        query = Query(request)
        dry_run = query.flag("dry_run")
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        document = await read_json(request)
        return answer(
            await self._dispatch.dispatch(document, dry_run=dry_run, wait_s=wait_s, **who)
        )

    async def batch(self, request: Request) -> Response:
        """Many dispatches, each for itself: 200, and what became of each."""
        who = await self._operator(request)
        query = Query(request)
        dry_run = query.flag("dry_run")
        query.finish()
        document = await read_json(request)
        items = await self._dispatch.dispatch_batch(document, dry_run=dry_run, **who)
        return answer({"results": [_item(one) for one in items]})

    async def list_actions(self, request: Request) -> Response:
        """Newest first."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        phase = query.one_of("phase", [phase.value for phase in Phase])
        wanted = Filter(
            node=query.text("node"),
            status=query.one_of("status", [status.value for status in ExecutionStatus]),
            phase=Phase(phase) if phase else None,
            kind=query.text("kind"),
            correlation_id=query.text("correlation_id"),
            recurring_id=query.text("recurring_id"),
            retry_of=query.text("retry_of"),
            service=query.text("service"),
            approval=query.one_of("approval", [state.value for state in ApprovalState]),
            since=query.instant("since"),
            until=query.instant("until"),
            limit=query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
            after=query.whole("after", 0, 0, AFTER_MAX),
        )
        query.finish()
        return answer(await self._dispatch.list(wanted))

    async def get_action(self, request: Request) -> Response:
        """One action, whole; `wait` answers when it has ended."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        ref = _ref(request, query)
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        return answer(await unless_gone(request, self._dispatch.wait(ref, wait_s)))

    async def history(self, request: Request) -> Response:
        """What happened to it."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        ref = _ref(request, query)
        after = query.whole("after", 0, 0, AFTER_MAX)
        limit = query.whole("limit", LIMIT_MAX, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._dispatch.history(ref, after, limit))

    async def cancel(self, request: Request) -> Response:
        """Withdraw it."""
        who = await self._operator(request)
        query = Query(request)
        ref = _ref(request, query)
        query.finish()
        document = await read_optional_json(request)
        return answer(await self._dispatch.cancel(ref, document, by=who["by"]))

    async def cancel_correlated(self, request: Request) -> Response:
        """Withdraw everything that is open with one correlation id."""
        who = await self._operator(request)
        query = Query(request)
        correlation_id = query.text("correlation_id")
        query.finish()
        if correlation_id is None:
            raise InvalidDocument([Fault("correlation_id", "is missing; say what to cancel")])
        document = await read_optional_json(request)
        return answer(
            await self._dispatch.cancel_correlated(correlation_id, document, by=who["by"])
        )

    async def reschedule(self, request: Request) -> Response:
        """Another time."""
        who = await self._operator(request)
        query = Query(request)
        ref = _ref(request, query)
        query.finish()
        document = await read_json(request)
        return answer(await self._dispatch.reschedule(ref, document, **who))

    async def retry(self, request: Request) -> Response:
        """A new action for one that has ended."""
        who = await self._operator(request)
        query = Query(request)
        ref = _ref(request, query)
        dry_run = query.flag("dry_run")
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        document = await read_optional_json(request)
        return answer(
            await self._dispatch.retry(ref, document, dry_run=dry_run, wait_s=wait_s, **who)
        )


def _item(one: Item) -> dict[str, Any]:
    """The answer of one dispatch of a batch; a refused one says what it would have said alone."""
    if isinstance(one, dict):
        return one
    refused = error_answer(one)
    body: dict[str, Any] = strict_json.decode(bytes(refused.body))
    return {"outcome": "failed", "status": refused.status_code, **body}


def _ref(request: Request, query: Query) -> ActionRef:
    return ActionRef(
        id=request.path_params["id"],
        node=query.text("node"),
        owner=query.one_of("owner", [owner.value for owner in Owner]),
    )
