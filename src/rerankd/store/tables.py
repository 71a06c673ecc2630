"""The tables as they are now; how they came to be is in `migrations`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table

METADATA = MetaData()

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself in a column of this type alone."""

CHANNELS = Table(
    "channels",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("fields", JSON, nullable=False, comment="what may be shown"),
    Column("host", String(512), nullable=False, comment="what the secrets are bound to"),
    Column("sealed", LargeBinary, nullable=True),
    Column("revision", String(32), nullable=False, comment="another one after each change"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)

FACTS = Table(
    "facts",
    METADATA,
    Column("name", String(64), primary_key=True, comment="keys.version, pepper"),
    Column("number", BigInteger, nullable=False, default=0),
    Column("text", String(512), nullable=False, default=""),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(16), primary_key=True, comment="a part of the key itself, which is no secret"),
    Column("name", String(128), nullable=False, unique=True),
    Column("scope", String(16), nullable=False, comment="rank or admin"),
    Column("hash", LargeBinary, nullable=False, comment="HMAC-SHA256 of the whole key"),
    Column("former_hash", LargeBinary, nullable=True, comment="of the key before it was rotated"),
    Column("former_until", BigInteger, nullable=True, comment="until when that one is good, in seconds since 1970"),
    Column("fields", JSON, nullable=False, comment="models, networks, limits, quotas, strict, shared cache"),
    Column("enabled", Boolean, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("revoked", BigInteger, nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)

LEDGER = Table(
    "ledger",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("entry", String(32), nullable=False, unique=True, comment="UUIDv7, made here"),
    Column("request_id", String(128), nullable=False, comment="what the caller was told; may be the caller's own"),
    Column("kind", String(8), nullable=False, comment="request, or adjust: a correction"),
    Column("reference", String(32), nullable=False, comment="the entry that is corrected"),
    Column("at", BigInteger, nullable=False, comment="milliseconds since 1970"),
    Column("key_id", String(16), nullable=False),
    Column("model", String(256), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("documents", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("search_units", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("total_us", BigInteger, nullable=False),
    Column("queue_us", BigInteger, nullable=False),
    Column("tokenize_us", BigInteger, nullable=False),
    Column("infer_us", BigInteger, nullable=False),
    Column("upstream_us", BigInteger, nullable=False),
    Column("price_tokens", BigInteger, nullable=False, comment="millionths of the unit, for a million tokens"),
    Column("price_searches", BigInteger, nullable=False, comment="millionths of the unit, for a thousand searches"),
    Column("cost", BigInteger, nullable=False, comment="millionths of the unit"),
    Index("ledger_at", "at"),
    Index("ledger_key_at", "key_id", "at"),
    Index("ledger_request", "request_id", "at"),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("day", String(10), primary_key=True, comment="2026-11-21, of UTC"),
    Column("key_id", String(16), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("channel", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False, comment="of the requests, those that were not answered with 200"),
    Column("documents", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("estimated_tokens", BigInteger, nullable=False),
    Column("search_units", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Index("usage_key", "key_id"),
    comment="sums of the ledger, written with it in one transaction; they stay when its rows have aged out",
)

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("key_id", String(16), primary_key=True),
    Column("idempotency_key", String(256), primary_key=True),
    Column("asked", LargeBinary, nullable=False, comment="SHA-256 of the request"),
    Column("holder", String(32), nullable=False, comment="whose work it is while there is no response"),
    Column("response", LargeBinary, nullable=True, comment="scores and usage, no text"),
    Column("expires", BigInteger, nullable=False, comment="seconds since 1970"),
    Index("idempotency_expires", "expires"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, comment="milliseconds since 1970"),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(256), nullable=False),
    Column("before", JSON, nullable=True),
    Column("after", JSON, nullable=True),
    Index("audit_at", "at"),
)
