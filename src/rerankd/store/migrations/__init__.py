"""How the tables came to be, one step a file; Alembic runs those that a database lacks."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


class NewerVersion(Exception):
    """The database has seen a step that is not known here."""


def upgrade(connection: Connection) -> None:
    """Within the transaction of `connection`. Raises `NewerVersion`."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise NewerVersion from None
