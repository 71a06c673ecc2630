"""Codec time of every wire format: a request of 100 documents of 1 kB read, and its answer written, p50 in milliseconds."""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import msgspec

from rerankd.dialects.base import Dialect
from rerankd.dialects.directory import DIALECTS
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from rerankd.validate import validate

DOCUMENTS, CHARACTERS = 100, 1000
ASKED = 1.0
"""Milliseconds."""
LINE = "Rerankers put documents in order; größer, schöner, 更好。 "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(f"{'format':<22} {'parse':>8} {'render':>8} {'both':>8}   ms, p50 of {rounds}; asked: under {ASKED} ms")
    for dialect in DIALECTS.values():
        parse, render = measured(dialect, rounds)
        verdict = "" if parse + render < ASKED else "   NOT MET"
        print(f"{dialect.name:<22} {parse:8.3f} {render:8.3f} {parse + render:8.3f}{verdict}")


def measured(dialect: Dialect, rounds: int) -> tuple[float, float]:
    """Milliseconds to read the request and to write the answer, with the documents where the format has them."""
    text = (LINE * (CHARACTERS // len(LINE) + 1))[:CHARACTERS]
    documents = tuple(Document(f"{place} {text}") for place in range(DOCUMENTS))
    body = dialect.render_request(RerankRequest(query="a query", documents=documents, return_documents=True))
    call = Call("the-request", created=1_700_000_000)
    parsing, rendering = [], []
    for _ in range(rounds):
        started = perf_counter()
        request = dialect.parse_request(body)
        middle = perf_counter()
        scored = [Result(place, 1 / (1 + place)) for place in range(DOCUMENTS)]
        asked = msgspec.structs.replace(request, top_n=None)
        response = RerankResponse(model="m", results=validate(scored, asked), usage=Usage(prompt_tokens=25_000))
        begun = perf_counter()
        dialect.render_response(response, asked, call)
        rendering.append(perf_counter() - begun)
        parsing.append(middle - started)
    return 1000 * median(parsing), 1000 * median(rendering)


if __name__ == "__main__":
    main()
