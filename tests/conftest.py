"""What all tests stand on: no hub, no settings from outside, and a few values to rank."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve whatever else runs beside the tests
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a worker for each core

import hypothesis
import pytest

from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage

SHARED = Path(__file__).resolve().parents[2] / "shared"

hypothesis.settings.register_profile("rerankd", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("rerankd")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RERANKD_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """`serve` takes over the log of its process, also where a test calls it and it does not come to serving."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    details = {
        name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile")
    }
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)
    for name, value in details.items():
        setattr(logging, name, value)


@pytest.fixture
def shared() -> Path:
    """The folder of material beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"there is no {SHARED}")
    return SHARED


class FakeReranker:
    """Answers with `results`, or a score of 0 for each document, after `seconds`; says what became of it."""

    def __init__(self, model: str = "fake", results: Sequence[Result] | None = None, seconds: float = 0) -> None:
        self.model = model
        self.results = results
        self.seconds = seconds
        self.asked: list[RerankRequest] = []
        self.cancelled = False

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.asked.append(request)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        results = [Result(index, 0.0) for index in range(len(request.documents))]
        return RerankResponse(
            model=self.model,
            results=tuple(results if self.results is None else self.results),
            usage=Usage(prompt_tokens=7),
            warnings=("a warning",),
        )


def request_for(
    *texts: str, model: str | None = None, top_n: int | None = None, return_documents: bool = False
) -> RerankRequest:
    """A request with these documents, or with three."""
    documents = tuple(map(Document, texts or ("a", "b", "c")))
    return RerankRequest(query="q", documents=documents, model=model, top_n=top_n, return_documents=return_documents)


@pytest.fixture
def call() -> Call:
    return Call(request_id="the-request")
