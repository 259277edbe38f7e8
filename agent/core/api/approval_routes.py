"""Approvals over HTTP (docs/approvals.md): questions, answers, links that lend an answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX, ActionRef
from agent.core.approvals import link_page
from agent.core.approvals.records import ApprovalFilter
from agent.core.approvals.requests import QuestionState
from agent.core.approvals.service import Approvals, Linked
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.domain.definition import ApprovalState, Owner
from agent.domain.errors import Fault, InvalidDocument, Refused, shown
from agent.infra.asgi import answer, error_answer, read_body, read_optional_json
from agent.infra.query import Query
from agent.wire import fields as f
from agent.wire import strict_json
from agent.wire.fields import Field, read_closed

AFTER_MAX = 2**53
FORM_BYTES_MAX = 16 * 1024
_FORM = "application/x-www-form-urlencoded"
_LINK_BODY = {"reason": Field(f.text(link_page.REASON_CHARS_MAX))}


class ApprovalRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, approvals: Approvals, public_url: str | None = None) -> None:
        self._door = door
        self._approvals = approvals
        self._public_url = public_url

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [
            Route("/v1/approvals", self.list_approvals, methods=["GET"]),
            Route("/v1/approvals/{id}", self.get_approval, methods=["GET"]),
            Route("/v1/approvals/{id}/approve", self.approve, methods=["POST"]),
            Route("/v1/approvals/{id}/reject", self.reject, methods=["POST"]),
            Route("/v1/approvals/{id}/links", self.make_links, methods=["POST"]),
            Route("/v1/actions/{id}/approve", self.approve_action, methods=["POST"]),
            Route("/v1/actions/{id}/reject", self.reject_action, methods=["POST"]),
            Route("/v1/links/{token}", self.look, methods=["GET"]),
            Route("/v1/links/{token}", self.follow, methods=["POST"]),
        ]

    async def list_approvals(self, request: Request) -> Response:
        """Newest first."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        wanted = ApprovalFilter(
            state=query.one_of("state", [state.value for state in QuestionState]),
            node=query.text("node"),
            action_id=query.text("action_id"),
            correlation_id=query.text("correlation_id"),
            limit=query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
            after=query.whole("after", 0, 0, AFTER_MAX),
        )
        query.finish()
        return answer(await self._approvals.list(wanted))

    async def get_approval(self, request: Request) -> Response:
        """One question with all that is asked for."""
        await self._door.require(request, Role.VIEWER)
        Query(request).finish()
        return answer(await self._approvals.get(request.path_params["id"]))

    async def approve(self, request: Request) -> Response:
        """Yes."""
        return await self._answer(request, ApprovalState.APPROVED)

    async def reject(self, request: Request) -> Response:
        """No."""
        return await self._answer(request, ApprovalState.REJECTED)

    async def _answer(self, request: Request, state: ApprovalState) -> Response:
        who = await self._door.require(request, Role.APPROVER)
        Query(request).finish()
        document = await read_optional_json(request)
        name = request.path_params["id"]
        return answer(await self._approvals.answer(name, document, state, by=who.name))

    async def approve_action(self, request: Request) -> Response:
        """Yes, by the action's id."""
        return await self._answer_action(request, ApprovalState.APPROVED)

    async def reject_action(self, request: Request) -> Response:
        """No, by the action's id."""
        return await self._answer_action(request, ApprovalState.REJECTED)

    async def _answer_action(self, request: Request, state: ApprovalState) -> Response:
        who = await self._door.require(request, Role.APPROVER)
        query = Query(request)
        ref = ActionRef(
            id=request.path_params["id"],
            node=query.text("node"),
            owner=query.one_of("owner", [owner.value for owner in Owner]),
        )
        query.finish()
        document = await read_optional_json(request)
        return answer(await self._approvals.answer_action(ref, document, state, by=who.name))

    async def make_links(self, request: Request) -> Response:
        """Two links; this answer is the only place where they can be read."""
        who = await self._door.require(request, Role.APPROVER)
        Query(request).finish()
        document = await read_optional_json(request)
        made = await self._approvals.make_links(request.path_params["id"], document, by=who.name)
        base = self._public_url or str(request.base_url).rstrip("/")
        for word in ("approve", "reject"):
            made[word] = base + made[word]
        return answer(made, 201, {"cache-control": "no-store"})

    async def look(self, request: Request) -> Response:
        """What a link is about. Mail scanners and chats fetch it too: nothing changes."""
        return await self._page(request, link_page.question_page, self._look)

    async def follow(self, request: Request) -> Response:
        """Do what the link stands for."""
        return await self._page(request, link_page.answered_page, self._follow)

    async def _look(self, request: Request) -> Linked:
        return await self._approvals.look(request.path_params["token"])

    async def _follow(self, request: Request) -> Linked:
        reason = await _reason(request)
        return await self._approvals.follow(request.path_params["token"], reason)

    async def _page(self, request: Request, page: Any, work: Any) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        try:
            Query(request).finish()
            linked = await work(request)
        except Refused as error:
            if not wants_page:
                raise
            status = error_answer(error).status_code
            return HTMLResponse(link_page.refusal_page(str(error)), status, link_page.HEADERS)
        if wants_page:
            return HTMLResponse(page(linked), headers=link_page.HEADERS)
        return answer(linked.approval, headers=link_page.HEADERS)


async def _reason(request: Request) -> str | None:
    """From the page's form, or from JSON. Raises `InvalidDocument`, `NotJson`, `Refused`."""
    body = await read_body(request, FORM_BYTES_MAX)
    if not body.strip():
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    document = _form(body) if kind == _FORM else strict_json.decode(body)
    reason: str | None = read_closed(document, _LINK_BODY).get("reason")
    return reason or None


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=8, errors="strict"))
    except ValueError:
        raise InvalidDocument([Fault("", f"is not a form's body: {shown(body[:80])}")]) from None
