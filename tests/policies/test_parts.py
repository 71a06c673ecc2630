from __future__ import annotations

import msgspec
import pytest

from rerankd.errors import BadRequest, TooLarge, UpstreamMalformed
from rerankd.policies.parts import in_whole, part_of, said_of, usage_of
from rerankd.types import Result, Usage
from tests.policies.pairs import asking

WHOLE = msgspec.structs.replace(
    asking(["a", "b", "c", "d"]), top_n=1, return_documents=True, return_embeddings=True, instruction="i", model="m"
)


def test_a_part_asks_for_all_of_some_documents_and_keeps_the_rest_of_the_request() -> None:
    part = part_of(WHOLE, [3, 1])
    assert part == msgspec.structs.replace(
        WHOLE, documents=(WHOLE.documents[3], WHOLE.documents[1]), top_n=None, return_documents=False
    )


def test_results_of_a_part_get_their_place_in_the_whole() -> None:
    results = [Result(1, 0.5, None, (1.0,)), Result(0, 0.9)]
    assert in_whole(results, part_of(WHOLE, [3, 1]), [3, 1]) == [Result(3, 0.9), Result(1, 0.5, None, (1.0,))]


@pytest.mark.parametrize("results", [[], [Result(0, 0.5)], [Result(0, 0.5), Result(-1, 0.5)]])
def test_a_part_that_is_not_answered_for_is_refused(results: list[Result]) -> None:
    with pytest.raises(UpstreamMalformed):
        in_whole(results, part_of(WHOLE, [3, 1]), [3, 1])


def test_usage_adds_up_and_is_as_exact_as_the_least_exact_of_it() -> None:
    exact = Usage(prompt_tokens=3, cached_tokens=2, search_units=1)
    assert usage_of([exact, exact]) == Usage(prompt_tokens=6, cached_tokens=4, search_units=2)
    assert usage_of([exact, Usage(prompt_tokens=1, estimated=True)]) == Usage(
        prompt_tokens=4, cached_tokens=2, estimated=True
    )


def test_an_error_keeps_its_kind_and_says_what_it_counts_from() -> None:
    error = said_of("documents 2 to 3", TooLarge("documents[0] is long.", param="documents[0]", retry_after=1.0))
    assert type(error) is TooLarge
    assert (error.message, error.param, error.retry_after) == ("documents 2 to 3: documents[0] is long.", None, 1.0)
    assert not isinstance(said_of("x", TooLarge("y")), BadRequest)
