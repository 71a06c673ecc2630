"""What a pairwise model makes of logits: the scale that was asked for, and the tokens of each pair."""

from __future__ import annotations

from math import exp
from pathlib import Path

import pytest

from tests.engine.asking import ask, load

QUERY, DOCUMENTS = "berlin", ["3.5 million people live in berlin", "", "paris"]


def sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-logit))


@pytest.mark.parametrize(("family", "own"), [("xlmr", "probability"), ("bert", "logit")])
def test_a_request_can_choose_between_logits_and_probabilities(
    family: str, own: str, request: pytest.FixtureRequest
) -> None:
    scorer = load(request.getfixturevalue(family))
    assert (scorer.card.score, scorer.card.logits) == (own, True)
    logits = ask(scorer, QUERY, DOCUMENTS, raw_scores=True).scores
    probabilities = ask(scorer, QUERY, DOCUMENTS, raw_scores=False).scores
    assert probabilities == pytest.approx([sigmoid(logit) for logit in logits], abs=1e-12)
    assert ask(scorer, QUERY, DOCUMENTS).scores == (probabilities if own == "probability" else logits)
    assert logits != probabilities


def test_the_tokens_of_each_pair_are_counted(xlmr: Path) -> None:
    scored = ask(load(xlmr), QUERY, DOCUMENTS)
    assert scored.pair_tokens is not None
    assert sum(scored.pair_tokens) == scored.tokens
    assert scored.pair_tokens[0] > scored.pair_tokens[2] > scored.pair_tokens[1] > 0
