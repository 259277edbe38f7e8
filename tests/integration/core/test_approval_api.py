"""Approvals over HTTP: roles, errors, and the links that lend an answer to who has no token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from agent.core.approvals import links
from agent.core.store.schema import actions, approvals, meta
from agent.wire.messages import Enroll
from tests.fakes.core_inside import CoreInside, core_inside

pytestmark = pytest.mark.timeout(60)
NODE = "web-1"
HTML = {"accept": "text/html,application/xhtml+xml"}
PAYLOAD = {"image": "<script>alert(1)</script>", "note": "a&b"}


class Scene:
    """A core with one node, an operator and an approver."""

    def __init__(self, core: CoreInside, operator: str, approver: str) -> None:
        self.core = core
        self.operator = operator
        self.approver = approver

    async def question(self, **fields: Any) -> dict[str, Any]:
        """Dispatch something guarded; what is asked about it."""
        body = {"kind": "work", "node": NODE, "risk_level": "guarded", "payload": PAYLOAD} | fields
        made = await self.core.ask("POST", "/v1/dispatch", token=self.operator, json=body)
        assert made.json()["outcome"] == "pending_approval", made.text
        where = {"action_id": made.json()["action_id"]}
        listed = await self.core.ask("GET", "/v1/approvals", params=where)
        found: dict[str, Any] = listed.json()["approvals"][0]
        return found

    async def links(self, question: dict[str, Any], **body: Any) -> dict[str, Any]:
        path = f"/v1/approvals/{question['id']}/links"
        made = await self.core.ask("POST", path, token=self.approver, json=body)
        assert made.status_code == 201, made.text
        assert made.headers["cache-control"] == "no-store"
        found: dict[str, Any] = made.json()
        return found

    async def state(self, question: dict[str, Any]) -> dict[str, Any]:
        got = await self.core.ask("GET", f"/v1/approvals/{question['id']}")
        found: dict[str, Any] = got.json()
        return found

    async def anybody(self, method: str, url: str, **more: Any) -> httpx.Response:
        """Without a token."""
        return await self.core.client.request(method, url, **more)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with core_inside() as core:
        token = (await core.core.roster.create_token(NODE, 3600))["token"]
        await core.core.nodes.enroll(Enroll(token=token, nonce="n"))
        yield Scene(core, await core.token("operator", "olga"), await core.token("approver", "ann"))


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        async with scene() as made:
            await story(made)

    asyncio.run(run())


def test_an_operator_asks_and_an_approver_decides() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        path = f"/v1/approvals/{question['id']}/approve"
        refused = await scene.core.ask("POST", path, token=scene.operator)
        assert refused.status_code == 403
        done = await scene.core.ask("POST", path, token=scene.approver, json={"reason": "ok"})
        assert (done.status_code, done.json()["state"], done.json()["decided_by"]) == (
            200, "approved", "ann",
        )  # fmt: skip
        again = await scene.core.ask("POST", path, token=scene.approver)
        assert (again.status_code, again.json()["error"]) == (409, "not_pending")
        assert "ann" in again.json()["message"]
        by_action = f"/v1/actions/{question['action_id']}/reject"
        late = await scene.core.ask("POST", by_action, token=scene.approver)
        assert (late.status_code, late.json()["error"]) == (409, "not_pending")

    play(story)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/approvals/nothing", None, 404),
        ("GET", "/v1/approvals/a%00b", None, 400),
        ("GET", "/v1/approvals?state=maybe", None, 422),
        ("GET", "/v1/approvals?after=99999999999999999999", None, 422),
        ("GET", "/v1/approvals?limit=0&nod=x", None, 422),
        ("GET", "/v1/approvals?node=a%00b", None, 400),
        ("POST", "/v1/approvals/nothing/approve", {}, 404),
        ("POST", "/v1/approvals/nothing/reject", {"reason": 7}, 422),
        ("POST", "/v1/approvals/nothing/reject", [], 422),
        ("POST", "/v1/approvals/nothing/links", {}, 404),
        ("POST", "/v1/approvals/nothing/links", {"ttl_s": 1, "for": 3, "x": 1}, 422),
        ("POST", "/v1/actions/nothing/approve", {}, 404),
        ("POST", "/v1/actions/a%00b/reject?owner=core", {}, 400),
        ("POST", "/v1/actions/nothing/approve?owner=me", {}, 422),
        ("GET", "/v1/links/nothing", None, 404),
        ("GET", "/v1/links/%C3%A9.%C3%A9", None, 404),
        ("GET", "/v1/links/a.a", None, 404),
        ("POST", "/v1/links/e30.e30", {}, 404),
        ("POST", "/v1/links/" + "x" * 5000, {}, 404),
        ("POST", "/v1/links/e30.e30", {"reason": []}, 422),
    ],
)
def test_what_makes_no_sense_is_told(method: str, path: str, body: Any, status: int) -> None:
    async def story(scene: Scene) -> None:
        answer = await scene.core.ask(method, path, json=body)
        assert answer.status_code == status, answer.text

    play(story)


def test_a_link_shows_what_is_asked_and_changes_nothing() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        assert made["approve"].startswith("http://core/v1/links/")
        for _ in range(3):  # a mail scanner, a chat's preview, a person
            page = await scene.anybody("GET", made["approve"], headers=HTML)
            assert page.status_code == 200
        assert (await scene.state(question))["state"] == "pending"
        text = page.text
        assert "<script>" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        for shown in (NODE, "work", "guarded", "olga", "ann", question["digest"], "a&amp;b"):
            assert shown in text, shown
        assert re.search(r'<form method="post">.*<button>Approve</button>', text)
        headers = page.headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["content-type"].startswith("text/html")

    play(story)


@pytest.mark.parametrize(("verdict", "state"), [("approve", "approved"), ("reject", "rejected")])
def test_the_button_decides_once(verdict: str, state: str) -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        done = await scene.anybody(
            "POST", made[verdict], headers=HTML, data={"reason": "from the phone"}
        )
        assert done.status_code == 200, done.text
        assert state in done.text
        now = await scene.state(question)
        assert (now["state"], now["decided_by"], now["reason"]) == (state, "ann", "from the phone")
        for path in (made["approve"], made["reject"]):
            for method in ("GET", "POST"):
                again = await scene.anybody(method, path, headers=HTML)
                assert again.status_code == 409
                assert "ann" in again.text
        audit = await scene.core.ask("GET", "/v1/audit", params={"what": verdict})
        [line] = audit.json()["lines"]
        assert (line["who"], line["detail"]["via"]) == ("ann", "link")

    play(story)


def test_a_link_for_somebody_says_so() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question, **{"for": "bob", "ttl_s": 600})
        assert made["acts_as"] == "link:bob"
        done = await scene.anybody("POST", made["approve"])
        assert done.json()["decided_by"] == "link:bob"
        audit = await scene.core.ask("GET", "/v1/audit", params={"what": "approve"})
        [line] = audit.json()["lines"]
        assert (line["who"], line["detail"]["decided_by"]) == ("ann", "link:bob")

    play(story)


def test_what_was_tampered_with_is_no_link() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        yes, no = (made[word].rpartition("/")[2] for word in ("approve", "reject"))
        body, _, mac = yes.partition(".")
        forged = [
            f"{body}.{no.partition('.')[2]}", f"{no.partition('.')[0]}.{mac}", body, f"{body}.",
            f"{body[:-4]}AAAA.{mac}", yes[:-2],
        ]  # fmt: skip
        for token in forged:
            for method in ("GET", "POST"):
                answer = await scene.anybody(method, f"/v1/links/{token}")
                assert answer.status_code == 404, token
        page = await scene.anybody("GET", f"/v1/links/{forged[0]}", headers=HTML)
        assert (page.status_code, page.headers["content-type"][:9]) == (404, "text/html")
        assert (await scene.state(question))["state"] == "pending"

    play(story)


def test_before_the_first_link_there_is_no_secret_to_guess() -> None:
    """An absent secret is not an empty one, with which anybody could seal."""

    async def story(scene: Scene) -> None:
        question = await scene.question()
        claim = links.Claim(a=question["id"], d=question["digest"], v="approved", m="ann", e=2**52)
        for secret in ("", "None"):
            answer = await scene.anybody("POST", f"/v1/links/{links.seal(claim, secret)}")
            assert answer.status_code == 404
        assert (await scene.state(question))["state"] == "pending"

    play(story)


def test_a_link_ends() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        secret = None
        await scene.links(question)

        def work(connection: Any) -> Any:
            row = connection.execute(select(approvals)).one()
            return row, connection.execute(select(meta.c.value)).scalars().all()

        row, known = await scene.core.core.dispatch._store.read(work)
        [secret] = known
        occasion = scene.core.core.dispatch._occasion()
        from dataclasses import replace

        from agent.domain.definition import ApprovalState

        past = replace(occasion, now=occasion.now - timedelta(hours=2))
        order = links.Order(ttl_s=3600)
        claim = links.claim_for(row, order, "ann", ApprovalState.APPROVED, past)
        answer = await scene.anybody("POST", f"/v1/links/{links.seal(claim, secret)}")
        assert (answer.status_code, answer.json()["error"]) == (410, "gone")
        long = links.claim_for(
            row, links.Order(ttl_s=30 * 86_400), "ann", ApprovalState.APPROVED, occasion
        )
        assert long.expires_at == row.expires_at, "not beyond the question itself"

    play(story)


def test_a_link_is_worth_what_its_maker_may() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        tokens = (await scene.core.ask("GET", "/v1/tokens")).json()["tokens"]
        [ann] = [one["id"] for one in tokens if one["name"] == "ann"]
        assert (await scene.core.ask("DELETE", f"/v1/tokens/{ann}")).status_code == 204
        for method in ("GET", "POST"):
            answer = await scene.anybody(method, made["approve"])
            assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert (await scene.state(question))["state"] == "pending"

    play(story)


def test_a_link_is_for_what_was_asked_then() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        when = {"from_date": "2099-01-01T00:00:00Z"}
        path = f"/v1/actions/{question['action_id']}/reschedule"
        moved = await scene.core.ask("POST", path, token=scene.operator, json=when)
        assert moved.status_code == 200, moved.text
        answer = await scene.anybody("POST", made["approve"])
        assert (answer.status_code, answer.json()["error"]) == (409, "not_pending")
        assert "superseded" in answer.json()["message"]

    play(story)


def test_the_links_secret_is_nowhere_to_be_read() -> None:
    async def story(scene: Scene) -> None:
        question = await scene.question()
        made = await scene.links(question)
        told = [
            (await scene.core.ask("GET", path)).text
            for path in ("/v1/audit", "/v1/approvals", f"/v1/approvals/{question['id']}")
        ]
        token = made["approve"].rpartition("/")[2]
        assert not any(token in text or token.partition(".")[2] in text for text in told)

    play(story)


SEED_004 = {
    "action_id": "0b7e6f0e-5a3c-4a55-9d3e-6f2a1c9b7d10",
    "created_at": 1620000000.0,
    "proposed_by": "supervisor",
    "correlation_id": "1c8f7a1f-6b4d-4b66-8e4f-7a3b2d0c8e21",
    "node": NODE,
    "service": "service-name",
    "action_type": "redeploy_service",
    "risk_level": "guarded",
    "confidence": 0.9,
    "approval_required": True,
    "autonomous_eligible": False,
    "status": "pending",
    "payload": {"service": "service-name"},
    "rollback_reference": None,
}
"""As the seed prints it, its placeholders filled in."""


def test_the_fourteen_fields_are_taken_kept_and_shown() -> None:
    async def story(scene: Scene) -> None:
        made = await scene.core.ask("POST", "/v1/dispatch", json=SEED_004)
        assert made.json()["outcome"] == "pending_approval", made.text
        action_id = made.json()["action_id"]
        assert action_id == SEED_004["action_id"]
        shown = (await scene.core.ask("GET", f"/v1/actions/{action_id}")).json()
        assert shown["phase"] == "PENDING_APPROVAL"
        assert (shown["id"], shown["kind"]) == (action_id, "redeploy_service")
        assert shown["created_at"] == "2021-05-03T00:00:00Z"
        same = set(SEED_004) - {"action_id", "created_at", "action_type", "status"}
        same -= {"rollback_reference"}
        assert {name: shown[name] for name in same} == {name: SEED_004[name] for name in same}
        with_more = SEED_004 | {
            "action_id": "second", "created_at": "2026-01-15T12:00:00Z",
            "rollback_reference": "state:previous",
        }  # fmt: skip
        await scene.core.ask("POST", "/v1/dispatch", json=with_more)
        second = (await scene.core.ask("GET", "/v1/actions/second")).json()
        assert second["rollback_reference"] == "state:previous"
        assert second["created_at"] == "2026-01-15T12:00:00Z"

    play(story)


def test_a_bad_document_is_refused_with_all_its_faults() -> None:
    async def story(scene: Scene) -> None:
        bad = {
            "action_id": "no spaces!", "created_at": "yesterday", "proposed_by": 7,
            "correlation_id": [], "node": "", "service": {}, "action_type": "Redeploy!",
            "risk_level": "harmless", "confidence": 1.5, "approval_required": "yes",
            "autonomous_eligible": 1, "status": "completed", "payload": [],
            "rollback_reference": 3,
        }  # fmt: skip
        answer = await scene.core.ask("POST", "/v1/dispatch", json=bad)
        assert answer.status_code == 422, answer.text
        told = {fault["path"].partition(".")[0] for fault in answer.json()["faults"]}
        names = {"action_id": "id", "action_type": "kind"}
        assert {names.get(name, name) for name in bad} <= told, told
        count = await scene.core.core.dispatch._store.read(
            lambda c: len(c.execute(select(actions.c.row)).all())
        )
        assert count == 0

    play(story)
