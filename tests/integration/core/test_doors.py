"""Every operation, asked: which role it needs, which parameters it takes, what it leaves behind.

In one process over an in-memory store: a parameter that nobody knows ends each request before it
does anything, so asking is free of consequences and never waits.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from agent.core.api.description import OPERATIONS
from agent.core.people.principal import Role
from agent.infra.openapi import Operation
from tests.fakes.core_inside import CoreInside, core_inside

pytestmark = pytest.mark.timeout(60)
LADDER = [role.value for role in Role]
OF_PEOPLE = [one for one in OPERATIONS if one.role]
OF_NODES = [one for one in OPERATIONS if one.scheme == "credential"]


def title(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def concrete(operation: Operation, name: str = "x") -> str:
    return re.sub(r"\{\w+\}", name, operation.path)


def known_in(answer: Any) -> set[str]:
    """The parameters that the endpoint says it takes."""
    body = answer.json()
    told = {fault["path"]: fault["message"] for fault in body["faults"]}
    assert "no_such" in told, body
    listed = told["no_such"].partition("known are ")[2]
    return set() if listed == "none" else set(listed.split(", "))


def test_every_role_may_do_what_is_written_and_nothing_else() -> None:
    async def play() -> list[str]:
        wrong = []
        async with core_inside() as core:
            tokens = {role: await core.token(role) for role in LADDER}
            for one in OF_PEOPLE:
                for role, token in tokens.items():
                    answer = await core.ask(one.method, f"{concrete(one)}?no_such=1", token=token)
                    may = LADDER.index(role) >= LADDER.index(one.role)
                    if (answer.status_code == 403) == may or answer.status_code == 401:
                        wrong.append(f"{title(one)} as {role}: {answer.status_code}")
                    if not may and one.role not in answer.json()["message"]:
                        wrong.append(f"{title(one)}: the 403 does not name the role")
        return wrong

    assert asyncio.run(play()) == []


async def _takes(core: CoreInside, one: Operation, **more: Any) -> str | None:
    answer = await core.ask(one.method, f"{concrete(one, 'n1')}?no_such=1", **more)
    if answer.status_code != 422:
        return f"{title(one)}: {answer.status_code} {answer.text[:200]}"
    described = {parameter.name for parameter in one.query}
    if known_in(answer) != described:
        return f"{title(one)}: takes {known_in(answer)}, described {described}"
    return None


def test_the_parameters_are_those_that_are_described() -> None:
    async def play() -> list[str]:
        async with core_inside() as core:
            made = await core.ask("POST", "/v1/enrollment-tokens", json={"node": "n1"})
            body = {"token": made.json()["token"], "nonce": "n"}
            enrolled = await core.client.post("/v1/agents/enroll", json=body)
            node: dict[str, Any] = {
                "token": enrolled.json()["credential"], "headers": {"agent-instance": "i1"},
            }  # fmt: skip
            found = [await _takes(core, one) for one in OF_PEOPLE]
            found += [await _takes(core, one, **node) for one in OF_NODES]
            found += [await _takes(core, one) for one in OPERATIONS if one.open]
        return [one for one in found if one]

    assert asyncio.run(play()) == []


def test_an_api_token_does_not_open_the_node_protocol_nor_the_reverse() -> None:
    async def play() -> None:
        async with core_inside() as core:
            for one in OF_NODES:
                answer = await core.ask(one.method, concrete(one), json={})
                assert answer.status_code == 401, title(one)
            made = await core.ask("POST", "/v1/enrollment-tokens", json={"node": "n1"})
            body = {"token": made.json()["token"], "nonce": "n"}
            enrolled = await core.client.post("/v1/agents/enroll", json=body)
            credential = enrolled.json()["credential"]
            for people in OF_PEOPLE:
                answer = await core.ask(people.method, concrete(people), token=credential)
                assert answer.status_code == 401, title(people)

    asyncio.run(play())
