"""The core complete: labels, people, audit, timers, approvals, recurring, freezes, webhooks.

Frozen once released: a later change is a later migration.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OCCURRENCE = sa.text("recurring_id IS NOT NULL")
_FOLLOWS_LABELS = sa.text("selector IS NOT NULL AND deleted_at IS NULL")
_OPEN = sa.text("status IN ('NULL', 'STARTED')")


_KNOWN_RULES = sa.text("""
INSERT INTO recurring
  (id, definition, node, revision, created_at, created_by, updated_at, deleted_at, correlation_id)
SELECT id, json_remove(definition, '$.node', '$.revision', '$.should_be_executed'), agent_id,
  revision, created_at, 'dispatch', created_at, CASE WHEN wanted THEN NULL ELSE created_at END,
  correlation_id
FROM actions WHERE owner = 'core' AND json_extract(definition, '$.schedule') IS NOT NULL
""")


def upgrade() -> None:
    """Add what is new, and fill it from what is there."""
    _agents()
    _actions()
    _others()
    _people()
    _approvals()
    _plans()
    _webhooks()


def _instant(name: str, *, needed: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=not needed)


def _text(name: str, *, needed: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=not needed)


def _row() -> sa.Column[int]:
    return sa.Column("row", _SERIAL, autoincrement=True, nullable=False)


def _agents() -> None:
    for column in (
        sa.Column("own_labels", sa.Text(), server_default="{}", nullable=False),
        _instant("silent_at"),
        _instant("decommissioned_at"),
        sa.Column("skew_ms", sa.BigInteger()),
        _text("api_url"),
        _text("api_token"),
    ):
        op.add_column("agents", column)
    op.create_index("agents_state", "agents", ["decommissioned_at", "silent_at"])
    op.create_table(
        "agent_labels",
        _text("agent_id", needed=True),
        _text("key", needed=True),
        _text("value", needed=True),
        sa.PrimaryKeyConstraint("agent_id", "key"),
    )
    op.create_index("agent_labels_of_key", "agent_labels", ["key", "value", "agent_id"])


def _actions() -> None:
    for column in (
        _text("correlation_id"),
        _text("recurring_id"),
        _text("retry_of"),
        _text("service"),
        _text("approval_state"),
        _instant("ended_at"),
        _text("standing"),
    ):
        op.add_column("actions", column)
    for name, by in (
        ("correlation", "correlation_id"),
        ("recurring", "recurring_id"),
        ("approval", "approval_state"),
    ):
        op.create_index(f"actions_of_{name}", "actions", [by, "row"])
    op.create_index(
        "actions_occurring", "actions", ["recurring_id", "agent_id", "row"],
        sqlite_where=_OCCURRENCE, postgresql_where=_OCCURRENCE,
    )  # fmt: skip
    for name, by in (("retry", "retry_of"), ("service", "service")):
        given = sa.text(f"{by} IS NOT NULL")
        op.create_index(
            f"actions_of_{name}", "actions", [by, "row"],
            sqlite_where=given, postgresql_where=given,
        )  # fmt: skip
    op.create_index("actions_of_creation", "actions", ["created_at"])
    op.create_index("actions_of_end", "actions", ["ended_at"])
    op.create_index(
        "actions_open", "actions", ["agent_id", "owner", "row"],
        sqlite_where=_OPEN, postgresql_where=_OPEN,
    )  # fmt: skip
    _copy_out_of_definitions(op.get_bind())
    # When it ended was not kept: the definition's age is the oldest that it can be.
    op.execute("UPDATE actions SET ended_at = created_at WHERE NOT status IN ('NULL', 'STARTED')")


def _copy_out_of_definitions(connection: sa.Connection) -> None:
    names = ("correlation_id", "recurring_id", "retry_of", "service")
    if connection.dialect.name == "sqlite":
        for name in names:
            op.execute(
                f"UPDATE actions SET {name} = json_extract(definition, '$.{name}') "
                "WHERE definition IS NOT NULL"
            )
        return
    # PostgreSQL's own functions refuse a document with a \u0000 in it, wherever that stands.
    found = connection.execute(
        sa.text("SELECT row, definition FROM actions WHERE definition IS NOT NULL")
    ).all()
    values = [
        {"row": row, **{name: json.loads(text).get(name) for name in names}} for row, text in found
    ]
    if values:
        update = "UPDATE actions SET " + ", ".join(f"{name} = :{name}" for name in names)
        connection.execute(sa.text(f"{update} WHERE row = :row"), values)


def _others() -> None:
    op.add_column("requests", _text("args"))
    op.create_index("requests_acked", "requests", ["acked_at"])
    op.create_index("events_of_agent", "events", ["agent_id", "id"])
    op.create_table(
        "meta",
        _text("key", needed=True),
        _text("value", needed=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "timers",
        _text("kind", needed=True),
        _text("ref", needed=True),
        _instant("due_at", needed=True),
        sa.PrimaryKeyConstraint("kind", "ref"),
    )
    op.create_index("timers_due", "timers", ["due_at"])


def _people() -> None:
    op.create_table(
        "api_tokens",
        _text("digest", needed=True),
        _text("id", needed=True),
        _text("name", needed=True),
        _text("role", needed=True),
        _instant("created_at", needed=True),
        _text("created_by"),
        _instant("expires_at"),
        _instant("last_used_at"),
        _instant("revoked_at"),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("id"),
    )
    op.execute(
        "INSERT INTO api_tokens (digest, id, name, role, created_at) "
        "SELECT digest, substr(digest, 1, 12), name, 'admin', created_at FROM admin_tokens"
    )
    op.drop_table("admin_tokens")
    op.create_table(
        "audit",
        _row(),
        _instant("at", needed=True),
        _text("who", needed=True),
        _text("what", needed=True),
        _text("target", needed=True),
        _text("detail", needed=True),
        _text("prev", needed=True),
        _text("hash", needed=True),
        sa.PrimaryKeyConstraint("row"),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_of_target", "audit", ["target", "row"])
    op.create_index("audit_of_who", "audit", ["who", "row"])
    op.create_index("audit_of_what", "audit", ["what", "row"])


def _approvals() -> None:
    op.create_table(
        "approvals",
        _row(),
        _text("id", needed=True),
        _text("agent_id", needed=True),
        _text("action_id", needed=True),
        _text("definition", needed=True),
        _text("digest", needed=True),
        _text("state", needed=True),
        sa.Column("is_edit", sa.Boolean(), nullable=False),
        _text("risk"),
        _text("why", needed=True),
        _text("rule"),
        sa.Column("four_eyes", sa.Boolean(), nullable=False),
        _instant("requested_at", needed=True),
        _text("requested_by", needed=True),
        _instant("expires_at"),
        _instant("decided_at"),
        _text("decided_by"),
        _text("reason"),
        _text("correlation_id"),
        sa.PrimaryKeyConstraint("row"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("approvals_of_state", "approvals", ["state", "row"])
    op.create_index("approvals_of_action", "approvals", ["action_id", "agent_id", "row"])
    op.create_index("approvals_of_agent", "approvals", ["agent_id", "row"])
    op.create_index("approvals_of_correlation", "approvals", ["correlation_id", "row"])


def _plans() -> None:
    op.create_table(
        "dedup_keys",
        _text("key", needed=True),
        _text("outcome", needed=True),
        _instant("created_at", needed=True),
        _instant("expires_at", needed=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("dedup_keys_expiry", "dedup_keys", ["expires_at"])
    op.create_table(
        "recurring",
        _text("id", needed=True),
        _text("definition", needed=True),
        _text("node"),
        _text("selector"),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        _text("paused"),
        _instant("paused_at"),
        sa.Column("backfills", sa.Integer(), server_default="0", nullable=False),
        _instant("created_at", needed=True),
        _text("created_by", needed=True),
        _instant("updated_at", needed=True),
        _instant("deleted_at"),
        _text("correlation_id"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("recurring_of_node", "recurring", ["node"])
    correlated = sa.text("correlation_id IS NOT NULL")
    op.create_index(
        "recurring_of_correlation", "recurring", ["correlation_id"],
        sqlite_where=correlated, postgresql_where=correlated,
    )  # fmt: skip
    op.create_index(
        "recurring_selecting", "recurring", ["id"],
        sqlite_where=_FOLLOWS_LABELS, postgresql_where=_FOLLOWS_LABELS,
    )  # fmt: skip
    if op.get_bind().dialect.name == "sqlite":  # what was dispatched with a schedule by 0001
        op.execute(_KNOWN_RULES)
    op.create_table(
        "freezes",
        _row(),
        _text("id", needed=True),
        _text("selector", needed=True),
        _text("kind"),
        _text("reason", needed=True),
        _text("by", needed=True),
        _instant("created_at", needed=True),
        _instant("expires_at"),
        _instant("lifted_at"),
        _text("lifted_by"),
        sa.PrimaryKeyConstraint("row"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("freezes_lifted", "freezes", ["lifted_at"])
    op.create_table(
        "freeze_nodes",
        _text("agent_id", needed=True),
        _text("freeze_id", needed=True),
        _text("state", needed=True),
        _instant("at", needed=True),
        sa.PrimaryKeyConstraint("agent_id", "freeze_id"),
    )
    op.create_index("freeze_nodes_of", "freeze_nodes", ["freeze_id", "state", "agent_id"])
    # Each node has a timer from now on; who fires it knows for how long (see nodes/silence.py).
    op.execute("INSERT INTO timers (kind, ref, due_at) SELECT 'node_silent', id, 0 FROM agents")


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        _text("id", needed=True),
        _text("url", needed=True),
        _text("secret", needed=True),
        _text("filter", needed=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        _instant("created_at", needed=True),
        _text("created_by", needed=True),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _instant("next_at"),
        _text("last_error"),
        _instant("leased_until"),
        _text("leased_by"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "webhook_failures",
        _row(),
        _text("webhook_id", needed=True),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _text("error", needed=True),
        _instant("at", needed=True),
        _text("body", needed=True),
        sa.PrimaryKeyConstraint("row"),
        sqlite_autoincrement=True,
    )
    op.create_index("webhook_failures_of", "webhook_failures", ["webhook_id", "row"])
