"""`rerankd`: the commands under one name."""

from __future__ import annotations

import io
import sys

import typer

from rerankd.cli import bench, channels, db, doctor, keys, models, rank, serve
from rerankd.cli.terminal import fail
from rerankd.errors import RerankError

app = typer.Typer(
    name="rerankd",
    help="One rerank API for every reranker: local models behind the wire format that your client already speaks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(rank.rank)
app.command()(bench.bench)
app.command()(doctor.doctor)
app.add_typer(models.app)
app.add_typer(channels.app)
app.add_typer(keys.app)
app.add_typer(db.app)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from rerankd.version import __version__

        typer.echo(f"rerankd {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; what the user can mend is said in one sentence, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except RerankError as error:
        sys.exit(fail(error))
