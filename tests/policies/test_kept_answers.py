from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings

from rerankd.errors import Conflict
from rerankd.policies.kept_answers import MOST_KEPT, MOST_WARNED, QUOTED, WITHHELD, recalled, written
from rerankd.types import Call, Document, Notes, RerankRequest, RerankResponse, Result, Usage
from rerankd.validate import validate
from tests.conftest import request_for
from tests.dialects.strategies import REQUESTS, RESPONSES

CALL = Call("the-request", created=1_700_000_000, notes=Notes(channel="the-channel"))


def answer(*warnings: str) -> RerankResponse:
    return RerankResponse(model="m", results=(Result(0, 0.5),), usage=Usage(prompt_tokens=1), warnings=warnings)


@settings(max_examples=50)
@given(request=REQUESTS, response=RESPONSES)
def test_an_answer_comes_back_as_it_was_with_the_documents_of_the_request(
    request: RerankRequest, response: RerankResponse
) -> None:
    request = msgspec.structs.replace(request, top_n=None)
    results = [result for result in response.results if result.index < len(request.documents)]
    ranked = {result.index: result for result in (*(Result(n, 0.0) for n in range(len(request.documents))), *results)}
    first = msgspec.structs.replace(response, results=validate(list(ranked.values()), request), warnings=())
    notes = Notes()
    again = recalled(written(request, first, CALL), request, notes)
    assert msgspec.json.encode(again) == msgspec.json.encode(first)
    assert (notes.replayed, notes.channel, notes.first_given) == (True, "the-channel", ("the-request", 1_700_000_000))


def test_no_text_of_the_request_is_kept_though_an_upstream_warned_with_it() -> None:
    text = "the canary sings of salaries in the third quarter"
    request = RerankRequest(
        query="canaries",
        documents=(Document(text, {"text": text, "more": "a canary in a field"}),),
        instruction="rank the canaries before all other birds",
        return_documents=True,
    )
    response = RerankResponse(
        model="m",
        results=(Result(0, 0.5, request.documents[0]),),
        usage=Usage(prompt_tokens=1),
        warnings=(
            f"documents[0] was cut after '{text[5:35]}'",
            "instruction: 'the canaries before all' is unknown",
            "the query 'canaries' is too short",
            "top_n: ignored",
        ),
    )
    kept = written(request, response, CALL)
    assert b"canar" not in kept
    assert recalled(kept, request, Notes()).warnings == (WITHHELD, WITHHELD, WITHHELD, "top_n: ignored")


def test_a_quote_is_found_out_wherever_it_begins_and_a_shorter_one_is_no_quote() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(60))
    for start in range(QUOTED):
        said = "x" * start + text[:23]
        assert recalled(written(request_for(text), answer(said), CALL), request_for(text), Notes()).warnings == (
            WITHHELD,
        )
    said = f"x{text[: QUOTED - 1]}y"
    assert recalled(written(request_for(text), answer(said), CALL), request_for(text), Notes()).warnings == (said,)


def test_warnings_without_measure_are_not_kept() -> None:
    kept = written(request_for(), answer(*["w" * 100] * (MOST_WARNED // 100 + 1)), CALL)
    assert recalled(kept, request_for(), Notes()).warnings == (WITHHELD,)


def test_what_is_too_large_is_not_kept_and_who_comes_again_is_told() -> None:
    large = RerankResponse(
        model="m", results=(Result(0, 0.5, None, (0.5,) * (MOST_KEPT // 9 + 1)),), usage=Usage(prompt_tokens=1)
    )
    kept = written(request_for(), large, CALL)
    assert len(kept) < 100
    with pytest.raises(Conflict, match="larger than the 4 MiB that are kept"):
        recalled(kept, request_for(), Notes())


@pytest.mark.parametrize("kept", [b"\xc1", msgspec.msgpack.encode([2, "of a later version"])])
def test_what_another_version_kept_is_no_answer(kept: bytes) -> None:
    notes = Notes()
    with pytest.raises(Conflict, match="another version"):
        recalled(kept, request_for(), notes)
    assert not notes.replayed
