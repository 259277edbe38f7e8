"""API tokens: made, listed, used, revoked; and who may always get back in."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection
from starlette.requests import Request

from agent.core import admin
from agent.core.occasion import Occasion
from agent.core.people import tokens
from agent.core.people.access import Access
from agent.core.people.chain import Wanted
from agent.core.people.door import TRUST_S, Door
from agent.core.people.principal import Role
from agent.core.store.inline import InlineStore
from agent.core.store.port import StoreUnavailable, Work
from agent.core.store.schema import api_tokens
from agent.domain.errors import InvalidDocument, NotFound, Refused
from tests.fakes.core_backends import SteppedClock


class CountingStore(InlineStore):
    """Counts writes; `full` refuses them."""

    writes = 0
    full = False

    async def write(self, work: Work[Any]) -> Any:
        if self.full:
            raise StoreUnavailable("disk full")
        self.writes += 1
        return await super().write(work)


class House:
    """A door and what stands behind it."""

    def __init__(self, store: CountingStore | None = None) -> None:
        made = CountingStore.in_memory() if store is None else store
        assert isinstance(made, CountingStore)
        self.store = made
        self.clock = SteppedClock()
        self.door = Door(self.store, self.clock, secrets.randbits)
        self.access = Access(self.store, self.clock, secrets.randbits, self.door.forget)
        self.first = "first-secret"

    async def opened(self) -> House:
        await self.store.write(lambda c: admin.ensure_known(c, self.occasion(), self.first))
        return self

    def occasion(self) -> Occasion:
        return Occasion(self.clock.now(), secrets.randbits)

    def pass_s(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)
        self.clock.seconds += seconds

    async def make(self, name: str, role: str, **more: Any) -> dict[str, Any]:
        return await self.access.create_token({"name": name, "role": role, **more}, "admin")

    async def listed(self, *, whole: bool = False) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.access.list_tokens("", 100, whole=whole))[
            "tokens"
        ]
        return found

    async def refused(self, token: str) -> bool:
        try:
            await self.door.principal_of(token)
        except Refused as error:
            return error.code == "unauthorized"
        return False


async def code_of(call: Any) -> str:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.code


def rows(connection: Connection) -> list[Any]:
    return list(connection.execute(select(api_tokens)).all())


def test_a_token_opens_the_door_with_its_role_and_is_shown_once() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "operator")
        principal = await house.door.principal_of(made["token"])
        assert (principal.name, principal.role) == ("ci", Role.OPERATOR)
        assert principal.may(Role.VIEWER)
        assert not principal.may(Role.APPROVER)
        shown = await house.listed()
        assert {one["name"] for one in shown} == {"admin", "ci"}
        assert all("token" not in one and "digest" not in one for one in shown)
        stored = str(await house.store.read(rows))
        assert made["token"] not in stored

    asyncio.run(play())


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, {"name", "role"}),
        ({"name": "", "role": "root"}, {"name", "role"}),
        ({"name": "a b", "role": "viewer", "ttl_s": 0}, {"name", "ttl_s"}),
        ({"name": "core", "role": "viewer"}, {"name"}),
        ({"name": "a\n", "role": "viewer"}, {"name"}),
        ({"name": "x" * 65, "role": ["viewer"]}, {"name", "role"}),
        ({"name": "policy:x", "role": "viewer"}, {"name"}),
        ({"name": "a", "role": "viewer", "ttl": 5}, {"ttl"}),
        ({"name": "a", "role": "viewer", "ttl_s": 1e300}, {"ttl_s"}),
        ({"name": "a", "role": "viewer", "ttl_s": True}, {"ttl_s"}),
        ([], {""}),
        (None, {""}),
    ],
)
def test_all_faults_of_a_request_are_told(body: Any, paths: set[str]) -> None:
    with pytest.raises(InvalidDocument) as caught:
        tokens.read_new_token(body)
    assert {fault.path for fault in caught.value.faults} == paths


def test_names_in_use_are_unique() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer", ttl_s=60)
        assert await code_of(house.make("ci", "viewer")) == "exists"
        await house.access.revoke_token(made["id"], "admin")
        again = await house.make("ci", "viewer", ttl_s=60)
        assert again["id"] != made["id"]
        house.pass_s(61)
        await house.make("ci", "viewer")
        states = [one["state"] for one in await house.listed(whole=True) if one["name"] == "ci"]
        assert sorted(states) == ["active", "expired", "revoked"]

    asyncio.run(play())


def test_a_revoked_token_opens_nothing_at_once_and_elsewhere_soon() -> None:
    async def play() -> None:
        house = await House().opened()
        elsewhere = Door(house.store, house.clock, secrets.randbits)
        made = await house.make("ci", "viewer")
        for door in (house.door, elsewhere):
            await door.principal_of(made["token"])
        await house.access.revoke_token(made["id"], "admin")
        assert await house.refused(made["token"])
        await elsewhere.principal_of(made["token"])
        house.pass_s(TRUST_S + 0.1)
        with pytest.raises(Refused):
            await elsewhere.principal_of(made["token"])
        for name in (made["id"], "nothing", "", "\0"):
            with pytest.raises(NotFound):
                await house.access.revoke_token(name, "admin")

    asyncio.run(play())


def test_a_revocation_overtakes_a_look_up() -> None:
    """What was read before the revocation is not believed after it."""

    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer")
        read = house.store.read

        async def slow(work: Any) -> Any:
            found = await read(work)
            house.store.read = read  # type: ignore[method-assign]
            await house.access.revoke_token(made["id"], "admin")
            return found

        house.store.read = slow  # type: ignore[method-assign]
        await house.door.principal_of(made["token"])
        assert await house.refused(made["token"])

    asyncio.run(play())


def test_an_open_stream_ends_with_its_token() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer")
        closed = []

        async def endless() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    yield b"x"
            finally:
                closed.append(True)

        header = (b"authorization", f"Bearer {made['token']}".encode())
        request = Request({"type": "http", "headers": [header]})
        stream = house.door.while_allowed(request, Role.VIEWER, endless())
        assert [await anext(stream), await anext(stream)] == [b"x", b"x"]
        await house.access.revoke_token(made["id"], "admin")
        assert [chunk async for chunk in stream] == []
        assert closed

    asyncio.run(play())


def test_a_token_expires_to_the_second() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer", ttl_s=3)
        await house.door.principal_of(made["token"])
        house.pass_s(2.9)
        await house.door.principal_of(made["token"])
        house.pass_s(0.2)
        assert await house.refused(made["token"])

    asyncio.run(play())


def test_the_last_permanent_admin_stays() -> None:
    async def play() -> None:
        house = await House().opened()
        (first,) = await house.listed()
        assert await code_of(house.access.revoke_token(first["id"], "admin")) == "last_admin"
        await house.make("guest", "admin", ttl_s=3600)
        assert await code_of(house.access.revoke_token(first["id"], "admin")) == "last_admin"
        second = await house.make("second", "admin")
        await house.access.revoke_token(first["id"], "admin")
        assert await code_of(house.access.revoke_token(second["id"], "second")) == "last_admin"
        assert await house.refused(house.first)

    asyncio.run(play())


def test_a_revoked_file_is_not_revived_and_a_second_one_gets_a_name() -> None:
    async def play() -> None:
        house = await House().opened()
        await house.store.write(lambda c: admin.ensure_known(c, house.occasion(), "other-secret"))
        assert {one["name"] for one in await house.listed()} == {"admin", "admin-2"}
        first = next(one for one in await house.listed() if one["name"] == "admin")
        await house.access.revoke_token(first["id"], "admin-2")
        house.pass_s(3600 * 24 * 400)
        await house.make("ci", "viewer")  # forgets the dead, but not this one
        await house.opened()
        assert await house.refused(house.first)
        assert len(await house.listed(whole=True)) == 3

    asyncio.run(play())


def test_the_dead_are_forgotten_after_a_month() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("one", "viewer")
        await house.access.revoke_token(made["id"], "admin")
        await house.make("two", "viewer", ttl_s=60)
        house.pass_s(tokens.DEAD_KEPT.total_seconds() + 61)
        await house.make("three", "viewer")
        assert {one["name"] for one in await house.listed(whole=True)} == {"admin", "three"}

    asyncio.run(play())


def test_use_is_noted_once_a_minute_and_never_in_the_way() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer")
        before = house.store.writes
        for _ in range(50):
            await house.door.principal_of(made["token"])
            house.pass_s(1.0)
        assert house.store.writes == before + 1
        house.store.full = True
        house.pass_s(30.0)
        await house.door.principal_of(made["token"])
        house.store.full = False
        house.pass_s(30.0)
        await house.door.principal_of(made["token"])
        assert house.store.writes == before + 2
        used = next(one for one in await house.listed() if one["name"] == "ci")["last_used_at"]
        assert used is not None

    asyncio.run(play())


def test_making_and_revoking_are_in_the_log_without_the_secret() -> None:
    async def play() -> None:
        house = await House().opened()
        made = await house.make("ci", "viewer")
        await house.access.revoke_token(made["id"], "admin")
        lines = (await house.access.audit(Wanted()))["lines"]
        assert [(one["who"], one["what"], one["target"]) for one in lines] == [
            ("admin", "token_revoke", "ci"),
            ("admin", "token_create", "ci"),
            ("core", "token_create", "admin"),
        ]
        assert made["token"] not in str(lines)

    asyncio.run(play())


def test_pages_of_tokens_lose_none() -> None:
    async def play() -> None:
        house = await House().opened()
        for number in range(12):
            await house.make(f"t{number}", "viewer")
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await house.access.list_tokens(after, 5, whole=False)
            seen += [one["name"] for one in page["tokens"]]
            after = page["next"]
        assert sorted(seen) == sorted(["admin", *(f"t{number}" for number in range(12))])

    asyncio.run(play())


def test_what_is_over_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to revoke some, one must be able to go on after that."""
    monkeypatch.setattr(tokens, "TOKENS_MAX", 3)

    async def play() -> None:
        house = await House().opened()
        body = {"role": "viewer", "ttl_s": 60}
        made = [await house.access.create_token({"name": name, **body}, "a") for name in "bc"]
        with pytest.raises(Refused, match="revoke some") as caught:
            await house.access.create_token({"name": "d", **body}, "a")
        assert caught.value.code == "too_many"
        await house.access.revoke_token(made[0]["id"], "a")
        await house.access.create_token({"name": "d", **body}, "a")
        listed = await house.access.list_tokens("", 10, whole=True)
        assert {one["name"] for one in listed["tokens"]} == {"admin", "c", "d"}

    asyncio.run(play())
