"""What schemathesis needs to know of a core that it cannot read in the description.

Ids that exist, for paths and bodies (made-up ones never get past 404); a node's own credential for
the node protocol; and what would make a test wait, or leave this machine, bounded. `World` is one
running core with nodes, and with something of everything in several states.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import httpx
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation.case import Case
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from agent.core.api.description import describe_core
from tests.fakes.plain_node import PlainNode

NODES = ("n1", "n2")
SPARE = 6
WAIT_S = 0.05
REQUEST_S_MAX = 20.0
EXISTING_OF = 4  # three of four cases are about something that exists
FAR = "2099-01-01T00:00:00Z"
NOWHERE = "http://127.0.0.1:9/"  # nobody listens, and it is this machine
_LAST_WORD = re.compile(r"([a-z-]+)/\{(\w+)\}")
_LEADS_OUT = ("url", "api_url")
_EXISTING: dict[str, Any] = {
    "node": "n1", "kind": "sleep", "selector": "env=prod", "from_date": FAR, "until": FAR,
}  # fmt: skip
_AT_ODDS = ("to_date", "action_type", "should_be_executed", "created_at", "for_s", "requires")
"""What is right alone and wrong beside others; left out of what is to be accepted."""
_CONSUMING = re.compile(r"(approve|reject|links|decommission|reschedule|retry|/\{token\})$")
"""What can be done to a thing once: each case gets a new one."""

CHECKS: Any = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class World:
    """A core with something in it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._turn = itertools.count()
        self._client = httpx.Client(
            base_url=url, timeout=REQUEST_S_MAX, headers={"authorization": f"Bearer {token}"}
        )
        self._nodes: dict[str, PlainNode] = {}
        self._ids: dict[str, list[str]] = {}
        """By the word that stands before them in a path."""
        self._spare: list[str] = []

    def _do(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._client.request(method, path, json=body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def fill(self) -> World:
        """Nodes that have reported, actions that wait, run and have ended, and all the rest."""
        for name in NODES:
            self._nodes[name] = PlainNode(self.url, self._token, name, env="prod")
        self._spare = [f"spare{number}" for number in range(SPARE)]
        for name in self._spare:
            PlainNode(self.url, self._token, name)
        actions = ["queued", "runs", "done", "waits"]
        for name in actions[:3]:
            self._dispatch(name)
        self._dispatch("waits", from_date=FAR)
        node = self._nodes["n1"]
        node.pull()
        node.move("runs", "NULL", "STARTED", "due")
        node.run("done")
        self._ids = {
            "agents": list(NODES),
            "actions": [*actions, self._asked()[0]],
            "approvals": [self._asked()[1] for _ in range(2)],
            "recurring": [self._rule() for _ in range(2)],
            "webhooks": [self._made("webhooks", url=NOWHERE) for _ in range(2 * SPARE)],
            "failures": ["1"],
            "tokens": [self._made("tokens", name="t0", role="viewer")],
        }
        return self

    def _dispatch(self, name: str, **more: Any) -> None:
        self._do("POST", "/v1/dispatch", {"id": name, "kind": "sleep", "node": "n1", **more})

    def _made(self, what: str, **body: Any) -> str:
        made: str = self._do("POST", f"/v1/{what}", body)["id"]
        return made

    def _rule(self) -> str:
        name = self._name("rule")
        schedule = {"cron": "0 3 1 1 *"}
        body = {"id": name, "kind": "sleep", "node": "n1", "schedule": schedule}
        self._do("POST", "/v1/recurring", body)
        return name

    def _asked(self) -> tuple[str, str]:
        """An action that waits for a person, and the question."""
        name = self._name("asked")
        self._dispatch(name, risk_level="dangerous")
        page = self._do("GET", f"/v1/approvals?action_id={name}")
        return name, page["approvals"][0]["id"]

    def _link(self) -> str:
        made = self._do("POST", f"/v1/approvals/{self._asked()[1]}/links")
        return str(made["approve"]).rsplit("/", 1)[-1]

    def _ended(self) -> str:
        name = self._name("ended")
        self._dispatch(name)
        self._do("POST", f"/v1/actions/{name}/cancel", {})
        return name

    def _waiting(self) -> str:
        name = self._name("waits")
        self._dispatch(name, from_date=FAR)
        return name

    def _fresh(self, word: str, path: str) -> str:
        """A new one of these, for what can be done to it once."""
        if word == "actions":
            if path.endswith("retry"):
                return self._ended()
            return self._waiting() if path.endswith("reschedule") else self._asked()[0]
        if word == "agents":
            return self._spare[next(self._turn) % SPARE]
        if word == "enrollment-tokens":
            node = self._name("new")
            self._do("POST", "/v1/enrollment-tokens", {"node": node})
            listed = self._do("GET", "/v1/enrollment-tokens?limit=500")["tokens"]
            return next((str(one["id"]) for one in listed if one["node"] == node), "none")
        if word == "webhooks":  # there is room for a hundred, and others make them too
            there = self._do("GET", "/v1/webhooks")["webhooks"]
            return str(there[-1]["id"]) if there else self._made("webhooks", url=NOWHERE)
        if word == "tokens":
            return self._made("tokens", name=self._name("t"), role="viewer")
        made = {"approvals": lambda: self._asked()[1], "links": self._link, "recurring": self._rule}
        return made[word]()

    def _name(self, prefix: str) -> str:
        return f"{prefix}-{next(self._turn)}"

    def adapt(self, case: Case) -> dict[str, str]:
        """Make the case about what exists, mostly; the headers to send with it."""
        turn = next(self._turn)
        exists = bool(turn % EXISTING_OF)
        if exists:
            case.path_parameters = self._existing_path(case, turn)
        if isinstance(case.body, dict):
            case.body = self._tamed(dict(case.body), case, exists=exists)
        query: dict[str, Any] = dict(case.query or {})
        if isinstance(query.get("wait"), int | float) and query["wait"] > WAIT_S:
            case.query = {**query, "wait": WAIT_S}
        return self._headers(case)

    def _existing_path(self, case: Case, turn: int) -> dict[str, Any]:
        found: dict[str, Any] = dict(case.path_parameters or {})
        path = case.operation.path
        once = case.operation.method.upper() == "DELETE" or _CONSUMING.search(path)
        for word, name in _LAST_WORD.findall(path):
            if once and "failures" not in path:
                found[name] = self._fresh(word, path)
            elif known := self._ids.get(word):
                found[name] = known[turn % len(known)]
        return found

    def _tamed(self, body: dict[str, Any], case: Case, *, exists: bool) -> dict[str, Any]:
        for name in _LEADS_OUT:
            if isinstance(body.get(name), str):
                body[name] = NOWHERE
        path = case.operation.path
        if path == "/v1/dispatch/batch" and isinstance(body.get("actions"), list):
            body["actions"] = [
                self._placed(dict(one)) if exists and isinstance(one, dict) else one
                for one in body["actions"]
            ]
        elif exists and path == "/v1/agents/enroll":
            body["token"] = self._do("POST", "/v1/enrollment-tokens", {})["token"]
        elif exists:
            body = self._placed(body)
            if path in ("/v1/dispatch", "/v1/recurring") and "selector" not in body:
                body |= {"node": "n1", "kind": "sleep"}
            if path.startswith("/v1/recurring") and "schedule" in body:
                body |= {"schedule": {"cron": "0 3 1 1 *"}}
            if path == "/v1/recurring/{id}":
                body["id"] = (case.path_parameters or {}).get("id")
        return body

    def _placed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Where it can go, and nothing beside that contradicts."""
        body |= {name: word for name, word in _EXISTING.items() if name in body}
        at_odds = [*_AT_ODDS, *(["selector", "pick"] if "node" in body else [])]
        body = {name: value for name, value in body.items() if name not in at_odds}
        if "id" in body and "kind" in body:
            body["id"] = self._name("made")
        return body

    def _headers(self, case: Case) -> dict[str, str]:
        token = self._token
        if case.operation.tags == ["protocol"]:
            node = self._nodes.get(str((case.path_parameters or {}).get("agent")))
            token = "unknown" if node is None else node.credential
        return {"Authorization": f"Bearer {token}"}


def described() -> BaseSchema:
    """The description, as schemathesis reads it."""
    return schemathesis.openapi.from_dict(describe_core())


def ask(world: World, case: Case) -> int:
    """One request and its status; raises where the answer is not one that is written down.

    What a stream sends is bounded by not asking for one: `Accept` is never `text/event-stream`.
    """
    headers = world.adapt(case)
    answer = case.call(base_url=world.url, headers=headers, timeout=REQUEST_S_MAX)
    case.validate_response(answer, checks=CHECKS)
    return int(answer.status_code)
