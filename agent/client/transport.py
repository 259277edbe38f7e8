"""HTTP to the core: one request, repeated where that cannot do harm. The client's only httpx.

A request that never reached the core, or that it could not take (503), is always sent again; one
whose answer was lost only if the caller says that it may be. Lost is also what a proxy gave up on
(502, 504), and what the core's database may have stored or not (503 `unavailable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent.client.errors import CoreError, CoreRefused, CoreUnreachable
from agent.client.outcome import read_faults
from agent.wire import strict_json

ANSWER_S_MAX = 30.0  # beyond what the request itself asks to wait
PAUSE_S_FIRST = 0.2
PAUSE_S_MAX = 5.0
_AGAIN = frozenset({502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `wait_s` is how long the core may take on purpose."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    wait_s: float = 0.0


class Transport:
    """Requests with a token. `pause` sleeps between repeats."""

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        token: str | None,
        *,
        retries: int,
        pause: Callable[[float], None],
    ) -> None:
        self._http = http
        self._url = _checked(url).rstrip("/")
        self._headers = {"accept": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._retries = retries
        self._pause = pause

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float = 0.0,
        repeatable: bool = True,
    ) -> Any:
        """The answer's document; None where there is none. Raises `CoreRefused`, `CoreUnreachable`.

        `repeatable` tells whether doing it twice is the same as doing it once.
        """
        request = Ask(method, path, query or {}, body, wait_s)
        return self.call_noting(request, repeatable=repeatable)[0]

    def call_noting(self, ask: Ask, *, repeatable: bool = True) -> tuple[Any, bool]:
        """`call`, and whether an earlier try of it may have been done too."""
        maybe_done = False
        for turn in range(self._retries + 1):
            last = turn == self._retries
            try:
                answer = self._send(ask)
            except httpx.TransportError as error:
                maybe_done = maybe_done or not isinstance(error, _NEVER_SENT)
                if last or (maybe_done and not repeatable):
                    raise self._unreachable(ask, error, maybe_done=maybe_done) from error
            else:
                over = last or answer.status_code not in _AGAIN
                maybe_done = maybe_done or _leaves_it_open(answer)
                if over or (maybe_done and not repeatable):
                    return _read(answer, maybe_done=maybe_done), maybe_done
            self._pause(min(PAUSE_S_MAX, PAUSE_S_FIRST * 2**turn))
        raise AssertionError("the last turn returns or raises")

    def _send(self, ask: Ask) -> httpx.Response:
        headers = dict(self._headers)
        content = None
        if ask.body is not None:
            content = strict_json.encode(ask.body)
            headers["content-type"] = "application/json"
        return self._http.request(
            ask.method,
            self._url + ask.path,
            params={key: _plain(value) for key, value in ask.query.items() if value is not None},
            content=content,
            headers=headers,
            timeout=ANSWER_S_MAX + ask.wait_s,
            follow_redirects=False,
        )

    def _unreachable(self, ask: Ask, error: Exception, *, maybe_done: bool) -> CoreUnreachable:
        what = str(error) or type(error).__name__
        changes = maybe_done and ask.method != "GET"
        doubt = "; it may have been done all the same" if changes else ""
        return CoreUnreachable(
            f"no answer from {self._url} to {ask.method} {ask.path}: {what}{doubt}",
            maybe_done=maybe_done,
        )


def _checked(url: str) -> str:
    """What could never be reached is said at once, and not after all repeats."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise CoreError(f"{url!r} is not a URL such as http://host:8080")
    return url


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _leaves_it_open(answer: httpx.Response) -> bool:
    """Whether the answer does not say if the request was done."""
    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
        return answer.status_code in _AGAIN
    return b'"unavailable"' in answer.content


def _read(answer: httpx.Response, *, maybe_done: bool) -> Any:
    if answer.status_code == httpx.codes.NO_CONTENT:
        return None
    try:
        document = strict_json.decode(answer.content)
    except strict_json.NotJson as error:
        raise CoreUnreachable(
            f"{answer.request.url} answered {answer.status_code} with what is not the core's: "
            f"{error}",
            maybe_done=True,
        ) from None
    if answer.is_success:
        return document
    told = document if isinstance(document, dict) else {}
    raise CoreRefused(
        answer.status_code,
        str(told.get("error", "refused")),
        str(told.get("message", document)),
        read_faults(told.get("faults", ())),
        maybe_done=maybe_done,
    )
