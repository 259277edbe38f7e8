"""Endpoints about actions: list, submit, show, cancel, retry, history."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.action import Action
from agent.domain.lifecycle import ExecutionStatus
from agent.infra.asgi import answer, read_json, read_optional_json
from agent.infra.query import Query as Params
from agent.node.api.context import Context
from agent.node.api.recurring import RecurringEndpoints
from agent.node.engine import run_key
from agent.node.ports import Progress, RunnerAway, RunnerRefused
from agent.node.store.pages import PAGE_DEFAULT, PAGE_MAX, Query, page
from agent.node.views import action_view, find, history_view, summary_view

SUBMIT_BYTES_MAX = 256 * 1024
WAIT_S_MAX = 60.0


class ActionEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context, rules: RecurringEndpoints) -> None:
        self._context = context
        self._rules = rules

    async def list(self, request: Request) -> Response:
        """`GET /v1/actions`: a page, with `next` to go on."""
        params = Params(request)
        query = Query(
            view=params.one_of("view", ("all", "queue", "finished")) or "all",
            kind=params.text("kind"),
            since=params.instant("since"),
            until=params.instant("until"),
            recurring=params.text("recurring"),
            limit=params.whole("limit", PAGE_DEFAULT, 1, PAGE_MAX),
            after=params.text("after"),
        )
        status = params.one_of("status", [word.value for word in ExecutionStatus])
        params.finish()
        if status is not None:
            query = replace(query, status=(status,))
        found = await self._context.store.read(lambda c: page(c, query))
        now, paused = self._context.clock.now(), self._context.engine.paused
        summaries = [summary_view(action, now, paused=paused) for action in found.actions]
        return answer({"actions": summaries, "next": found.next})

    async def submit(self, request: Request) -> Response:
        """`POST /v1/actions`: a definition; 201 with the action as it was accepted."""
        document = await read_json(request, SUBMIT_BYTES_MAX)
        if isinstance(document, dict) and document.get("schedule") is not None:
            return await self._rules.accept(document)
        action = await self._context.commands.submit(document)
        return answer(self._view(action, None), 201)

    async def show(self, request: Request) -> Response:
        """`GET /v1/actions/{id}?wait=S`: with `wait`, not before it is final or S have passed."""
        params = Params(request)
        wait_s = params.seconds("wait", 0.0, WAIT_S_MAX)
        params.finish()
        action = await self._final_or_after(request.path_params["id"], wait_s)
        return answer(self._view(action, await self._progress(action)))

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/actions/{id}/cancel`; of a recurring action: it ends on this node."""
        ended = await self._rules.cancel(request.path_params["id"])
        if ended is not None:
            return ended
        action = await self._context.commands.cancel(request.path_params["id"])
        return answer(self._view(action, None))

    async def retry(self, request: Request) -> Response:
        """`POST /v1/actions/{id}/retry`: the same again, as a new action."""
        body = await read_optional_json(request)
        action = await self._context.commands.retry(request.path_params["id"], body)
        return answer(self._view(action, None), 201)

    async def history(self, request: Request) -> Response:
        """`GET /v1/actions/{id}/history`."""
        action_id = request.path_params["id"]
        return answer(await self._context.store.read(lambda c: history_view(c, action_id)))

    async def _final_or_after(self, action_id: str, wait_s: float) -> Action:
        changes, loop_time = self._context.engine.changes, self._context.clock.monotonic
        deadline = loop_time() + wait_s

        def look(connection: sqlite3.Connection) -> Action:
            return find(connection, action_id)

        while True:
            version = changes.version
            action = await self._context.store.read(look)
            left_s = deadline - loop_time()
            if action.is_final or left_s <= 0 or changes.closed:
                return action
            await changes.after(version, left_s)

    async def _progress(self, action: Action) -> Progress | None:
        if not action.attempt:
            return None
        try:
            told = await self._context.runner.progress([run_key(action)])
        except (RunnerAway, RunnerRefused):
            return None
        return told.get(action.row)

    def _view(self, action: Action, progress: Progress | None) -> dict[str, Any]:
        context = self._context
        view = action_view(
            action, context.clock.now(), paused=context.engine.paused, progress=progress
        )
        if not action.is_final:  # what an attempt that is over was bound by is in its history
            view["terms"] = {"timeout_s": context.engine.terms(action).timeout_s}
        return view
