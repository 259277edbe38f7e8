"""The core's tables. One idea per column; changes go through `migrations/`, a test compares both.

Portable: text, integers and instants (microseconds since 1970). JSON is stored as text, compact.
"""

from __future__ import annotations

from datetime import datetime
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
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

from agent.domain.instants import from_us, to_us


class Instant(TypeDecorator[datetime]):
    """Aware UTC ↔ microseconds since 1970: exact, sortable, the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else to_us(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else from_us(value)


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

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
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
    # A node's own action may carry the id of one of the core's: refused there, two rows here.
    Index("actions_agent_id", "agent_id", "id", "owner", unique=True),
    Index("actions_id", "id"),
    Index("actions_status", "agent_id", "status"),
    Index("actions_of_agent", "agent_id", "row"),
    Index("actions_of_status", "status", "row"),
    Index("actions_of_kind", "kind", "row"),
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
    Index("requests_open", "agent_id", "acked_at"),
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
    sqlite_autoincrement=True,
)
