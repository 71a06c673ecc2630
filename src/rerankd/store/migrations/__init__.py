"""How the tables came to be, one step a file; Alembic runs those that a database lacks."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


class NewerVersion(Exception):
    """The database has seen a step that is not known here."""


def upgrade(connection: Connection) -> tuple[str, str]:
    """The step that it was at, empty where there was none, and the one that it is at now.

    Within the transaction of `connection`. Raises `NewerVersion`.
    """
    before = _step(connection)
    try:
        command.upgrade(_config(connection), "head")
    except CommandError:
        raise NewerVersion from None
    return before, _step(connection)


def downgrade(connection: Connection, step: str) -> None:
    """Back to `step`, "base" being nothing at all; what was kept in the tables that go is lost."""
    command.downgrade(_config(connection), step)


def _step(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
