"""A report of `rerankd bench` as a person reads it: what was measured, then a row a figure and a column a number format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.cli.bench_report import EXACT, TOP, Agreement, Column, Report

LABEL = 24
"""Characters of the first column, so that both tables stand in one line."""
WIDE = 10_000
"""Lines that are not for a terminal are not folded."""
ABSENT = "-"

Rows = Iterator[tuple[str, ...]]


def show(report: Report) -> None:
    """Print it; what could not be measured stands below, what the model warned of goes to standard error."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(_table(_facts(report), "left"))
    console.print()
    console.print(_table(_figures(report), "right"))
    for name, reason in report.failures.items():
        console.print(f"\n{name} was not measured: {reason}", markup=False)
    for warning in report.warnings:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"warning: {warning}", markup=False)


def _table(rows: Rows, justify: Literal["left", "right"]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, show_header=False)
    table.add_column(min_width=LABEL)
    for label, *cells in rows:
        table.add_row(Text(label), *map(Text, cells))
    for column in table.columns[1:]:
        column.justify, column.overflow = justify, "fold"
    return table


def _facts(report: Report) -> Rows:
    each = report.tokens / report.documents
    yield "model", report.model
    yield "family", report.family
    yield "device", f"{report.device}, {report.machine}"
    yield "request", f"{report.documents} documents, {each:,.0f} tokens each with the query"
    yield "rounds", f"{report.rounds}"


def _figures(report: Report) -> Rows:
    columns = report.columns
    yield "dtype", *(column.dtype for column in columns)
    yield _row("batch size, tokens", [column.batch_tokens for column in columns])
    yield _row("documents/s", [column.documents_per_second for column in columns])
    yield _row("tokens/s", [column.tokens_per_second for column in columns])
    yield _row("request p50, ms", [column.latency_p50 for column in columns])
    yield _row("request p95, ms", [column.latency_p95 for column in columns])
    yield _row("ten documents, ms", [column.latency_ten_documents for column in columns])
    yield _row("one document, ms", [column.latency_one_document for column in columns])
    for stage in dict.fromkeys(stage for column in columns for stage in column.stages):
        yield _row(f"stage {stage}, ms", [column.stages.get(stage) for column in columns])
    if any(column.agreement for column in columns):
        yield from _against_exact(columns)


def _row(label: str, values: Sequence[float | None]) -> tuple[str, ...]:
    return label, *map(_figure, values)


def _against_exact(columns: Sequence[Column]) -> Rows:
    yield ("",)
    yield (f"against {EXACT}",)
    yield "  speed", *(ABSENT if column.speed_ratio is None else f"{column.speed_ratio:.2f} x" for column in columns)
    agreements = [column.agreement for column in columns]
    yield "  Kendall tau", *map(_tau, agreements)
    yield f"  top {TOP} in common", *(f"{found.top_10_overlap:.0%}" if found else "" for found in agreements)
    yield "  largest difference", *(f"{found.largest_score_difference:.1e}" if found else "" for found in agreements)


def _tau(agreement: Agreement | None) -> str:
    if agreement is None:
        return ""
    return ABSENT if agreement.kendall_tau is None else f"{agreement.kendall_tau:.3f}"


def _figure(value: float | None) -> str:
    """A count as it is, a measured value with three digits or all that stand before the point."""
    if value is None:
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
