"""Where the core is and with which token it is spoken to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.cli.api_client import ApiClient
from agent.cli.exits import USAGE, Failure

URL_DEFAULT = "http://127.0.0.1:8080"
TOKEN_BYTES_MAX = 4096


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
            token = self.token_file.read_bytes()[:TOKEN_BYTES_MAX].decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Failure(USAGE, "no_token", f"the token file {self.token_file}: {why}") from None
        if not token.isprintable() or " " in token:
            raise Failure(
                USAGE, "no_token", f"the token file {self.token_file} does not hold one token"
            )
        try:
            return ApiClient(self.url, token=token)
        except ValueError as error:
            raise Failure(USAGE, "bad_url", str(error)) from None
