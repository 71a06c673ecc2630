"""Cross-encoders against sentence-transformers and OpenVINO, on checkpoints of full size with random weights."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from checkpoints import MINILM, word, write_bert, write_xlmr
from rerankd.engine.calibration import calibrate
from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.scorer import Scorer, score
from rerankd.types import Document, RerankRequest
from turns import Way, gemm_rate, take_turns

QUERY_WORDS = 12
OURS, OURS_FLOAT = "rerankd bfloat16", "rerankd float32"
ST_FLOAT, ST_BFLOAT = "sentence-transformers float32", "sentence-transformers bfloat16"
OPENVINO = "OpenVINO bfloat16"
OPENVINO_BATCH = 4
LARGE_SHAPES = ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
"""The products of an XLM-R-large layer: query, key and value at once; attention's output; the MLP's two."""


@dataclass(frozen=True)
class Rates:
    """Documents per second, by way."""

    rates: dict[str, float]

    def ratio(self, peer: str) -> float:
        return self.rates[OURS] / self.rates[peer]


@dataclass(frozen=True)
class Share:
    """FLOP/s, and documents/s."""

    plain: float
    prepacked: float
    reached: float
    documents: float


def against_peers(rounds: int) -> Rates:
    query, documents = texts(mixed_lengths(64))
    with tempfile.TemporaryDirectory() as name:
        folder = write_xlmr(Path(name))
        ways = {
            ST_FLOAT: _sentence_transformers(folder, torch.float32, query, documents),
            ST_BFLOAT: _sentence_transformers(folder, torch.bfloat16, query, documents),
            OPENVINO: _openvino(folder, query, documents),
            OURS_FLOAT: _ours(folder, "float32", query, documents),
            OURS: _ours(folder, "bfloat16", query, documents),
        }
        return _rates(ways, rounds, len(documents))


def share_of_gemm(rounds: int) -> Share:
    query, documents = texts([256 - QUERY_WORDS - 4] * 100)
    with tempfile.TemporaryDirectory() as name:
        folder = write_xlmr(Path(name))
        scorer = loaded(folder, "bfloat16")
        plain, prepacked, seconds = [], [], []
        for _ in range(rounds):  # the machine's rate, and the model's, within the same minute
            plain.append(gemm_rate(LARGE_SHAPES, torch.bfloat16, prepacked=False))
            prepacked.append(gemm_rate(LARGE_SHAPES, torch.bfloat16, prepacked=True))
            seconds.append(take_turns({OURS: lambda: score(scorer, request(query, documents))}, 1)[OURS])
    tokens = 256 * len(documents)
    products = 2 * tokens * 24 * sum(inner * outer for inner, outer in LARGE_SHAPES)
    middle = len(seconds) // 2
    took = sorted(seconds)[middle]
    return Share(sorted(plain)[middle], sorted(prepacked)[middle], products / took, len(documents) / took)


def minilm(rounds: int) -> Rates:
    query, documents = texts([60] * 1000)
    with tempfile.TemporaryDirectory() as name:
        folder = write_bert(Path(name), **MINILM)
        ways = {
            ST_FLOAT: _sentence_transformers(folder, torch.float32, query, documents),
            OURS_FLOAT: _ours(folder, "float32", query, documents),
            OURS: _ours(folder, "bfloat16", query, documents),
        }
        return _rates(ways, rounds, len(documents))


def mixed_lengths(count: int) -> list[int]:
    """Words of passages: a median of about 130, from 16 to 500."""
    chance = random.Random(0)  # noqa: S311
    return [min(500, max(16, round(chance.lognormvariate(4.85, 0.6)))) for _ in range(count)]


def texts(lengths: Sequence[int]) -> tuple[str, list[str]]:
    """A query, and documents of so many words, each of which is a token."""
    chance = random.Random(1)  # noqa: S311
    made = [" ".join(word(chance.randrange(10**6)) for _ in range(length)) for length in [QUERY_WORDS, *lengths]]
    return made[0], made[1:]


def request(query: str, documents: Sequence[str]) -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)))


def loaded(folder: Path, dtype: str) -> Scorer:
    """The model as it is served: with its batch size measured."""
    scorer = load_scorer(ModelSpec("measured", str(folder), "cpu", dtype), lambda *_: None)
    runner: Any = scorer.runner
    calibrate(runner)
    return scorer


def _rates(ways: dict[str, Way], rounds: int, documents: int) -> Rates:
    return Rates({name: documents / seconds for name, seconds in take_turns(ways, rounds).items()})


def _ours(folder: Path, dtype: str, query: str, documents: Sequence[str]) -> Way:
    scorer = loaded(folder, dtype)
    return lambda: score(scorer, request(query, documents))


def _sentence_transformers(folder: Path, dtype: torch.dtype, query: str, documents: Sequence[str]) -> Way:
    from sentence_transformers import CrossEncoder

    pairs = [(query, document) for document in documents]
    peer: Any = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    return lambda: peer.predict(pairs, show_progress_bar=False)


def _openvino(folder: Path, query: str, documents: Sequence[str]) -> Way:
    import openvino
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    example = {name: torch.ones(2, 16, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    converted = openvino.convert_model(model, example_input=example)
    compiled = openvino.Core().compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=1)
    tokenizer.enable_truncation(8192)
    by_length = sorted(documents, key=len)
    batches = [by_length[start : start + OPENVINO_BATCH] for start in range(0, len(by_length), OPENVINO_BATCH)]

    def run() -> None:
        for batch in batches:
            encoded = tokenizer.encode_batch([(query, document) for document in batch])
            compiled(
                {
                    "input_ids": torch.tensor([one.ids for one in encoded]).numpy(),
                    "attention_mask": torch.tensor([one.attention_mask for one in encoded]).numpy(),
                }
            )

    return run
