"""The route table of the local API, and the few endpoints that need no file of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.infra.asgi import Edge, answer
from agent.node.api.actions import ActionEndpoints
from agent.node.api.context import Context
from agent.node.api.events import EventEndpoints
from agent.node.api.output import OutputEndpoint
from agent.node.stored import read_stored
from agent.node.views import kind_view

Endpoint = Callable[[Request], Awaitable[Response]]


def build_api(context: Context) -> Edge:
    """The ASGI application. Everything but `/healthz` needs access."""
    actions, output = ActionEndpoints(context), OutputEndpoint(context)
    events, node = EventEndpoints(context), NodeEndpoints(context)

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            context.access.require(request)
            return await endpoint(request)

        return checked

    table: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/status", node.status),
        ("GET", "/v1/kinds", node.kinds),
        ("POST", "/v1/sync", node.sync),
        ("GET", "/v1/actions", actions.list),
        ("POST", "/v1/actions", actions.submit),
        ("GET", "/v1/actions/{id}", actions.show),
        ("POST", "/v1/actions/{id}/cancel", actions.cancel),
        ("GET", "/v1/actions/{id}/history", actions.history),
        ("GET", "/v1/actions/{id}/output", output.read),
        ("GET", "/v1/events", events.after),
        ("GET", "/v1/state", events.state),
    ]
    routes = [Route(path, guarded(endpoint), methods=[method]) for method, path, endpoint in table]
    routes.append(Route("/healthz", node.health, methods=["GET"]))
    return Edge(routes, context.on_failure)


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
        stored = await self._context.store.read(lambda c: read_stored(c, now))
        return answer(self._context.status.view(stored))

    async def kinds(self, request: Request) -> Response:
        """`GET /v1/kinds`: read anew if the catalogue changed."""
        await self._context.commands.look_at_catalogue()
        catalogue = self._context.kinds.catalogue
        kinds = [kind_view(catalogue.kinds[name]) for name in sorted(catalogue.kinds)]
        return answer({"kinds": kinds, "faults": list(catalogue.faults)})

    async def sync(self, request: Request) -> Response:
        """`POST /v1/sync`: pull once, now; what came of it."""
        return answer(await self._context.sync_now())
