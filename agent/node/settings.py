"""What `agentd` can be told: by file, environment (`AGENT_…`) or flag (docs/operations.md)."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.ids import is_id
from agent.domain.labels import require_labels
from agent.domain.schedule.zones import zone_of
from agent.infra.config import (
    Setting,
    as_count,
    as_listen,
    as_path,
    as_text,
    as_url,
    as_word,
    load_settings,
)
from agent.infra.logs import LEVELS
from agent.infra.zone import system_zone

RETENTION_DAYS_DEFAULT = 30
_HH_MM = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
FINISHED_MAX_DEFAULT = 100_000
OUTPUT_BYTES_MAX_DEFAULT = 1 << 30


def _agent_id(value: Any) -> str:
    text = as_text(value)
    if not is_id(text):
        raise ValueError(f"{shown(text)} is not an id: A–Z a–z 0–9 . _ : @ -, at most 128")
    return text


def _labels(value: Any) -> dict[str, str]:
    """A table of texts, or `k=v,k=v`, or a list of `k=v`."""
    given = value if isinstance(value, dict) else _listed_labels(value)
    try:
        return require_labels(given)
    except InvalidDocument as error:
        raise ValueError("; ".join(fault.message for fault in error.faults)) from None


def _listed_labels(value: Any) -> dict[str, str]:
    if not isinstance(value, str | list):
        raise ValueError(f'must be a table such as {{env = "prod"}}, not {shown(value)}')
    parts = value.split(",") if isinstance(value, str) else value
    given: dict[str, str] = {}
    for part in (str(part).strip() for part in parts):
        key, equals, text = part.partition("=")
        if not equals:
            raise ValueError(f"{shown(part)} is not a label such as env=prod")
        if key.strip() in given:
            raise ValueError(f"the label {key.strip()!r} is given twice")
        given[key.strip()] = text.strip()
    return given


def _time_of_day(value: Any) -> str:
    text = as_text(value)
    if not _HH_MM.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a time of day such as 03:17")
    return text


def _zone(value: Any) -> str:
    text = as_text(value)
    zone_of(text)  # its ValueError says which name is near
    return text


SETTINGS: Mapping[str, Setting] = {
    "state_dir": Setting(as_path, None, "where agent.db, runs/, agent.sock and lock live"),
    "scripts_dir": Setting(as_path, None, "the catalogue: one executable per kind"),
    "agent_id": Setting(_agent_id, None, "this node's name; default: the host's"),
    "labels": Setting(_labels, {}, "what this node is called by selectors, as env=prod,role=db"),
    "core": Setting(as_url, None, "the core's URL; none: the node works alone"),
    "enroll_token": Setting(as_text, None, "single-use token, needed once"),
    "listen": Setting(as_listen, None, "HOST:PORT for the API besides the Unix socket"),
    "max_parallel": Setting(as_count(1, 128), 8, "how many parallel kinds run at once"),
    "max_queued": Setting(as_count(1, 10**7), 10_000, "bound on due actions submitted here"),
    "max_pending": Setting(as_count(1, 10**8), 1_000_000, "bound on future actions"),
    "keep_days": Setting(as_count(1, 3650), RETENTION_DAYS_DEFAULT, "age of pruned actions"),
    "keep_finished": Setting(as_count(1, 10**8), FINISHED_MAX_DEFAULT, "how many are kept"),
    "backup_at": Setting(_time_of_day, None, "HH:MM, local; default: a minute of the night"),
    "backups_kept": Setting(as_count(0, 100), 3, "verified copies of agent.db; 0: none are made"),
    "output_bytes_max": Setting(
        as_count(1 << 20, 1 << 50), OUTPUT_BYTES_MAX_DEFAULT, "of all scripts' outputs together"
    ),
    "timezone": Setting(_zone, None, "of schedules that name none; default: the machine's"),
    "stop_grace_s": Setting(as_count(1, 3600), 5, "for requests under way when agentd stops"),
    "runner": Setting(as_word("own", "external"), "own", "external: another unit starts it"),
    "runner_socket": Setting(as_path, None, "default: runner.sock in the state directory"),
    "log_level": Setting(as_word(*LEVELS), "info", "least severity that is logged"),
    "log_format": Setting(as_word("auto", "json", "text"), "auto", "auto: text on a terminal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `agentd` was told, checked."""

    state_dir: Path
    scripts_dir: Path
    agent_id: str
    labels: Mapping[str, str]
    core: str | None
    enroll_token: str | None
    listen: tuple[str, int] | None
    max_parallel: int
    max_queued: int
    max_pending: int
    keep_days: int
    keep_finished: int
    backup_at: str | None
    backups_kept: int
    output_bytes_max: int
    timezone: str
    stop_grace_s: int
    runner: str
    runner_socket: Path
    log_level: str
    log_format: str


def read_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None
) -> Settings:
    """All sources together. Raises `InvalidDocument` with every fault of all of them."""
    faults: list[Fault] = []
    try:
        values = load_settings(SETTINGS, prefix="AGENT_", environ=environ, flags=flags, file=file)
    except InvalidDocument as error:
        faults += error.faults
        values = {key: flags.get(key) for key in SETTINGS}
    for key in ("state_dir", "scripts_dir"):
        named = flags.get(key) or environ.get(f"AGENT_{key.upper()}")
        if values[key] is None and not named:
            faults.append(Fault(f"--{key.replace('_', '-')}", "is missing"))
    if faults:
        raise InvalidDocument(faults)
    values["agent_id"] = values["agent_id"] or socket.gethostname()
    values["timezone"] = values["timezone"] or system_zone()
    values["runner_socket"] = values["runner_socket"] or values["state_dir"] / "runner.sock"
    return Settings(**values)
