from __future__ import annotations

from math import isfinite

import pytest

from rerankd.engine.families import builtin
from rerankd.engine.families.builtin import Builtin, fuse
from rerankd.engine.families.lexical import Lexical
from rerankd.engine.minilm import find_minilm
from rerankd.engine.scorer import Scored
from tests.engine.asking import ask

SKY, PARIS, PIZZA = "The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."
CAPITAL = "What is the capital of France?"


@pytest.fixture(scope="module")
def model() -> Builtin:
    if find_minilm(offline=True) is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine")
    loaded = builtin.load("builtin", "cpu", "float32", lambda *_: None)
    assert isinstance(loaded, Builtin)
    return loaded


def score(model: Builtin, query: str, *documents: str) -> list[float]:
    return list(ask(model, query, documents).scores)


def test_the_right_document_is_far_ahead(model: Builtin) -> None:
    sky, paris, pizza = score(model, CAPITAL, SKY, PARIS, PIZZA)
    assert paris > 0.9
    assert max(sky, pizza) < 0.2


@pytest.mark.parametrize("document", [SKY, PARIS, PIZZA])
def test_one_document_alone_gets_about_the_score_that_it_gets_in_company(model: Builtin, document: str) -> None:
    together = score(model, CAPITAL, SKY, PARIS, PIZZA)[[SKY, PARIS, PIZZA].index(document)]
    assert score(model, CAPITAL, document)[0] == pytest.approx(together, abs=0.1)


def test_meaning_counts_in_english_where_no_word_is_shared(model: Builtin) -> None:
    car, fruit = score(model, "car", "a new automobile", "a ripe banana")
    assert car > fruit + 0.1


def test_words_decide_in_a_language_that_minilm_does_not_know(model: Builtin) -> None:
    right, wrong = score(model, "如何预防感冒", "预防感冒应勤洗手、戴口罩", "流感疫苗每年10月接种最佳")
    assert right > 0.5 > wrong


def test_candidates_that_all_hold_the_words_are_told_apart_by_meaning(model: Builtin) -> None:
    """A first stage has matched the words already: what is left to BM25 there is noise."""
    query = "what is the daily life of thai people"
    right = (
        "Most Thai people rise early, eat rice with family and go to work or temple: daily life in Thailand is calm."
    )
    stuffed = [
        "The daily price of the Thai baht is what people of the stock market watch for life.",
        "The chess club of Thai people is the thing of daily life, what a game.",
        "What is the engine: a part of the machine that Thai people use in daily life",
    ]
    scores = score(model, query, right, *stuffed)
    assert scores.index(max(scores)) == 0


@pytest.mark.parametrize("query", ["???", "the", "a" * 5000, "what is the", "\u200b"])
def test_odd_queries_get_finite_scores_between_nothing_and_one(model: Builtin, query: str) -> None:
    for value in score(model, query, "", "...", "the", SKY, SKY, "中文"):
        assert isfinite(value)
        assert 0 <= value <= 1


def test_the_same_text_twice_gets_the_same_score(model: Builtin) -> None:
    first, _, second = score(model, CAPITAL, PARIS, SKY, PARIS)
    assert first == second


def test_what_minilm_read_is_counted_and_what_it_could_not_read_is_told(model: Builtin) -> None:
    scored: Scored = ask(model, "fox", ["fox " * 400, "dog"])
    assert list(scored.truncated) == [0]
    assert scored.tokens == 3 + 256 + 3
    assert scored.embeddings is not None
    assert [len(vector) for vector in scored.embeddings] == [384, 384]


def test_without_minilm_bm25_ranks_alone_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "find_minilm", lambda _: None)
    alone = builtin.load("builtin", "cpu", "float32", lambda *_: None)
    assert isinstance(alone, Lexical)
    assert alone.card.name == "builtin"
    assert alone.card.notice is not None
    assert "BM25 alone" in alone.card.notice


def test_the_cosine_has_no_say_in_an_unknown_text_and_most_of_it_in_english() -> None:
    assert fuse([0.5, 0.5], [0.0, 1.0], 0.0) == fuse([0.5, 0.5], [1.0, 0.0], 0.0)
    by_words, by_meaning = fuse([0.4, 0.0], [0.0, 0.4], 1.0)
    assert by_meaning > by_words
