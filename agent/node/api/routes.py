"""The route table of the local API, and the few endpoints that need no file of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.domain.errors import Fault, InvalidDocument
from agent.infra.asgi import Edge, answer
from agent.node.api.actions import ActionEndpoints
from agent.node.api.answers import AnswerEndpoints
from agent.node.api.context import Context
from agent.node.api.control import ControlEndpoints
from agent.node.api.documented import known_parameters
from agent.node.api.events import EventEndpoints
from agent.node.api.forecast import ForecastEndpoint
from agent.node.api.output import OutputEndpoint
from agent.node.api.recurring import RecurringEndpoints
from agent.node.api.why import WhyEndpoint
from agent.node.engine import run_key
from agent.node.ports import Progress, RunnerAway, RunnerRefused
from agent.node.stored import read_stored
from agent.node.views import kind_view

Endpoint = Callable[[Request], Awaitable[Response]]
OPEN_PATHS = frozenset({"/healthz"})
PROGRESS_ASKED_MAX = 50  # per status: a page of them is all that anybody reads


def build_api(context: Context) -> Edge:
    """The ASGI application. Everything but `/healthz` needs access, whether it exists or not.

    What each route takes and answers is written down in `agent.node.api.documented`.
    """
    rules = RecurringEndpoints(context)
    actions, output = ActionEndpoints(context, rules), OutputEndpoint(context)
    events, node = EventEndpoints(context), NodeEndpoints(context)
    why, answers = WhyEndpoint(context), AnswerEndpoints(context)
    control = ControlEndpoints(context)
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/status", node.status),
        ("GET", "/v1/kinds", node.kinds),
        ("POST", "/v1/sync", node.sync),
        ("POST", "/v1/pause", control.pause),
        ("POST", "/v1/resume", control.resume),
        ("POST", "/v1/drain", control.drain),
        ("GET", "/v1/brake", control.brakes),
        ("POST", "/v1/brake", control.brake),
        ("DELETE", "/v1/brake/{id}", control.lift),
        ("GET", "/v1/actions", actions.list),
        ("POST", "/v1/actions", actions.submit),
        ("GET", "/v1/actions/{id}", actions.show),
        ("POST", "/v1/actions/{id}/cancel", actions.cancel),
        ("POST", "/v1/actions/{id}/retry", actions.retry),
        ("GET", "/v1/actions/{id}/history", actions.history),
        ("GET", "/v1/actions/{id}/why", why.read),
        ("GET", "/v1/actions/{id}/output", output.read),
        ("GET", "/v1/recurring", rules.list),
        ("POST", "/v1/recurring", rules.create),
        ("GET", "/v1/recurring/{id}", rules.show),
        ("PUT", "/v1/recurring/{id}", rules.replace),
        ("DELETE", "/v1/recurring/{id}", rules.remove),
        ("POST", "/v1/recurring/{id}/pause", rules.pause),
        ("POST", "/v1/recurring/{id}/resume", rules.resume),
        ("POST", "/v1/recurring/{id}/run", rules.run),
        ("POST", "/v1/recurring/{id}/backfill", rules.backfill),
        ("GET", "/v1/forecast", ForecastEndpoint(context).read),
        ("GET", "/v1/events", events.after),
        ("GET", "/v1/state", events.state),
        ("GET", "/v1/doctor", answers.doctor),
        ("GET", "/metrics", answers.metrics),
        ("GET", "/openapi.json", answers.openapi),
        ("GET", "/healthz", node.health),
    ]
    routes = [
        Route(path, strict(endpoint, method, path), methods=[method])
        for method, path, endpoint in table
    ]
    return Edge(
        routes,
        context.on_failure,
        admit=context.access.require,
        open_paths=OPEN_PATHS,
        on_status=context.metrics.api_answered,
    )


def strict(endpoint: Endpoint, method: str, path: str) -> Endpoint:
    """The endpoint, refusing members of the query string that its documentation does not have."""
    known = known_parameters(method, path)

    async def checked(request: Request) -> Response:
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            told = ", ".join(sorted(known)) or "none"
            raise InvalidDocument(
                Fault(name, f"is not a parameter here; known are {told}") for name in unknown
            )
        return await endpoint(request)

    return checked


class NodeEndpoints:
    """About the node as a whole."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def health(self, request: Request) -> Response:
        """`GET /healthz`: 200 while the database can be written and the runner is there."""
        engine = self._context.engine
        well = engine.store_problem is None and engine.runner_ready
        return answer({"ok": well}, 200 if well else 503)

    async def status(self, request: Request) -> Response:
        """`GET /v1/status`."""
        now = self._context.clock.now()
        believed = self._context.engine.believed_now() is not None
        stored = await self._context.store.read(lambda c: read_stored(c, now, believed=believed))
        return answer(self._context.status.view(stored, await self._progress()))

    async def _progress(self) -> Mapping[int, Progress]:
        """What the scripts that run said last; of the first ones where many do."""
        running = islice(self._context.engine.running.values(), PROGRESS_ASKED_MAX)
        keys = [run_key(action) for action in running]
        try:
            return await self._context.runner.progress(keys) if keys else {}
        except (RunnerAway, RunnerRefused):
            return {}

    async def kinds(self, request: Request) -> Response:
        """`GET /v1/kinds`: read anew if the catalogue changed."""
        await self._context.commands.look_at_catalogue()
        catalogue = self._context.kinds.catalogue
        known = self._context.kinds
        kinds = [
            kind_view(manifest) | {"faults": list(known.faults(manifest))}
            for _, manifest in sorted(catalogue.kinds.items())
        ]
        return answer({"kinds": kinds, "faults": list(catalogue.faults)})

    async def sync(self, request: Request) -> Response:
        """`POST /v1/sync`: pull once, now; what came of it."""
        return answer(await self._context.sync_now())
