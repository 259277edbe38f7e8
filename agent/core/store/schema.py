"""The core's tables. One idea per column; changes go through `migrations/`, a test compares both.

Portable: text, integers and instants (microseconds since 1970). JSON is stored as text, compact.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from agent.core.store.instant import Instant

IS_OPEN = text("status IN ('NULL', 'STARTED')")
_OPEN_ONLY: Any = {"sqlite_where": IS_OPEN, "postgresql_where": IS_OPEN}
_OCCURRENCE = text("recurring_id IS NOT NULL")
_OCCURRENCES: Any = {"sqlite_where": _OCCURRENCE, "postgresql_where": _OCCURRENCE}
_FOLLOWS_LABELS = text("selector IS NOT NULL AND deleted_at IS NULL")


def _given(column: str) -> Any:
    """Of an index: for the few rows that have a value there, so that the others cost nothing."""
    condition = text(f"{column} IS NOT NULL")
    return {"sqlite_where": condition, "postgresql_where": condition}


BigSerial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows of INTEGER only

metadata = MetaData()

agents = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("enrolled_at", Instant, nullable=False),
    Column("last_seen_at", Instant),
    Column("instance", Text),  # the `agentd` start that may speak
    Column("instance_at", Instant),
    Column("fenced_count", Integer, nullable=False, server_default="0"),
    Column("fenced_at", Instant),
    Column("report", Text),  # the last node report, as it came
    Column("report_at", Instant),
    # To the node: deliveries are numbered, `acked` is what it has presented.
    Column("stream_epoch", Text, nullable=False),
    Column("head_seq", BigInteger, nullable=False, server_default="0"),
    Column("acked_seq", BigInteger, nullable=False, server_default="0"),
    Column("acked_mark", Text, nullable=False),
    # From the node: the newest stored event of its current epoch.
    Column("agent_epoch", Text),
    Column("event_seq", BigInteger, nullable=False, server_default="0"),
    Column("replay_seq", BigInteger, nullable=False, server_default="0"),
    Column("as_of_seq", BigInteger, nullable=False, server_default="0"),
    # The state snapshot that is coming in: what names it, its mark on rows, the next part.
    Column("snapshot", Text),
    Column("snapshot_stamp", Text),
    Column("snapshot_part", Integer, nullable=False, server_default="0"),
    # Since 0002.
    Column("own_labels", Text, nullable=False, server_default="{}"),  # set here; win over reported
    Column("silent_at", Instant),  # since when nothing is heard of it; NULL while it is
    Column("decommissioned_at", Instant),
    Column("skew_ms", BigInteger),  # its clock minus ours, at its last report
    Column("api_url", Text),  # where its own API can be reached, and with which token
    Column("api_token", Text),
    Index("agents_state", "decommissioned_at", "silent_at"),
)

agent_labels = Table(  # what selectors match: reported and own labels, merged
    "agent_labels",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index("agent_labels_of_key", "key", "value", "agent_id"),
)

superseded = Table(  # instances and epochs that were current once: they never are again
    "superseded",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("at", Instant, nullable=False),
)

enrollment_tokens = Table(
    "enrollment_tokens",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("agent_id", Text),  # the only node it may enroll; also allows to enroll it again
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("nonce_digest", Text),
    Column("used_for", Text),
)

credentials = Table(
    "credentials",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("token_digest", Text, nullable=False),
    Column("issued_at", Instant, nullable=False),
    Column("used_at", Instant),
    Index("credentials_agent", "agent_id"),
    Index("credentials_token", "token_digest"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("digest", Text, primary_key=True),
    Column(
        "id", Text, nullable=False, unique=True
    ),  # how people name it; the token is unknown here
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text),
    Column("expires_at", Instant),
    Column("last_used_at", Instant),
    Column("revoked_at", Instant),
)

audit = Table(  # append-only; each row's hash covers the one before
    "audit",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("audit_of_target", "target", "row"),
    Index("audit_of_who", "who", "row"),
    Index("audit_of_what", "what", "row"),
    sqlite_autoincrement=True,
)

meta = Table(  # the core's own few facts and secrets, one per key
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

timers = Table(  # everything that waits for a time, in one index
    "timers",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("due_at", Instant, nullable=False),
    Index("timers_due", "due_at"),
)

actions = Table(
    "actions",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("agent_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    # The definition. NULL where only its execution was ever reported.
    Column("kind", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("definition", Text),
    Column("from_date", Instant),
    Column("wanted", Boolean, nullable=False),
    # The execution, as the node reported it last.
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("execution", Text),
    Column("status_seq", BigInteger, nullable=False, server_default="0"),
    # What the node has of the definition, and what was asked of it since.
    Column("delivered_seq", BigInteger),
    Column("revision_applied", BigInteger),
    Column("refused", Text),
    Column("requested", Text),
    Column("lost_at", Instant),
    Column("lost_reason", Text),
    Column("snapshot", Text),  # the stamp of the last one that it was in
    # Since 0002: what lists are filtered by, copied out of the documents.
    Column("correlation_id", Text),
    Column("recurring_id", Text),  # of an occurrence
    Column("retry_of", Text),
    Column("service", Text),
    Column("approval_state", Text),  # NULL where none was needed
    Column("ended_at", Instant),  # when the core learned of the end
    Column("standing", Text),  # of a recurring action: how its node said last that it stands
    # A node's own action may carry the id of one of the core's: refused there, two rows here.
    Index("actions_agent_id", "agent_id", "id", "owner", unique=True),
    Index("actions_id", "id"),
    Index("actions_status", "agent_id", "status"),
    Index("actions_of_agent", "agent_id", "row"),
    Index("actions_of_status", "status", "row"),
    Index("actions_of_kind", "kind", "row"),
    Index("actions_of_correlation", "correlation_id", "row"),
    Index("actions_of_recurring", "recurring_id", "row"),
    Index("actions_occurring", "recurring_id", "agent_id", "row", **_OCCURRENCES),
    Index("actions_of_retry", "retry_of", "row", **_given("retry_of")),
    Index("actions_of_service", "service", "row", **_given("service")),
    Index("actions_of_creation", "created_at"),
    Index("actions_of_approval", "approval_state", "row"),
    Index("actions_of_end", "ended_at"),
    Index("actions_open", "agent_id", "owner", "row", **_OPEN_ONLY),
    sqlite_autoincrement=True,  # a page's cursor must never meet a number again
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("mark", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("ref", Text, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("agent_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("action_id", Text),
    Column("by", Text),
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("acked_at", Instant),
    Column("args", Text),  # since 0002: what a type needs besides, as JSON
    Index("requests_open", "agent_id", "acked_at"),
    Index("requests_acked", "acked_at"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", BigSerial, primary_key=True, autoincrement=True),
    Column("agent_id", Text, nullable=False),
    Column("epoch", Text),  # NULL, as `seq`, where the core itself made the event
    Column("seq", BigInteger),
    Column("mark", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("action_id", Text),
    Column("at", Instant, nullable=False),
    Column("stored_at", Instant, nullable=False),
    Column("body", Text, nullable=False),
    Index("events_mark", "agent_id", "mark", unique=True),
    Index("events_action", "agent_id", "action_id", "id"),
    Index("events_of_agent", "agent_id", "id"),
    sqlite_autoincrement=True,
)

approvals = Table(  # every question that was put to people, and how it was answered
    "approvals",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("agent_id", Text, nullable=False),
    Column("action_id", Text, nullable=False),
    Column("definition", Text, nullable=False),  # what is asked for; an edit's is not in force yet
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_edit", Boolean, nullable=False),
    Column("risk", Text),
    Column("why", Text, nullable=False),  # what made it wait, in words
    Column("rule", Text),
    Column("four_eyes", Boolean, nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("requested_by", Text, nullable=False),  # the authenticated name
    Column("expires_at", Instant),
    Column("decided_at", Instant),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("correlation_id", Text),
    Index("approvals_of_state", "state", "row"),
    Index("approvals_of_action", "action_id", "agent_id", "row"),
    Index("approvals_of_agent", "agent_id", "row"),
    Index("approvals_of_correlation", "correlation_id", "row"),
    sqlite_autoincrement=True,
)

dedup_keys = Table(
    "dedup_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("outcome", Text, nullable=False),  # what the first one was answered
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("dedup_keys_expiry", "expires_at"),
)

recurring = Table(  # what the core plans by the clock, per node or per selector
    "recurring",
    metadata,
    Column("id", Text, primary_key=True),
    Column("definition", Text, nullable=False),  # the template: without node
    Column("node", Text),
    Column("selector", Text),
    Column("revision", BigInteger, nullable=False),
    Column("paused", Text),  # why, while it is
    Column("paused_at", Instant),
    Column("backfills", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Column("correlation_id", Text),
    Index("recurring_of_node", "node"),
    Index("recurring_of_correlation", "correlation_id", **_given("correlation_id")),
    Index(
        "recurring_selecting",
        "id",
        sqlite_where=_FOLLOWS_LABELS,
        postgresql_where=_FOLLOWS_LABELS,
    ),
)

freezes = Table(
    "freezes",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("selector", Text, nullable=False),
    Column("kind", Text),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("lifted_at", Instant),
    Column("lifted_by", Text),
    Index("freezes_lifted", "lifted_at"),
    sqlite_autoincrement=True,
)

freeze_nodes = Table(  # whom a freeze reached, and what is known of it there
    "freeze_nodes",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("freeze_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index("freeze_nodes_of", "freeze_id", "state", "agent_id"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("filter", Text, nullable=False),  # JSON: types, nodes …
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("cursor", BigInteger, nullable=False),  # the last event that is settled
    Column("attempts", Integer, nullable=False, server_default="0"),  # for the next one
    Column("next_at", Instant),
    Column("last_error", Text),
    Column("leased_until", Instant),  # one `cored` at a time delivers for it
    Column("leased_by", Text),
)

webhook_failures = Table(  # the dead letters
    "webhook_failures",
    metadata,
    Column("row", BigSerial, primary_key=True, autoincrement=True),
    Column("webhook_id", Text, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("body", Text, nullable=False),
    Index("webhook_failures_of", "webhook_id", "row"),
    sqlite_autoincrement=True,
)
