"""What `cored` can be told: by file, environment (`CORE_…`) or flag (docs/core-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.state_dir import DATABASE_FILE
from agent.domain.errors import Fault, InvalidDocument
from agent.infra.config import Setting, as_listen, as_path, as_text, as_word, load_settings
from agent.infra.logs import LEVELS

SETTINGS: Mapping[str, Setting] = {
    "state_dir": Setting(as_path, None, "where core.db, admin.token, listen and lock live"),
    "listen": Setting(as_listen, ("127.0.0.1", 8080), "HOST:PORT; port 0 takes a free one"),
    "database": Setting(as_text, None, "URL; default: core.db in the state directory"),
    "log_level": Setting(as_word(*LEVELS), "info", "least severity that is logged"),
    "log_format": Setting(as_word("auto", "json", "text"), "auto", "auto: text on a terminal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `cored` was told, checked."""

    state_dir: Path
    listen: tuple[str, int]
    database: str
    log_level: str
    log_format: str


def read_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None
) -> Settings:
    """All sources together. Raises `InvalidDocument` with every fault of all of them."""
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    try:
        values = load_settings(SETTINGS, prefix="CORE_", environ=environ, flags=flags, file=file)
    except InvalidDocument as error:
        faults += error.faults
    # Known although faults hide the rest: the directory may come from a flag or the environment.
    if values.get("state_dir") is None and not (
        flags.get("state_dir") or "CORE_STATE_DIR" in environ
    ):
        faults.append(Fault("--state-dir", "is missing; or set CORE_STATE_DIR"))
    if faults:
        raise InvalidDocument(faults)
    if values["database"] is None:
        values["database"] = f"sqlite:///{values['state_dir'] / DATABASE_FILE}"
    return Settings(**values)
