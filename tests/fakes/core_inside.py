"""A whole core in this process: its routes over an in-memory store, asked without a socket."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from agent.core import admin
from agent.core.app import Core, build_edge
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.infra.clock import SystemClock
from agent.infra.logs import get_log

ADMIN_TOKEN = "inside-admin"


class CoreInside:
    """The services, and a client in front of their routes."""

    def __init__(self, core: Core, client: httpx.AsyncClient, store: InlineStore) -> None:
        self.core = core
        self.store = store
        self.client = client

    async def ask(
        self, method: str, path: str, *, token: str = ADMIN_TOKEN, **more: Any
    ) -> httpx.Response:
        """One request with a token."""
        headers = {"authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    async def token(self, role: str, name: str | None = None) -> str:
        """A new token of that role."""
        body = {"name": name or f"any-{role}", "role": role}
        answer = await self.ask("POST", "/v1/tokens", json=body)
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["token"]
        return made


@asynccontextmanager
async def core_inside() -> AsyncIterator[CoreInside]:
    """Opened with one admin, whose token is `ADMIN_TOKEN`."""
    store, clock = InlineStore.in_memory(), SystemClock()
    occasion = Occasion(clock.now(), secrets.randbits)
    await store.write(lambda c: admin.ensure_known(c, occasion, ADMIN_TOKEN))
    core = Core(store, clock, secrets.randbits)
    transport = httpx.ASGITransport(build_edge(core, get_log()))
    async with httpx.AsyncClient(transport=transport, base_url="http://core", timeout=20) as client:
        yield CoreInside(core, client, store)
    await store.close()
