"""Rows as CSV that a spreadsheet can be given: quoted as RFC 4180 says, and no text in them is taken for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

CSV = "text/csv; charset=utf-8; header=present"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell starts with that a spreadsheet would work out, or would skip to find such a one."""

Cell = str | int | None


def csv_rows(rows: Iterable[Sequence[Cell]]) -> bytes:
    """A text that begins like a formula gets an apostrophe in front; numbers stay numbers."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return written.getvalue().encode()


def _harmless(cell: Cell) -> Cell:
    if not isinstance(cell, str):
        return cell
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA) else cell
