"""The node's credential on disk: one file of mode 0600 in the state directory.

Kept out of the database, so that a copy of the database holds no secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import AgentError


@dataclass(frozen=True, slots=True)
class Credential:
    """Who this node is at the core, and the secret that proves it."""

    agent_id: str
    credential: str


class CredentialUnusable(AgentError):
    """The file is there and says nothing; the message says what to do."""


class CredentialFile:
    """Reads and replaces `credential` (and `enroll.nonce` while enrolment is under way)."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "credential"
        self._nonce = directory / "enroll.nonce"

    def read(self) -> Credential | None:
        """The credential, or None before enrolment. Raises `CredentialUnusable`."""
        try:
            document = json.loads(self._path.read_text())
            return Credential(document["agent_id"], document["credential"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CredentialUnusable(
                f"{self._path} cannot be used ({error}); enrol again after removing it"
            ) from None

    def write(self, credential: Credential) -> None:
        """Replace it atomically and durably; the nonce has done its work."""
        document = {"agent_id": credential.agent_id, "credential": credential.credential}
        write_private(self._path, json.dumps(document) + "\n")
        self._nonce.unlink(missing_ok=True)

    def put_aside(self) -> None:
        """Out of use, but kept: `credential.old`."""
        self._path.replace(self._path.with_name("credential.old"))

    def nonce(self, make: Callable[[], str]) -> str:
        """The same nonce for every try of one enrolment, also after a crash."""
        if self._nonce.exists():
            return self._nonce.read_text().strip()
        value = make()
        write_private(self._nonce, value + "\n")
        return value


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads: complete or not at all, and durable."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
