"""Where a request goes: an upstream's base URL and its format's path, joined where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from yarl import URL

from rerankd.errors import BadSettings

MODEL = "{model}"


def url_of(base_url: str, paths: Sequence[str], model: str) -> str:
    """`base_url` with the one of `paths` whose beginning it ends with, or with the first; nothing is doubled.

    So https://x, https://x/v1 and https://x/v1/rerank all lead to https://x/v1/rerank. Raises `BadSettings` where the
    path holds the model's name and that name cannot stand in a path.
    """
    base = URL(base_url)
    have = base.raw_path.rstrip("/").split("/")[1:]
    choices = [_segments(path, model) for path in paths]
    best = max(choices, key=lambda wanted: _overlap(have, wanted))  # the first among equals
    whole = "/".join([*have, *best[_overlap(have, best) :]])
    return str(base.origin()) + "/" + whole


def _segments(path: str, model: str) -> list[str]:
    if MODEL in path and any(part in ("", ".", "..") for part in model.split("/")):
        raise BadSettings(f"{model[:100]!r} cannot stand in the path of a request.")
    return path.replace(MODEL, quote(model, safe="/")).split("/")[1:]


def _overlap(have: Sequence[str], wanted: Sequence[str]) -> int:
    """How many of the last segments that there are, are the first that are wanted."""
    sizes = range(min(len(have), len(wanted)), 0, -1)
    return next((size for size in sizes if have[-size:] == wanted[:size]), 0)
