"""A soak in miniature: many requests at once over a real model, through everything that the engine is made of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rerankd.engine.loading import ModelSpec, load_local, load_scorer
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.engine.scorer import score
from rerankd.types import Call, Document, RerankRequest
from tests.engine import tiny

REQUESTS = 200
GONE = 20
"""Of so many more the clients hang up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_xlmr(tmp_path_factory.mktemp("company"), positions=300)


@pytest.fixture
def devices() -> Iterator[dict[str, Device]]:
    devices: dict[str, Device] = {}
    yield devices
    for device in devices.values():
        assert device.jobs == set()
        assert len(device.admission) == 0
        device.close()


def mixed(seed: int) -> RerankRequest:
    """From one short document to some dozens of all lengths, some of them too long."""
    chance = random.Random(seed)  # noqa: S311
    words = [*tiny.WORDS, "zürich", "1066", "?"]
    longest = chance.choice([3, 20, 400])

    def text() -> str:
        return " ".join(chance.choices(words, k=chance.randint(0, longest)))

    return RerankRequest(
        query=" ".join(chance.choices(words, k=chance.randint(1, 8))),
        documents=tuple(Document(text()) for _ in range(chance.choice([1, 1, 3, 10, 40]))),
        priority="batch" if chance.random() < 0.2 else "interactive",
    )


async def scores_of(model: LocalReranker, request: RerankRequest, name: str) -> bytes:
    answer = await model.rerank(request, Call(name))
    return msgspec.json.encode([result.relevance_score for result in answer.results])


async def at_once(model: LocalReranker, requests: list[RerankRequest], gone: list[RerankRequest]) -> list[bytes]:
    """Everything that is asked, while some of those who ask hang up."""
    asking = [asyncio.create_task(scores_of(model, request, f"{place}")) for place, request in enumerate(requests)]
    leaving = [asyncio.create_task(scores_of(model, request, "gone")) for request in gone]
    for number, task in enumerate(leaving):
        await asyncio.sleep(0.001 * (number % 5))
        task.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*asking), 300)
    await asyncio.wait(leaving)
    return list(answers)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_scores_are_those_of_a_request_alone_to_the_last_bit(
    dtype: str, folder: Path, devices: dict[str, Device]
) -> None:
    spec = ModelSpec("m", str(folder), "cpu", dtype)
    model = load_local(spec, devices, lambda *_: None, max_wait=3600.0)
    requests = [mixed(seed) for seed in range(REQUESTS)]
    together = await at_once(model, requests, [mixed(seed) for seed in range(REQUESTS, REQUESTS + GONE)])
    again = load_scorer(spec, lambda *_: None)
    alone = [msgspec.json.encode(list(score(again, request).scores)) for request in requests]
    assert together == alone
    for request, told in zip(requests[:40], together[:40], strict=True):
        pairs = [msgspec.structs.replace(request, documents=(document,)) for document in request.documents]
        assert msgspec.json.encode([score(again, pair).scores[0] for pair in pairs]) == told
