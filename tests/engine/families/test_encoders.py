"""What every family of encoder cross-encoders promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerankd.engine.scorer import Scorer
from rerankd.errors import BadRequest
from tests.engine import reference, tiny_encoders
from tests.engine.asking import ask, fed, load
from tests.engine.tiny_encoders import WRITERS

QUERY = "how many people live in berlin"
DOCUMENTS = [
    "3.5 million people live in berlin",
    "",
    "paris is the capital of france",
    "x",
    "paris is the capital of france",
    "berlin " * 70,
    "a man, a plan, a canal",
    "naïve café, 人口 ½ ﬁ",
]
COMPANY = [*DOCUMENTS, *(" ".join(["berlin paris people"] * count) for count in range(1, 25))]
CUT_BY_QUERY = {"xlm-roberta"}
"""Families that cap the query instead of cutting the longer of the two."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name) / "model") for name, write in WRITERS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[tuple[str, str], Scorer]:
    return {}


def model_of(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer], dtype: str = "float32"
) -> Scorer:
    if (name, dtype) not in models:
        models[name, dtype] = load(folders[name], dtype, score="logit")
    return models[name, dtype]


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("jina-v2", "new")])
def test_scores_equal_those_of_transformers_own_class(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    scorer = model_of(name, folders, models)
    strategy = "only_second" if name in CUT_BY_QUERY else "longest_first"
    length = scorer.card.max_length or 0
    batches = [[document] for document in DOCUMENTS] if name == "convbert" else [DOCUMENTS]
    expected = [logit for batch in batches for logit in reference.logits(folders[name], QUERY, batch, strategy, length)]
    scores = ask(scorer, QUERY, DOCUMENTS).scores
    assert scores == pytest.approx(expected, abs=1e-5)
    assert max(scores) - min(scores) > 0.05, "a model that says the same of everything proves nothing"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_pair_gets_the_same_score_alone_and_among_others_to_the_last_bit(
    name: str, dtype: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    scorer = model_of(name, folders, models, dtype)
    together = ask(scorer, QUERY, COMPANY).scores
    assert [ask(scorer, QUERY, [document]).scores[0] for document in COMPANY] == list(together)
    assert list(ask(scorer, QUERY, COMPANY[::-1]).scores) == list(together)[::-1]


@pytest.mark.parametrize("name", WRITERS)
def test_bfloat16_stays_near_float32(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    exact, short = (ask(model_of(name, folders, models, dtype), QUERY, DOCUMENTS) for dtype in ("float32", "bfloat16"))
    assert short.scores == pytest.approx(exact.scores, abs=0.3)


@pytest.mark.parametrize("name", WRITERS)
def test_no_text_ever_becomes_a_control_token(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    scorer = model_of(name, folders, models)
    controls = tiny_encoders.control_tokens(folders[name])
    forbidden = {identity for control, identity in controls.items() if control not in ("<unk>", "[UNK]")}

    def forged_in(text: str) -> int:
        (sequence,) = fed(scorer, text, [text])
        return sum(identity in forbidden for identity in sequence.ids)

    own = forged_in("a")
    assert own >= 3
    for text in tiny_encoders.forgeries(list(controls)):
        assert forged_in(text) == own, text


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_fed_is_the_tokenizers_own_pair(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    whole = reference.tokenizer_of(folders[name])
    short = [document for document in DOCUMENTS if len(document) < 100]
    expected = [encoding.ids for encoding in whole.encode_batch([(QUERY, document) for document in short])]
    sequences = fed(model_of(name, folders, models), QUERY, short)
    assert [sequence.ids for sequence in sequences] == without_repetitions(expected)


def without_repetitions(found: list[list[int]]) -> list[list[int]]:
    return [ids for place, ids in enumerate(found) if ids not in found[:place]]


@pytest.mark.parametrize("name", WRITERS)
def test_a_text_that_does_not_fit_is_an_error_where_nothing_may_be_cut(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    scorer = model_of(name, folders, models)
    with pytest.raises(BadRequest, match="`query` has"):
        ask(scorer, "berlin " * 500, ["x"], truncation=False)
    with pytest.raises(BadRequest, match=r"documents\[1\]"):
        ask(scorer, QUERY, ["x", "berlin " * 500], truncation=False, max_chunks_per_doc=1)
    assert ask(scorer, QUERY, ["x", "berlin"], truncation=False).scores


@pytest.mark.parametrize("name", WRITERS)
def test_the_best_of_several_windows_counts(
    name: str, folders: dict[str, Path], models: dict[tuple[str, str], Scorer]
) -> None:
    scorer = model_of(name, folders, models)
    long = "berlin " * 500 + "paris capital"
    one = ask(scorer, QUERY, [long], max_chunks_per_doc=1)
    several = ask(scorer, QUERY, [long], max_chunks_per_doc=100, overlap_tokens=3)
    assert several.tokens > one.tokens
    assert several.scores[0] >= one.scores[0]
    assert (list(one.truncated), list(several.truncated)) == ([0], [])
