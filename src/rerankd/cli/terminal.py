"""What a person sees: errors, progress bars and score bars; colours only on a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rerankd.app import ModelProgress
from rerankd.errors import RerankError

BAR = 16
DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EIGHTHS = " ▏▎▍▌▋▊▉█"


def fail(error: RerankError) -> int:
    """Tell standard error what went wrong; the exit status for it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/] ", end="")
    console.print(error.message, markup=False)
    return 1


def print_json(value: object) -> None:
    json.dump(value, sys.stdout, ensure_ascii=not writes_unicode(sys.stdout), allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def writes_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().startswith("utf")


@contextmanager
def loading_bars(*, quiet: bool = False) -> Iterator[ModelProgress]:
    """A bar on standard error for each model that is downloaded or loaded; it goes away when all are there."""
    columns = (
        TextColumn("{task.fields[stage]:>11} {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        tasks: dict[tuple[str, str], TaskID] = {}

        def report(model: str, stage: str, done: float, total: float) -> None:
            key = (model, stage)
            if key not in tasks:
                tasks[key] = progress.add_task(model, stage=stage, total=total)
            progress.update(tasks[key], completed=done, total=total)

        yield report


def score_bar(share: float, *, unicode: bool = True) -> str:
    """`share` of a bar, from 0 to 1, in eighths of a character where the terminal can show them."""
    share = min(max(share, 0.0), 1.0)
    if not unicode:
        return ("#" * round(share * BAR)).ljust(BAR)
    eighths = round(share * BAR * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR)


def printable(text: str) -> str:
    """The text on one line, without characters that could steer a terminal or turn its reading direction."""
    kept = (" " if character.isspace() or _steers(character) else character for character in text)
    return " ".join("".join(kept).split())


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS
