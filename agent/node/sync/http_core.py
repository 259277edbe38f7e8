"""The core over HTTP. The only module that knows httpx, imported when sync begins.

Whatever comes back is bounded before it is read whole; a redirect, a page of HTML or a body of
gigabytes is an unreachable core with a clear sentence, never an empty answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import msgspec

from agent.node.sync.port import CoreRefused, CoreUnreachable
from agent.wire import strict_json
from agent.wire.messages import (
    BODY_BYTES_MAX,
    INSTANCE_HEADER,
    PROTOCOL,
    PROTOCOL_HEADER,
    BadMessage,
    Enroll,
    Enrolled,
    ErrorAnswer,
    EventsAck,
    EventsPush,
    NodeReport,
    PullAnswer,
    StatePush,
    convert_message,
    decode_message,
)

CONNECT_S_MAX = 10.0
ANSWER_S_MAX = 30.0
BODY_S_MAX = 60.0  # for a whole body: each byte in time is not enough, it must end
POLL_SLACK_S = 15.0  # a poll is answered after its wait; later than this it was cut
M = TypeVar("M", bound=msgspec.Struct)


class HttpCore:
    """The `Core` port over one kept-alive client."""

    def __init__(self, url: str, *, instance: str, version: str) -> None:
        self._url = url
        self._version = version
        self._agent_id = ""
        self._credential = ""
        self.on_date: Callable[[datetime], None] = lambda _: None
        """Told the date of every good answer."""
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={
                INSTANCE_HEADER: instance,
                PROTOCOL_HEADER: str(PROTOCOL),
                "User-Agent": f"node-agent/{version}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a body is bounded as it comes, not as it inflates
            },
            follow_redirects=False,
            # Loading the authorities takes 5 MB, which a core without TLS does not need.
            verify=url.startswith("https:"),
            trust_env=False,  # a proxy from somebody's shell must not carry the credential
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4),
        )

    def identify(self, agent_id: str, credential: str) -> None:
        """Speak as this node from now on."""
        self._agent_id = agent_id
        self._credential = credential

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def enroll(self, token: str, nonce: str, agent_id: str | None) -> Enrolled:
        """Exchange a single-use token for a credential."""
        body = Enroll(token=token, nonce=nonce, agent_id=agent_id, version=self._version)
        enrolled: Enrolled = await self._call("POST", "/v1/agents/enroll", Enrolled, body=body)
        return enrolled

    async def pull(self, cursor: str, wait_s: float) -> PullAnswer:
        """Definitions and requests after `cursor`."""
        params = {"wait": f"{wait_s:g}"} | ({"cursor": cursor} if cursor else {})
        answer: PullAnswer = await self._call(
            "GET", self._path("actions"), PullAnswer, params=params, wait_s=wait_s
        )
        return answer

    async def push_events(self, push: EventsPush) -> EventsAck:
        """Hand over events."""
        ack: EventsAck = await self._call("POST", self._path("events"), EventsAck, body=push)
        return ack

    async def put_state(self, push: StatePush) -> None:
        """Hand over (a part of) everything this node has."""
        await self._call("PUT", self._path("state"), None, body=push)

    async def put_node(self, report: NodeReport) -> None:
        """Say what this node is."""
        await self._call("PUT", self._path("node"), None, body=report)

    def _path(self, what: str) -> str:
        return f"/v1/agents/{self._agent_id}/{what}"

    async def _call(
        self, method: str, path: str, answer: type[M] | None, *,
        body: msgspec.Struct | None = None, params: dict[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> Any:  # fmt: skip
        headers = {"Authorization": f"Bearer {self._credential}"} if self._credential else {}
        content = None if body is None else strict_json.encode(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        read_s = wait_s + POLL_SLACK_S if wait_s else ANSWER_S_MAX
        timeout = httpx.Timeout(CONNECT_S_MAX, read=read_s)
        try:
            async with (
                asyncio.timeout(CONNECT_S_MAX + read_s + BODY_S_MAX),
                self._client.stream(
                    method, path, content=content, params=params, headers=headers, timeout=timeout
                ) as response,
            ):
                data = await _read_bounded(response)
        except TimeoutError:
            text = f"the answer did not end within {BODY_S_MAX:g} s after its time"
            raise CoreUnreachable(f"{method} {self._url}{path}: {text}") from None
        except httpx.HTTPError as error:
            cut = wait_s > 0 and isinstance(error, httpx.ReadError | httpx.RemoteProtocolError
                                            | httpx.ReadTimeout)  # fmt: skip
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise CoreUnreachable(f"{method} {self._url}{path}: {text}", cut=cut) from None
        except httpx.InvalidURL as error:
            raise CoreUnreachable(f"{self._url}: {error}") from None
        found = self._interpret(f"{method} {self._url}{path}", response, data, answer)
        self._tell_date(response)
        return found

    def _tell_date(self, response: httpx.Response) -> None:
        """The Date of an answer that is the core's, and no proxy's page: what its clock shows."""
        try:
            date = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return
        if date.tzinfo is not None:
            self.on_date(date.astimezone(UTC))

    def _interpret(
        self, call: str, response: httpx.Response, data: bytes, answer: type[M] | None
    ) -> M | None:
        if response.is_success:
            if answer is None:
                return None
            try:
                return decode_message(data, answer)
            except (strict_json.NotJson, BadMessage) as error:
                raise CoreUnreachable(f"{call}: unusable answer: {error}") from None
        if response.is_redirect:
            to = response.headers.get("location", "nowhere")[:200]
            raise CoreUnreachable(
                f"{call}: redirected to {to}; redirects are not followed, configure the final URL"
            )
        raise _failure(call, response, data)


async def _read_bounded(response: httpx.Response) -> bytes:
    """The whole body, if it is small enough; never more than the bound in memory."""
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > BODY_BYTES_MAX:
        raise CoreUnreachable(_too_large(response, int(announced)))
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise CoreUnreachable(_too_large(response, size))
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(response: httpx.Response, size: int) -> str:
    return (
        f"{response.request.method} {response.request.url}: the answer has {size} bytes or more; "
        f"at most {BODY_BYTES_MAX} are read. Is this the core?"
    )


def _failure(call: str, response: httpx.Response, data: bytes) -> CoreRefused | CoreUnreachable:
    code, message, expected = _explain(data)
    text = f"{call}: {response.status_code} {code}: {message}"
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        return CoreUnreachable(text, retry_after_s=_retry_after_s(response))
    return CoreRefused(code, text, expected)


def _explain(data: bytes) -> tuple[str, str, int | None]:
    """What an error body says; a body that is none of ours is not believed to be one."""
    try:
        answer = convert_message(strict_json.decode(data), ErrorAnswer)
    except (strict_json.NotJson, BadMessage) as error:
        return "unexpected", f"the answer is not the core's: {error}", None
    return answer.error, answer.message, answer.expected


def _retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After in seconds; its date form is not used by the core and is left alone."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isdigit() else None
