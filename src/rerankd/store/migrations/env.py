"""What Alembic runs: the steps, on the connection that it is given."""

from __future__ import annotations

from alembic import context

from rerankd.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
context.run_migrations()  # in the transaction of who gave the connection
