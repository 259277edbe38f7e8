"""The first schema: nodes, their two streams, actions, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    _actions()
    _admin_tokens()
    _agents()
    _credentials()
    _deliveries()
    _enrollment_tokens()
    _events()
    _requests()
    _superseded()


def _actions() -> None:
    op.create_table(
        "actions",
        sa.Column("row", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.Text()),
        sa.Column("from_date", sa.BigInteger()),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("execution", sa.Text()),
        sa.Column("status_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered_seq", sa.BigInteger()),
        sa.Column("revision_applied", sa.BigInteger()),
        sa.Column("refused", sa.Text()),
        sa.Column("requested", sa.Text()),
        sa.Column("lost_at", sa.BigInteger()),
        sa.Column("lost_reason", sa.Text()),
        sa.Column("snapshot", sa.Text()),
        sa.PrimaryKeyConstraint("row"),
        sqlite_autoincrement=True,
    )
    op.create_index("actions_agent_id", "actions", ["agent_id", "id", "owner"], unique=True)
    op.create_index("actions_id", "actions", ["id"], unique=False)
    op.create_index("actions_of_agent", "actions", ["agent_id", "row"], unique=False)
    op.create_index("actions_of_kind", "actions", ["kind", "row"], unique=False)
    op.create_index("actions_of_status", "actions", ["status", "row"], unique=False)
    op.create_index("actions_status", "actions", ["agent_id", "status"], unique=False)


def _admin_tokens() -> None:
    op.create_table(
        "admin_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def _agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger()),
        sa.Column("instance", sa.Text()),
        sa.Column("instance_at", sa.BigInteger()),
        sa.Column("fenced_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fenced_at", sa.BigInteger()),
        sa.Column("report", sa.Text()),
        sa.Column("report_at", sa.BigInteger()),
        sa.Column("stream_epoch", sa.Text(), nullable=False),
        sa.Column("head_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("acked_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("acked_mark", sa.Text(), nullable=False),
        sa.Column("agent_epoch", sa.Text()),
        sa.Column("event_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("replay_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("as_of_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("snapshot", sa.Text()),
        sa.Column("snapshot_stamp", sa.Text()),
        sa.Column("snapshot_part", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _credentials() -> None:
    op.create_table(
        "credentials",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("credentials_agent", "credentials", ["agent_id"], unique=False)
    op.create_index("credentials_token", "credentials", ["token_digest"], unique=False)


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "seq"),
    )


def _enrollment_tokens() -> None:
    op.create_table(
        "enrollment_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger()),
        sa.Column("nonce_digest", sa.Text()),
        sa.Column("used_for", sa.Text()),
        sa.PrimaryKeyConstraint("digest"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text()),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_action", "events", ["agent_id", "action_id", "id"], unique=False)
    op.create_index("events_mark", "events", ["agent_id", "mark"], unique=True)


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("row", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text()),
        sa.Column("by", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("acked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("row"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("requests_open", "requests", ["agent_id", "acked_at"], unique=False)


def _superseded() -> None:
    op.create_table(
        "superseded",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "what", "value"),
    )
