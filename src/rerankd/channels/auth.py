"""How an upstream is shown a key: a bearer token nearly everywhere, and headers of their own for those who want them."""

from __future__ import annotations

from collections.abc import Mapping

from rerankd.channels.keys import Secret

PINECONE_VERSION = "2026-07"
"""What Pinecone's own client says; a channel's header may say another one."""
FIXED: Mapping[str, Mapping[str, str]] = {"pinecone": {"X-Pinecone-Api-Version": PINECONE_VERSION}}


def scheme(dialect: str) -> str:
    """Which header holds the key."""
    return "Api-Key" if dialect == "pinecone" else "Authorization"


def headers_for(dialect: str, key: Secret | None) -> dict[str, str]:
    """The headers that a format needs beside its body, with the key in the clear: not to be kept and not to be logged."""
    headers = dict(FIXED.get(dialect, {}))
    if key is not None:
        name = scheme(dialect)
        headers[name] = f"Bearer {key.reveal()}" if name == "Authorization" else key.reveal()
    return headers
