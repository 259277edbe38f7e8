"""`GET /v1/actions/{id}/why`: the answer to "what happened, and why has it not run?"."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agent.infra.asgi import answer
from agent.node.api.context import Context
from agent.node.why import Look, explain


class WhyEndpoint:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self, request: Request) -> Response:
        """About an action, a recurring action, or an instant of one that has no row."""
        action_id, look = request.path_params["id"], self._look()
        return answer(await self._context.store.read(lambda c: explain(c, action_id, look)))

    def _look(self) -> Look:
        engine = self._context.engine
        return Look(
            now=self._context.clock.now(),
            slots=engine.slots(),
            running=tuple(engine.running.values()),
            terms_of=engine.terms,
            runner_problem=self._context.hands.problem,
            store_problem=engine.store_problem,
            clock_problem=engine.clock_watch.why_in_doubt(),
            place=self._context.place,
        )
