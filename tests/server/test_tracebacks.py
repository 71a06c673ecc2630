from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from rerankd.errors import EngineError
from rerankd.server.log_lines import Style
from rerankd.server.tracebacks import MOST, lines_of
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.server.conftest import MakeClient
from tests.server.logged import logged

TEXT = "canary-text"

log = logging.getLogger("rerankd.tests")
each_style = pytest.mark.parametrize("style", ["text", "json"])


class Quoting:
    """A model that fails, and says on what."""

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self._quote(request.query, [document.text for document in request.documents])
        raise AssertionError

    def _quote(self, query: str, texts: list[str]) -> None:
        try:
            raise KeyError(texts[0])
        except KeyError as cause:
            failure = ValueError(f"it cannot rank {texts}")
            failure.add_note(query)
            raise failure from cause


@each_style
def test_a_model_that_quotes_a_document_leaves_its_frames_in_the_log_and_no_text(
    make_client: MakeClient, style: Style
) -> None:
    client = make_client(reranker=Quoting())
    with logged(style, logging.DEBUG) as caught:
        answer = client.post("/v1/rerank", json={"query": f"{TEXT} query", "documents": [f"{TEXT} one"]})
    assert answer.status_code == 500
    assert "ValueError" in caught.text
    assert "KeyError" in caught.text
    assert "in _quote" in caught.text
    assert f"request {answer.headers['x-request-id']} failed" in caught.text
    assert TEXT not in caught.text + answer.text


def told(work: Callable[[], object]) -> str:
    try:
        work()
    except BaseException as error:
        return "\n".join(lines_of(error))
    raise AssertionError


def test_what_we_say_ourselves_is_shown() -> None:
    def fail() -> None:
        try:
            raise ValueError(TEXT)
        except ValueError:
            raise EngineError("The model has no tokens.") from None

    said = told(fail)
    assert said.endswith("rerankd.errors.EngineError: The model has no tokens.")
    assert TEXT not in said
    assert "ValueError" not in said


def test_a_disk_that_fails_is_told_by_its_number() -> None:
    assert told(lambda: Path(f"/{TEXT}").read_text()).endswith("FileNotFoundError (errno 2)")


def test_a_group_a_chain_without_end_and_a_syntax_error_quote_nothing() -> None:
    one = error = ValueError(TEXT)
    for number in range(100):
        error.__context__ = error = ValueError(f"{TEXT} {number}")
    error.__context__ = one

    def group() -> None:
        raise ExceptionGroup(TEXT, [one, SyntaxError(TEXT, (TEXT, 1, 1, TEXT)), EngineError("ours")])

    said = told(group)
    assert TEXT not in said
    assert "SyntaxError" in said
    assert "EngineError: ours" in said
    assert len(lines_of(one)) < 10 * MOST


@each_style
async def test_what_the_event_loop_tells_of_a_task_that_nobody_awaited_quotes_nothing(style: Style) -> None:
    loop = asyncio.get_running_loop()

    async def fail() -> None:
        raise ValueError(TEXT)

    def fail_with(text: str) -> None:
        raise ValueError(text)

    with logged(style) as caught:
        task = loop.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        loop.call_soon(fail_with, TEXT)
        await asyncio.sleep(0)
    assert "never retrieved" in caught.text
    assert "Exception in callback" in caught.text
    assert caught.text.count("in fail_with") == 1
    assert TEXT not in caught.text


def test_a_record_without_an_exception_has_no_traceback() -> None:
    with logged("json") as caught:
        log.error("said", exc_info=True)
    assert json.loads(caught.text).get("exception", "") == ""
