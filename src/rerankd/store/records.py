"""What the database holds, as values that come without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StoredChannel:
    """`fields` may be shown; `secrets` are sealed for the name and the host, and in no repr. `revision` is another one
    after each change.
    """

    name: str
    host: str
    fields: Mapping[str, Any]
    secrets: bytes | None = field(default=None, repr=False)
    revision: str = field(default_factory=lambda: token_hex(8))
