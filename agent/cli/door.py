"""The way to this node's agentd: its socket first; for reading, its state directory next.

When nobody answers, the failure says why and what to do about it (DESIGN §6, "Commands").
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.cli.exits import EXITS, NOT_FOUND, REFUSED, UNREACHABLE, Failure, print_json
from agent.infra.unix_path import socket_address

if TYPE_CHECKING:  # each is loaded only on the way that is taken: agentctl has 0.2 s for all
    from agent.cli.api_client import ApiClient
    from agent.node.offline import OfflineState

STATE_DIR_DEFAULT = "/var/lib/node-agent"  # of the shipped units
SOCKET_FILE = "agent.sock"
ANSWER_S_MAX = 10.0
STARTING_S_MAX = 2.0  # from the lock to the socket a start takes a fraction of this
LOOK_AGAIN_S = 0.05
READ_ONLY_HINT = "status, list, recurring list, show, history and why also answer while it is down"

T = TypeVar("T")


class Node:
    """One node, as a command reaches it."""

    def __init__(self, state_dir: str | None, *, as_json: bool) -> None:
        named = state_dir or os.environ.get("AGENT_STATE_DIR") or STATE_DIR_DEFAULT
        self.state_dir = Path(named).expanduser().absolute()
        self.as_json = as_json
        self.down = False

    @property
    def socket(self) -> Path:
        """Where agentd listens."""
        return self.state_dir / SOCKET_FILE

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def ask(self, request: Callable[[ApiClient], T]) -> T:
        """What only a running agentd can do. Raises `Failure`."""
        why = self._dial()
        if why is not None:
            raise self._unreachable(*self._explain_silence(why))
        return self._request(request)

    def read(self, request: Callable[[ApiClient], T], offline: Callable[[OfflineState], T]) -> T:
        """From agentd, or from its database while it is down; `down` tells which."""
        until = time.monotonic() + STARTING_S_MAX
        while (why := self._dial()) is not None:
            if why.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.EACCES):
                raise self._unreachable(f"no answer from {self.socket}: {why.strerror or why}", "")
            found = self._read_offline(offline, patient=time.monotonic() < until)
            if found is not None:
                return found
            time.sleep(LOOK_AGAIN_S)
        return self._request(request)

    def answers(self) -> bool:
        """Whether somebody accepts on the socket; nothing is read, no lock is touched."""
        return self._dial() is None

    def tell_if_down(self) -> None:
        """For people: whose word this is."""
        if self.down:
            print(f"agentd is down; this is what {self.state_dir} says", file=sys.stderr)

    def print_json(self, document: dict[str, Any]) -> None:
        """One document, which says whether the daemon runs."""
        print_json({"daemon": "down" if self.down else "running", **document})

    def failure(self, exit_code: int, code: str, message: str, **more: Any) -> Failure:
        """A failure that is told as this command was asked to."""
        return Failure(exit_code, code, message, as_json=self.as_json, **more)

    def _dial(self) -> OSError | None:
        """Whether somebody accepts on the socket; why not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S_MAX)
            try:
                with socket_address(self.socket) as address:
                    sock.connect(address)
            except OSError as error:
                return error
        return None

    def _request(self, request: Callable[[ApiClient], T]) -> T:
        from agent.cli.api_client import ApiClient, ApiRefused, Unreachable  # noqa: PLC0415

        try:
            return request(ApiClient(self.socket, timeout_s=ANSWER_S_MAX))
        except Unreachable as error:
            raise self._unreachable(*self._explain_unanswered(error.cause)) from None
        except ApiRefused as error:
            exit_code = EXITS.get(error.status, REFUSED)
            raise self.failure(exit_code, error.code, str(error), faults=error.faults) from None

    def _read_offline(self, offline: Callable[[OfflineState], T], *, patient: bool) -> T | None:
        """None: a daemon has just taken the directory, its socket is worth another try."""
        from agent.domain.errors import AgentError, NotFound  # noqa: PLC0415
        from agent.node.offline import DaemonHolds, open_state  # noqa: PLC0415

        try:
            with open_state(self.state_dir) as state:
                self.down = True
                return offline(state)
        except NotFound as error:
            raise self.failure(NOT_FOUND, "not_found", str(error)) from None
        except DaemonHolds as error:
            if patient:
                return None
            raise self._unreachable(*_holding(error, self.socket)) from None
        except AgentError as error:
            raise self._unreachable(str(error), "") from None

    def _explain_silence(self, why: OSError) -> tuple[str, str]:
        """Why nobody accepts, and what to do."""
        if why.errno == errno.EACCES:
            return (
                f"no permission to use {self.socket}",
                "be root or the agent's user, as with sudo",
            )
        if not self.state_dir.is_dir():
            return (
                f"there is no state directory {self.state_dir}",
                "name it with --state-dir DIR or AGENT_STATE_DIR",
            )
        if why.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            return f"no answer from {self.socket}: {why.strerror or why}", ""
        from agent.domain.errors import AgentError  # noqa: PLC0415
        from agent.node.offline import DaemonHolds, open_state  # noqa: PLC0415

        try:
            with open_state(self.state_dir):
                pass
        except DaemonHolds as error:
            return _holding(error, self.socket)
        except AgentError as error:
            return f"agentd is not running: {error}", "start it"
        gone = "was killed" if why.errno == errno.ECONNREFUSED else "is not running"
        return (
            f"agentd {gone}: nobody listens on {self.socket}",
            f"start it, as with `systemctl start agentd`; {READ_ONLY_HINT}",
        )

    def _explain_unanswered(self, cause: Exception) -> tuple[str, str]:
        if isinstance(cause, TimeoutError):
            return (
                f"agentd took the connection but did not answer within {ANSWER_S_MAX:g} s",
                "it hangs or is stopped; its log may say why, and a restart of it is safe",
            )
        return (
            f"agentd went away before it answered: {cause}",
            "it is being stopped or restarted; try again",
        )

    def _unreachable(self, message: str, hint: str) -> Failure:
        return self.failure(UNREACHABLE, "unreachable", message, hint=hint)


def _holding(error: Exception, socket_path: Path) -> tuple[str, str]:
    return (
        f"{error}, but does not answer on {socket_path}",
        "it is still starting, or hangs: its log says which; a restart of it is safe",
    )
