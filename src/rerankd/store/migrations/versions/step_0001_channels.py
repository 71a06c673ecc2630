"""Channels that are added while the server runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "channels",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("fields", sa.JSON, nullable=False, comment="what may be shown"),
        sa.Column("host", sa.String(512), nullable=False, comment="what the secrets are bound to"),
        sa.Column("sealed", sa.LargeBinary, nullable=True),
        sa.Column("revision", sa.String(32), nullable=False, comment="another one after each change"),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("channels")
