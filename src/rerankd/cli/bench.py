"""`rerankd bench`: how fast a model is on this machine, as it would be served, in one number format or several."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer

from rerankd.app import ModelProgress
from rerankd.cli.bench_formats import AUTO, FORMATS, Formats, label, loaded
from rerankd.cli.bench_report import EXACT, Report, column, machine
from rerankd.cli.bench_table import show
from rerankd.cli.serve import model_settings
from rerankd.cli.terminal import loading_bars, print_json
from rerankd.evals.speed import Speed, take_turns, words_for
from rerankd.settings import ModelSettings
from rerankd.types import BUILTIN
from rerankd.version import __version__


def bench(
    model: Annotated[
        str, typer.Option("--model", "-m", help="NAME=SOURCE, or a source alone, as for `rerankd serve`.")
    ] = BUILTIN,
    documents: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Documents of a request.")] = 100,
    tokens: Annotated[
        int, typer.Option(min=8, max=2**17, metavar="N", help="Tokens of each document, more or less.")
    ] = 256,
    rounds: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Rounds that count; one more goes before them.")
    ] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    compare: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help=f"Number formats side by side, of {', '.join(FORMATS)}."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast a model is on this machine, with texts made for it."""
    settings = model_settings(model, device, dtype)
    formats = _formats(settings, compare)
    with loading_bars(quiet=as_json) as progress, loaded(settings, formats, progress) as found:
        speeds = asyncio.run(_speeds(settings, found, documents, tokens, rounds, progress))
        report = _report(settings, found, speeds, rounds, speeds.get(EXACT) if compare else None)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        show(report)


def _formats(settings: ModelSettings, compare: str | None) -> list[str]:
    """The one that is set; to compare, float32 and what else is named."""
    if compare is None:
        return [settings.dtype]
    names = [name.strip() for name in compare.split(",")]
    for name in names:
        if name not in FORMATS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}.", param_hint="--compare")
    if settings.dtype != AUTO:
        raise typer.BadParameter("name the formats here, and leave --dtype out.", param_hint="--compare")
    return list(dict.fromkeys((EXACT, *names)))


async def _speeds(
    settings: ModelSettings, found: Formats, documents: int, tokens: int, rounds: int, progress: ModelProgress
) -> dict[str, Speed]:
    words = await words_for(next(iter(found.models.values())), tokens)

    def done(name: str, turn: int, turns: int) -> None:
        progress(label(settings, name), "measuring", turn, turns)

    for name in found.models:
        done(name, 0, rounds + 1)
    return await take_turns(found.models, documents, words, rounds, done)


def _report(
    settings: ModelSettings, found: Formats, speeds: Mapping[str, Speed], rounds: int, exact: Speed | None
) -> Report:
    first, *_ = speeds.values()
    card = next(iter(found.models.values())).card
    warnings = (text for speed in speeds.values() for text in speed.warnings)
    return Report(
        rerankd=__version__,
        model=settings.name,
        source=settings.origin,
        family=card.family,
        device=card.device,
        machine=machine(card.device),
        documents=first.documents,
        tokens=first.tokens,
        rounds=rounds,
        columns=[
            column(model.card.dtype, model.batch_tokens, speeds[name], exact) for name, model in found.models.items()
        ],
        failures=found.failures,
        warnings=list(dict.fromkeys([*filter(None, [card.notice]), *warnings])),
    )
