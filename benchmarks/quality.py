"""How well builtin ranks, beside each of its two parts: MRR@10 per language.

    python benchmarks/quality.py FOLDER [--questions N] [--dtype float32|bfloat16]

FOLDER holds files in SQuAD's format, a language each (xquad.en.json, ...). Every question ranks all paragraphs of its file;
the one that it was asked of is relevant. `BM25` is the model `lexical` as it is served, `MiniLM` the cosine alone, `builtin`
the model as it is served; paragraphs are read once, by the code that reads those of a request.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

import torch

from rerankd.engine import bm25
from rerankd.engine.families import builtin
from rerankd.engine.families.builtin import Builtin
from rerankd.engine.families.lexical import query_weights
from rerankd.engine.scorer import Watch
from rerankd.engine.terms import read_terms
from rerankd.evals.measures import reciprocal_rank
from rerankd.evals.squad import Judged, read_squad

DEPTH = 10


def main() -> int:
    arguments = _arguments()
    model = builtin.load("builtin", "auto", arguments.dtype, lambda *_: None)
    if not isinstance(model, Builtin):
        sys.exit("all-MiniLM-L6-v2 is not here: install rerankd[engine,builtin]")
    files = sorted(arguments.folder.glob("*.json"))
    if not files:
        sys.exit(f"{arguments.folder} holds no .json files")
    print(f"MRR@{DEPTH}, {model.card.dtype} on {model.card.device}")
    print(f"{'file':<16} {'questions':>9}  {'BM25':>6} {'MiniLM':>6} {'builtin':>7}  builtin - better part")
    below = 0
    for path in files:
        judged = _sample(read_squad(path), arguments.questions)
        parts = _measure(model, judged)
        gain = parts[2] - max(parts[:2])
        below += gain < 0
        print(
            f"{path.stem:<16} {len(judged.queries):>9}  {parts[0]:6.4f} {parts[1]:6.4f} {parts[2]:7.4f}  {gain:+.4f}",
            flush=True,
        )
    print(
        "builtin is at or above both of its parts in every row." if not below else f"builtin is below in {below} rows."
    )
    return 1 if below else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=None, help="at most so many, spread evenly; all by default")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    return parser.parse_args()


def _sample(judged: Judged, limit: int | None) -> Judged:
    total = len(judged.queries)
    if limit is None or limit >= total:
        return judged
    kept = [index * total // limit for index in range(limit)]
    return Judged(
        [judged.queries[index] for index in kept], judged.documents, [judged.relevant[index] for index in kept]
    )


def _measure(model: Builtin, judged: Judged) -> tuple[float, float, float]:
    """Mean reciprocal ranks of BM25, MiniLM and builtin."""
    watch = Watch()
    documents = model.read(judged.documents, watch)
    queries = model.read(judged.queries, watch)
    similar = (torch.stack(list(queries.vectors)) @ torch.stack(list(documents.vectors)).T).tolist()
    ranks: list[tuple[float, float, float]] = []
    for index, (query, relevant) in enumerate(zip(judged.queries, judged.relevant, strict=True)):
        lexical = bm25.scores(query_weights(read_terms(query)), documents.bags)
        fused = model.fused(read_terms(query), queries.pick([index]), documents, watch)
        lexical_rank, cosine_rank, fused_rank = (
            reciprocal_rank(scores, relevant, DEPTH) for scores in (lexical, similar[index], fused)
        )
        ranks.append((lexical_rank, cosine_rank, fused_rank))
    return mean(rank[0] for rank in ranks), mean(rank[1] for rank in ranks), mean(rank[2] for rank in ranks)


if __name__ == "__main__":
    sys.exit(main())
