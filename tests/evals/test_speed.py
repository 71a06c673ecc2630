from __future__ import annotations

from collections.abc import Sequence

import pytest

from rerankd.evals.speed import ONES, TEN, Speed, percentile, take_turns, words_for
from rerankd.types import Call, RerankRequest, RerankResponse, Result, Usage

QUERY_TOKENS = 20


class Counting:
    """Counts `a_word` tokens a word, at most `longest` of a document; its stage `work` takes as long as it was asked before.

    A document's score is its index, and the best come first.
    """

    def __init__(self, name: str, asked: list[tuple[str, int]], a_word: int = 1, longest: int = 10**9) -> None:
        self.name = name
        self.asked = asked
        self.a_word = a_word
        self.longest = longest

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        call.notes.took("work", len(self.asked))
        self.asked.append((self.name, len(request.documents)))
        lengths = [self.a_word * len(document.text.split()) for document in request.documents]
        return RerankResponse(
            model=self.name,
            results=tuple(Result(index, float(index)) for index in reversed(range(len(lengths)))),
            usage=Usage(prompt_tokens=sum(QUERY_TOKENS + min(length, self.longest) for length in lengths)),
            warnings=("a warning",),
        )


@pytest.mark.parametrize("a_word", [1, 2, 5])
async def test_a_document_has_the_words_that_come_to_the_tokens_asked_for(a_word: int) -> None:
    assert await words_for(Counting("model", [], a_word), 240) == 240 / a_word


async def test_a_model_that_cuts_what_it_reads_gets_no_more_words_than_tokens() -> None:
    assert await words_for(Counting("model", [], longest=5), 240) == 240


async def test_rerankers_take_turns_and_the_first_round_is_not_counted() -> None:
    asked: list[tuple[str, int]] = []
    rounds: list[tuple[str, int, int]] = []
    speeds = await take_turns(
        {name: Counting(name, asked) for name in ("a", "b")}, 30, 10, 2, lambda *done: rounds.append(done)
    )
    a_turn = [30, TEN, *[1] * ONES]
    assert asked == [(name, count) for _ in range(3) for name in ("a", "b") for count in a_turn]
    assert rounds == [(name, turn, 3) for turn in (1, 2, 3) for name in ("a", "b")]
    for place, speed in enumerate(speeds.values()):
        first = place * len(a_turn)
        assert speed.by_stage == {"work": [first + 2 * len(a_turn), first + 4 * len(a_turn)]}
        assert [len(times) for times in (speed.whole, speed.ten, speed.one)] == [2, 2, 2 * ONES]


async def test_tokens_warnings_and_scores_are_those_of_the_whole_request_in_document_order() -> None:
    speeds = await take_turns({"a": Counting("a", [])}, 30, 10, 1, lambda *_: None)
    assert (speeds["a"].documents, speeds["a"].tokens) == (30, 30 * (QUERY_TOKENS + 10))
    assert speeds["a"].scores == [float(index) for index in range(30)]
    assert speeds["a"].warnings == ("a warning",)


def test_rates_are_those_of_the_median_request() -> None:
    speed = Speed(10, 500, (), (), whole=[100.0, 9_000.0, 200.0], by_stage={"infer": [1.0, 5.0, 2.0]})
    assert (speed.documents_per_second, speed.tokens_per_second) == (50.0, 2_500.0)
    assert speed.stages == {"infer": 2.0}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5, 1, 4, 2, 3], 95, 5), ([5, 1, 4, 2, 3], 50, 3), (range(1, 101), 95, 95), ([7], 95, 7), ([1, 2], 0, 1)],
)
def test_a_percentile_is_one_of_the_values(values: Sequence[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected
