"""Where the core is and with which token it is spoken to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from agent.cli.api_client import ApiClient, ApiRefused, Unreachable
from agent.cli.exits import USAGE, Failure

URL_DEFAULT = "http://127.0.0.1:8080"
TOKEN_FILE = "admin.token"  # noqa: S105  (a file's name, not a token)
TOKEN_BYTES_MAX = 4096
WRITTEN_S_MAX = 3.0  # a cored that starts for the first time takes a fraction of it
LOOK_AGAIN_S = 0.05
_NOT_YET = (
    "cored writes admin.token into its state directory on its first start: has it started there, "
    "and is that its name?"
)


@dataclass(frozen=True, slots=True)
class CoreContext:
    """The flags in front of the subcommand."""

    url: str
    token_file: Path | None

    def client(self) -> ApiClient:
        """A client that speaks as the operator. Raises `Failure`."""
        if self.token_file is None:
            raise Failure(
                USAGE,
                "no_token",
                "no token: give --token-file or CORE_TOKEN_FILE; cored writes admin.token into "
                "its state directory on its first start",
            )
        try:
            data, just_written = _read(self.token_file)
            token = data.decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            hint = _NOT_YET if isinstance(error, FileNotFoundError) else ""
            raise Failure(
                USAGE, "no_token", f"the token file {self.token_file}: {why}", hint=hint
            ) from None
        if not token:
            raise Failure(USAGE, "no_token", f"the token file {self.token_file} is empty")
        if not token.isprintable() or " " in token:
            raise Failure(
                USAGE, "no_token", f"the token file {self.token_file} does not hold one token"
            )
        try:
            client = ApiClient(self.url, token=token)
        except ValueError as error:
            raise Failure(USAGE, "bad_url", str(error)) from None
        if just_written:
            _until_it_listens(client)
        return client


def _read(path: Path) -> tuple[bytes, bool]:
    """The file, and whether it was waited for: a cored may be starting for the first time."""
    is_cored_s = path.name == TOKEN_FILE
    deadline = time.monotonic() + (WRITTEN_S_MAX if is_cored_s else 0.0)
    waited = False
    while True:
        try:
            return path.read_bytes()[:TOKEN_BYTES_MAX], waited
        except FileNotFoundError:
            if time.monotonic() >= deadline:
                raise
        waited = True
        time.sleep(LOOK_AGAIN_S)


def _until_it_listens(client: ApiClient) -> None:
    """The token is written a moment before; whoever does not listen even then is told as ever."""
    deadline = time.monotonic() + WRITTEN_S_MAX
    while time.monotonic() < deadline:
        try:
            client.get("/healthz")
        except Unreachable:
            time.sleep(LOOK_AGAIN_S)
        except ApiRefused:
            return
        else:
            return
