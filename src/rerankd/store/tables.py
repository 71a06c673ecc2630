"""The tables as they are now; how they came to be is in `migrations`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, LargeBinary, MetaData, String, Table

METADATA = MetaData()

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
