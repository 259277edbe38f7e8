"""What `cored` can be told: by file, environment (`CORE_…`) or flag (docs/core-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.actions.targets import Target, parse_default_target
from agent.core.events.patience import ATTEMPTS_MAX, RETRY_S, Patience
from agent.core.keep import KEEP_DAYS_DEFAULT, KEEP_EVENTS_DEFAULT, Keep
from agent.core.nodes.silence import LOST_AFTER_S, SILENT_AFTER_S, Lease
from agent.core.state_dir import DATABASE_FILE
from agent.domain.approval import (
    MIN_CONFIDENCE_DEFAULT,
    TTL_S_DEFAULT,
    TTL_S_MAX,
    ApprovalMode,
    ApprovalPolicy,
)
from agent.domain.errors import Fault, InvalidDocument
from agent.infra.config import (
    Setting,
    as_count,
    as_flag,
    as_listen,
    as_number,
    as_path,
    as_text,
    as_url,
    as_word,
    load_settings,
)
from agent.infra.logs import LEVELS

SETTINGS: Mapping[str, Setting] = {
    "state_dir": Setting(as_path, None, "where core.db, admin.token, listen and lock live"),
    "listen": Setting(as_listen, ("127.0.0.1", 8080), "HOST:PORT; port 0 takes a free one"),
    "database": Setting(as_text, None, "URL; default: core.db in the state directory"),
    "public_url": Setting(as_url, None, "how people reach this core; for links in chat or mail"),
    "approval_mode": Setting(
        as_word(*[mode.value for mode in ApprovalMode]),
        ApprovalMode.SUPERVISED.value,
        "what goes without a person: nothing, what is safe, what the policy approves",
    ),
    "min_confidence": Setting(
        as_number(0, 1), MIN_CONFIDENCE_DEFAULT, "of a proposal that a rule may approve"
    ),
    "four_eyes": Setting(as_flag, False, "nobody approves what was asked for under the same name"),
    "approval_ttl_s": Setting(
        as_number(1, TTL_S_MAX), TTL_S_DEFAULT, "how long a question waits for its answer"
    ),
    "default_target": Setting(
        parse_default_target, None, "for a dispatch without one: NODE, a selector, any:SELECTOR"
    ),
    "rules_dir": Setting(as_path, None, "where rule files are: *.yaml, *.yml, *.cel"),
    "keep_days": Setting(
        as_number(1, 36_500), KEEP_DAYS_DEFAULT, "how long events and ended actions are kept"
    ),
    "keep_events": Setting(
        as_count(1000, 10**12), KEEP_EVENTS_DEFAULT, "how many events are kept at most"
    ),
    "webhook_attempts": Setting(
        as_count(1, 100), ATTEMPTS_MAX, "before a message goes to the dead letters"
    ),
    "webhook_retry_s": Setting(
        as_number(0.01, 3600), RETRY_S, "after a first failure; doubled each time, up to an hour"
    ),
    "connections_max": Setting(
        as_count(16, 1_000_000), 20_000, "connections at once, long polls included"
    ),
    "silent_after_s": Setting(
        as_number(1, 7 * 86_400), SILENT_AFTER_S, "how long a node may be unheard"
    ),
    "lost_after_s": Setting(
        as_number(1, 366 * 86_400), LOST_AFTER_S, "when what a silent node had started is LOST"
    ),
    "log_level": Setting(as_word(*LEVELS), "info", "least severity that is logged"),
    "log_format": Setting(as_word("auto", "json", "text"), "auto", "auto: text on a terminal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything `cored` was told, checked."""

    state_dir: Path
    listen: tuple[str, int]
    database: str
    public_url: str | None
    approval_mode: str
    min_confidence: float
    four_eyes: bool
    approval_ttl_s: float
    default_target: Target | None
    rules_dir: Path | None
    keep_days: float
    keep_events: int
    webhook_attempts: int
    webhook_retry_s: float
    connections_max: int
    silent_after_s: float
    lost_after_s: float
    log_level: str
    log_format: str

    @property
    def lease(self) -> Lease:
        """How long nodes may be unheard."""
        return Lease(self.silent_after_s, self.lost_after_s)

    @property
    def patience(self) -> Patience:
        """How long a webhook's receiver is waited for."""
        return Patience(attempts_max=self.webhook_attempts, retry_s=self.webhook_retry_s)

    @property
    def keep(self) -> Keep:
        """What retention leaves."""
        return Keep(days=self.keep_days, events=self.keep_events)

    @property
    def approval_policy(self) -> ApprovalPolicy:
        """What may go without a person."""
        return ApprovalPolicy(
            mode=ApprovalMode(self.approval_mode),
            min_confidence=self.min_confidence,
            four_eyes=self.four_eyes,
        )


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
