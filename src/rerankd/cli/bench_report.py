"""What `rerankd bench` has found, as `--json` prints it and as the table is made of it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from rerankd.evals.measures import kendall_tau, top_overlap
from rerankd.evals.speed import Speed, percentile

EXACT = "float32"
"""The number format that the others are held against."""
TOP = 10


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Of one number format's scores with those of float32, on the same texts; tau is None where it has no value."""

    kendall_tau: float | None
    top_10_overlap: float
    largest_score_difference: float


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One number format; times are medians in milliseconds, where they do not say otherwise.

    `batch_tokens` is None for a model that has no batches; `speed_ratio` is against float32, where that was measured.
    """

    dtype: str
    batch_tokens: int | None
    documents_per_second: float
    tokens_per_second: float
    speed_ratio: float | None
    latency_p50: float
    latency_p95: float
    latency_ten_documents: float
    latency_one_document: float
    stages: Mapping[str, float]
    agreement: Agreement | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`tokens` are those of the whole request, as the model counted them; `failures` say which formats there are not.

    `machine` is what the device is, in words; `rerankd` is its version.
    """

    rerankd: str
    model: str
    source: str
    family: str
    device: str
    machine: str
    documents: int
    tokens: int
    rounds: int
    columns: Sequence[Column]
    failures: Mapping[str, str]
    warnings: Sequence[str]


def column(dtype: str, batch_tokens: int | None, speed: Speed, exact: Speed | None) -> Column:
    """The figures of one number format, beside those of float32 where there are such."""
    return Column(
        dtype=dtype,
        batch_tokens=batch_tokens,
        documents_per_second=speed.documents_per_second,
        tokens_per_second=speed.tokens_per_second,
        speed_ratio=median(exact.whole) / median(speed.whole) if exact else None,
        latency_p50=median(speed.whole),
        latency_p95=percentile(speed.whole, 95),
        latency_ten_documents=median(speed.ten),
        latency_one_document=median(speed.one),
        stages=speed.stages,
        agreement=_agreement(speed.scores, exact.scores) if exact and exact is not speed else None,
    )


def _agreement(scores: Sequence[float], exact: Sequence[float]) -> Agreement:
    return Agreement(
        kendall_tau=kendall_tau(scores, exact),
        top_10_overlap=top_overlap(scores, exact, TOP),
        largest_score_difference=max(abs(one - other) for one, other in zip(scores, exact, strict=True)),
    )


def machine(device: str) -> str:
    """What `device` is, in words; without torch the processor's architecture alone is known."""
    if "torch" not in sys.modules:
        return platform.machine()
    import torch

    from rerankd.engine.devices import cpu_features

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return ", ".join([f"{torch.get_num_threads()} threads", *cpu_features()])
