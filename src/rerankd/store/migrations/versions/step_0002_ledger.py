"""Keys, the ledger with its sums, answers under an Idempotency-Key, and the log of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SUMS = """
INSERT INTO usage (
    day, key_id, model, channel,
    requests, failed, documents, tokens, cached_tokens, estimated_tokens, search_units, cost
)
VALUES (
    {day}, NEW.key_id, NEW.model, NEW.channel,
    CASE WHEN NEW.kind = 'request' THEN 1 ELSE 0 END,
    CASE WHEN NEW.kind = 'request' AND NEW.status <> 200 THEN 1 ELSE 0 END,
    NEW.documents, NEW.tokens, NEW.cached_tokens,
    CASE WHEN NEW.estimated THEN NEW.tokens ELSE 0 END,
    NEW.search_units, NEW.cost
)
ON CONFLICT (day, key_id, model, channel) DO UPDATE SET
    requests = usage.requests + excluded.requests,
    failed = usage.failed + excluded.failed,
    documents = usage.documents + excluded.documents,
    tokens = usage.tokens + excluded.tokens,
    cached_tokens = usage.cached_tokens + excluded.cached_tokens,
    estimated_tokens = usage.estimated_tokens + excluded.estimated_tokens,
    search_units = usage.search_units + excluded.search_units,
    cost = usage.cost + excluded.cost;
"""
"""A row that is added to the ledger is added to its day's sums, whoever adds it; a correction is no request."""


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), primary_key=True, comment="keys.version, pepper"),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("text", sa.String(512), nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True, comment="a part of the key itself, which is no secret"),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("scope", sa.String(16), nullable=False, comment="rank or admin"),
        sa.Column("hash", sa.LargeBinary, nullable=False, comment="HMAC-SHA256 of the whole key"),
        sa.Column("former_hash", sa.LargeBinary, nullable=True, comment="of the key before it was rotated"),
        sa.Column(
            "former_until", sa.BigInteger, nullable=True, comment="until when that one is good, in seconds since 1970"
        ),
        sa.Column("fields", sa.JSON, nullable=False, comment="models, networks, limits, quotas, strict, shared cache"),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=True),
        sa.Column("revoked", sa.BigInteger, nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("entry", sa.String(32), nullable=False, unique=True, comment="UUIDv7, made here"),
        sa.Column(
            "request_id", sa.String(128), nullable=False, comment="what the caller was told; may be the caller's own"
        ),
        sa.Column("kind", sa.String(8), nullable=False, comment="request, or adjust: a correction"),
        sa.Column("reference", sa.String(32), nullable=False, comment="the entry that is corrected"),
        sa.Column("at", sa.BigInteger, nullable=False, comment="milliseconds since 1970"),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("documents", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("search_units", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("total_us", sa.BigInteger, nullable=False),
        sa.Column("queue_us", sa.BigInteger, nullable=False),
        sa.Column("tokenize_us", sa.BigInteger, nullable=False),
        sa.Column("infer_us", sa.BigInteger, nullable=False),
        sa.Column("upstream_us", sa.BigInteger, nullable=False),
        sa.Column(
            "price_tokens", sa.BigInteger, nullable=False, comment="millionths of the unit, for a million tokens"
        ),
        sa.Column(
            "price_searches", sa.BigInteger, nullable=False, comment="millionths of the unit, for a thousand searches"
        ),
        sa.Column("cost", sa.BigInteger, nullable=False, comment="millionths of the unit"),
    )
    op.create_index("ledger_at", "ledger", ["at"])
    op.create_index("ledger_key_at", "ledger", ["key_id", "at"])
    op.create_index("ledger_request", "ledger", ["request_id", "at"])
    op.create_table(
        "usage",
        sa.Column("day", sa.String(10), primary_key=True, comment="2026-11-21, of UTC"),
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("model", sa.String(256), primary_key=True),
        sa.Column("channel", sa.String(64), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column(
            "failed", sa.BigInteger, nullable=False, comment="of the requests, those that were not answered with 200"
        ),
        sa.Column("documents", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated_tokens", sa.BigInteger, nullable=False),
        sa.Column("search_units", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        comment="sums of the ledger, written with it in one transaction; they stay when its rows have aged out",
    )
    op.create_index("usage_key", "usage", ["key_id"])
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("idempotency_key", sa.String(256), primary_key=True),
        sa.Column("asked", sa.LargeBinary, nullable=False, comment="SHA-256 of the request"),
        sa.Column("holder", sa.String(32), nullable=False, comment="whose work it is while there is no response"),
        sa.Column("response", sa.LargeBinary, nullable=True, comment="scores and usage, no text"),
        sa.Column("expires", sa.BigInteger, nullable=False, comment="seconds since 1970"),
    )
    op.create_index("idempotency_expires", "idempotency", ["expires"])
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False, comment="milliseconds since 1970"),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(256), nullable=False),
        sa.Column("before", sa.JSON, nullable=True),
        sa.Column("after", sa.JSON, nullable=True),
    )
    op.create_index("audit_at", "audit", ["at"])
    _add_up()


def _add_up() -> None:
    """The database itself keeps the sums, so that there is no way to add a row without them."""
    if op.get_bind().dialect.name == "sqlite":
        sums = SUMS.format(day="strftime('%Y-%m-%d', NEW.at / 1000, 'unixepoch')")
        op.execute(f"CREATE TRIGGER ledger_sums AFTER INSERT ON ledger BEGIN {sums} END")
        return
    sums = SUMS.format(day="to_char(to_timestamp(NEW.at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
    op.execute(f"CREATE FUNCTION ledger_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {sums} RETURN NULL; END $$")
    op.execute("CREATE TRIGGER ledger_sums AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION ledger_sums()")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER ledger_sums")
    else:
        op.execute("DROP TRIGGER ledger_sums ON ledger")
        op.execute("DROP FUNCTION ledger_sums()")
    for table in ("audit", "idempotency", "usage", "ledger", "keys", "facts"):
        op.drop_table(table)
