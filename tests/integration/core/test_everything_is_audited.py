"""Every operation that changes something leaves exactly one line in the audit log, and says who.

One recipe per operation, so that a new one cannot be forgotten: what must be there before, and the
request. Requests are sent by a token of their own, whose name the line must bear.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.core.api.description import OPERATIONS
from tests.fakes.core_process import CoreProcess
from tests.fakes.plain_node import PlainNode

pytestmark = pytest.mark.timeout(60)
WHO = "anna"
SECRET_WORD = "do-not-log-me"  # in payloads, metadata and reasons that are no business of the log
FAR = "2099-01-01T00:00:00Z"
NOWHERE = "http://127.0.0.1:9/hook"
CHANGES_NOTHING = {
    "POST /v1/rules/test", "POST /v1/webhooks/{id}/test",
}  # fmt: skip
NOT_BY_TOKEN = {"POST /v1/links/{token}"}
"""What a link stands for is recorded under the name of whom it was made for."""


class Stage:
    """A core with a node, and ways to get things into a certain state."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core
        self.node = PlainNode(core.url, core.token, "n1", env="prod")
        self._numbers = itertools.count(1)
        self.admin = httpx.Client(
            base_url=core.url, headers={"authorization": f"Bearer {core.token}"}, timeout=20
        )
        made = self.do("POST", "/v1/tokens", {"name": WHO, "role": "admin"})
        self.anna = httpx.Client(
            base_url=core.url, headers={"authorization": f"Bearer {made['token']}"}, timeout=20
        )

    def new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def do(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.admin.request(method, path, json=body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def lines(self) -> int:
        found = self.do("GET", "/v1/audit/verify")
        assert found["ok"]
        checked: int = found["checked"]
        return checked

    def newest(self) -> dict[str, Any]:
        line: dict[str, Any] = self.do("GET", "/v1/audit?limit=1")["lines"][0]
        return line

    def dispatched(self, **more: Any) -> str:
        name = self.new("a")
        body = {"id": name, "kind": "sleep", "node": "n1", "payload": {"x": SECRET_WORD}, **more}
        self.do("POST", "/v1/dispatch", body)
        return name

    def waiting(self) -> str:
        return self.dispatched(from_date=FAR)

    def ended(self) -> str:
        name = self.dispatched()
        self.node.pull()
        self.node.run(name)
        return name

    def asked(self) -> tuple[str, str]:
        """An action that waits for a person, and the question."""
        name = self.dispatched(risk_level="dangerous")
        page = self.do("GET", f"/v1/approvals?action_id={name}")
        return name, page["approvals"][0]["id"]

    def rule(self) -> str:
        name = self.new("r")
        self.do("POST", "/v1/recurring", rule(name))
        return name

    def webhook(self) -> str:
        made: str = self.do("POST", "/v1/webhooks", {"url": NOWHERE})["id"]
        return made

    def freeze(self) -> str:
        body = {"node": "n1", "kind": "other", "reason": "test"}
        made: str = self.do("POST", "/v1/agents/freeze", body)["id"]
        return made

    def spare_node(self) -> str:
        return PlainNode(self.core.url, self.core.token, self.new("spare")).id


def rule(name: str) -> dict[str, Any]:
    return {"id": name, "kind": "sleep", "node": "n1", "schedule": {"cron": "0 3 1 1 *"}}


def action(**more: Any) -> dict[str, Any]:
    return {"kind": "sleep", "node": "n1", "metadata": {"x": SECRET_WORD}, **more}


def correlated(stage: Stage) -> str:
    name = stage.new("c")
    stage.dispatched(from_date=FAR, correlation_id=name)
    return name


def enrolment(stage: Stage) -> str:
    stage.do("POST", "/v1/enrollment-tokens", {"node": "new2"})
    listed = stage.do("GET", "/v1/enrollment-tokens")["tokens"]
    made: str = next(one["id"] for one in listed if one["node"] == "new2")
    return made


def replaced(stage: Stage) -> tuple[str, Any]:
    name = stage.rule()
    return f"/v1/recurring/{name}", rule(name) | {"schedule": {"cron": "0 4 1 1 *"}}


def paused(stage: Stage) -> str:
    name = stage.rule()
    stage.do("POST", f"/v1/recurring/{name}/pause")
    return name


def disabled(stage: Stage) -> str:
    name = stage.webhook()
    stage.do("POST", f"/v1/webhooks/{name}/disable")
    return name


def token(stage: Stage) -> str:
    made: str = stage.do("POST", "/v1/tokens", {"name": stage.new("t"), "role": "viewer"})["id"]
    return made


Recipe = Callable[[Stage], tuple[str, Any]]
"""The path and the body of the request, after what must be there was made."""

RECIPES: dict[str, Recipe] = {
    "POST /v1/dispatch": lambda s: ("/v1/dispatch", action()),
    "POST /v1/dispatch/batch": lambda s: ("/v1/dispatch/batch", {"actions": [action()]}),
    "POST /v1/actions/{id}/cancel": lambda s: (
        f"/v1/actions/{s.waiting()}/cancel", {"reason": "enough"},
    ),
    "POST /v1/actions/cancel": lambda s: (
        f"/v1/actions/cancel?correlation_id={correlated(s)}", {"reason": "enough"},
    ),
    "POST /v1/actions/{id}/reschedule": lambda s: (
        f"/v1/actions/{s.waiting()}/reschedule", {"from_date": "2098-01-01T00:00:00Z"},
    ),
    "POST /v1/actions/{id}/retry": lambda s: (f"/v1/actions/{s.ended()}/retry", None),
    "POST /v1/actions/{id}/nudge": lambda s: (f"/v1/actions/{s.dispatched()}/nudge", None),
    "POST /v1/actions/{id}/approve": lambda s: (f"/v1/actions/{s.asked()[0]}/approve", None),
    "POST /v1/actions/{id}/reject": lambda s: (f"/v1/actions/{s.asked()[0]}/reject", None),
    "POST /v1/approvals/{id}/approve": lambda s: (f"/v1/approvals/{s.asked()[1]}/approve", None),
    "POST /v1/approvals/{id}/reject": lambda s: (f"/v1/approvals/{s.asked()[1]}/reject", None),
    "POST /v1/approvals/{id}/links": lambda s: (f"/v1/approvals/{s.asked()[1]}/links", None),
    "PATCH /v1/agents/{agent}": lambda s: ("/v1/agents/n1", {"labels": {"tier": s.new("t")}}),
    "POST /v1/agents/{agent}/nudge": lambda s: ("/v1/agents/n1/nudge", None),
    "POST /v1/agents/nudge": lambda s: ("/v1/agents/nudge", {"selector": "env=prod"}),
    "POST /v1/agents/{agent}/decommission": lambda s: (
        f"/v1/agents/{s.spare_node()}/decommission", {"reason": "gone"},
    ),
    "POST /v1/agents/freeze": lambda s: (
        "/v1/agents/freeze", {"node": "n1", "kind": "other", "reason": "test"},
    ),
    "POST /v1/agents/thaw": lambda s: ("/v1/agents/thaw", {"id": s.freeze()}),
    "POST /v1/enrollment-tokens": lambda s: ("/v1/enrollment-tokens", {"node": "new1"}),
    "DELETE /v1/enrollment-tokens/{token}": lambda s: (
        f"/v1/enrollment-tokens/{enrolment(s)}", None,
    ),
    "POST /v1/recurring": lambda s: ("/v1/recurring", rule(s.new("r"))),
    "PUT /v1/recurring/{id}": replaced,
    "DELETE /v1/recurring/{id}": lambda s: (f"/v1/recurring/{s.rule()}", None),
    "POST /v1/recurring/{id}/pause": lambda s: (f"/v1/recurring/{s.rule()}/pause", None),
    "POST /v1/recurring/{id}/resume": lambda s: (f"/v1/recurring/{paused(s)}/resume", None),
    "POST /v1/recurring/{id}/run": lambda s: (f"/v1/recurring/{s.rule()}/run", None),
    "POST /v1/recurring/{id}/backfill": lambda s: (
        f"/v1/recurring/{s.rule()}/backfill",
        {"from": "2025-01-01T00:00:00Z", "to": "2025-01-02T00:00:00Z"},
    ),
    "POST /v1/rules/reload": lambda s: ("/v1/rules/reload", None),
    "POST /v1/webhooks": lambda s: ("/v1/webhooks", {"url": NOWHERE}),
    "DELETE /v1/webhooks/{id}": lambda s: (f"/v1/webhooks/{s.webhook()}", None),
    "POST /v1/webhooks/{id}/enable": lambda s: (f"/v1/webhooks/{disabled(s)}/enable", None),
    "POST /v1/webhooks/{id}/disable": lambda s: (f"/v1/webhooks/{s.webhook()}/disable", None),
    "POST /v1/tokens": lambda s: ("/v1/tokens", {"name": s.new("t"), "role": "viewer"}),
    "DELETE /v1/tokens/{id}": lambda s: (f"/v1/tokens/{token(s)}", None),
}  # fmt: skip
ELSEWHERE = {
    "POST /v1/webhooks/{id}/failures/{row}/retry", "DELETE /v1/webhooks/{id}/failures/{row}",
}  # fmt: skip
"""Dead letters take a receiver that refuses for long: the webhooks' own tests have them."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("audited")
    (directory / "rules").mkdir()
    core = CoreProcess(directory / "core", rules_dir=directory / "rules").start()
    yield Stage(core)
    core.stop()


def test_every_operation_that_changes_something_has_a_recipe() -> None:
    changing = {f"{one.method} {one.path}" for one in OPERATIONS if one.role}
    changing = {name for name in changing if not name.startswith("GET ")}
    assert set(RECIPES) | CHANGES_NOTHING | ELSEWHERE == changing


@pytest.mark.parametrize("name", RECIPES)
def test_a_change_leaves_one_line(stage: Stage, name: str) -> None:
    path, body = RECIPES[name](stage)
    before = stage.lines()
    answer = stage.anna.request(name.partition(" ")[0], path, json=body)
    assert answer.status_code < 300, answer.text
    assert stage.lines() == before + 1
    line = stage.newest()
    assert line["who"] == WHO
    assert line["what"]
    assert SECRET_WORD not in str(line)
    told = answer.json() if answer.content else {}
    for secret in ("token", "secret", "approve", "reject"):
        assert str(told.get(secret, "-nothing-")) not in str(line)


@pytest.mark.parametrize("name", RECIPES)
def test_what_was_refused_leaves_none(stage: Stage, name: str) -> None:
    """A body that nobody can read changes nothing, and an unknown parameter neither."""
    path, _ = RECIPES[name](stage)
    before = stage.lines()
    for query, content in (("no_such=1", b"{}"), ("", b"{")):
        joined = path + ("&" if "?" in path else "?") + query
        answer = stage.anna.request(name.partition(" ")[0], joined, content=content)
        if answer.status_code < 300:  # it takes no body, and did not look at it
            assert stage.lines() == before + 1
            continue
        assert answer.status_code in (400, 422), answer.text
        assert stage.lines() == before


def test_what_changes_nothing_leaves_no_line(stage: Stage) -> None:
    before = stage.lines()
    stage.do("POST", "/v1/dispatch?dry_run=true", action())
    stage.do("POST", "/v1/rules/test", {"action": action()})
    for path in ("/v1/actions", "/v1/agents", "/v1/tokens", "/v1/audit", "/v1/events"):
        stage.do("GET", path)
    assert stage.lines() == before
