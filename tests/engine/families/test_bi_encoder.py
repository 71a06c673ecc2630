from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rerankd.engine.encoder import PackedEncoder
from rerankd.engine.padded import PaddedEncoder
from rerankd.engine.scorer import Scorer
from rerankd.errors import BadRequest, UnsupportedModel
from tests.engine import reference, tiny, tiny_encoders
from tests.engine.asking import ask, fed, load

QUERY = "how many people live in berlin"
DOCUMENTS = ["3.5 million people live in berlin", "", "the capital of france is paris", "berlin " * 70, "x"]


def test_scores_and_vectors_equal_those_of_a_padded_mean_pooled_model(bi_encoder_folder: Path) -> None:
    scored = ask(load(bi_encoder_folder), QUERY, DOCUMENTS)
    expected = reference.mean_vectors(bi_encoder_folder, [QUERY, *DOCUMENTS], 64)
    assert scored.scores == pytest.approx((expected[1:] @ expected[0]).tolist(), abs=1e-5)
    assert scored.embeddings is not None
    assert torch.allclose(torch.tensor(scored.embeddings), expected[1:], atol=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.05
    assert list(scored.truncated) == [3]


def test_first_token_pooling_is_taken_where_the_files_ask_for_it(tmp_path: Path) -> None:
    mean = ask(load(tiny.write_bi_encoder(tmp_path / "mean")), QUERY, DOCUMENTS)
    first = ask(load(tiny.write_bi_encoder(tmp_path / "first", pooling="cls_token")), QUERY, DOCUMENTS)
    assert first.scores != pytest.approx(mean.scores, abs=1e-3)


def test_a_pooling_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="max_tokens"):
        load(tiny.write_bi_encoder(tmp_path, pooling="max_tokens"))


def test_a_module_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny.write_bi_encoder(tmp_path)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(UnsupportedModel, match="Dense"):
        load(folder)


def test_the_query_counts_once(bi_encoder_folder: Path) -> None:
    whole = reference.tokenizer_of(bi_encoder_folder)
    whole.enable_truncation(64)
    expected = sum(len(whole.encode(text).ids) for text in [QUERY, *DOCUMENTS])
    assert ask(load(bi_encoder_folder), QUERY, DOCUMENTS).tokens == expected


KINDS: dict[str, tuple[Callable[..., Path], type]] = {
    "bert": (tiny.write_bi_encoder, PackedEncoder),
    "roberta": (tiny_encoders.write_encoder("RobertaModel"), PackedEncoder),
    "xlm-roberta": (tiny_encoders.write_encoder("XLMRobertaModel"), PackedEncoder),
    "camembert": (tiny_encoders.write_encoder("CamembertModel"), PackedEncoder),
    "modernbert": (tiny_encoders.write_encoder("ModernBertModel"), PackedEncoder),
    "mpnet": (tiny_encoders.write_encoder("MPNetModel"), PaddedEncoder),
    "distilbert": (tiny_encoders.write_encoder("DistilBertModel"), PaddedEncoder),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, (write, _) in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_class_says_what_transformers_says(name: str, folders: dict[str, Path]) -> None:
    model = load(folders[name])
    assert isinstance(model.runner, KINDS[name][1])
    scored = ask(model, QUERY, DOCUMENTS)
    expected = reference.mean_vectors(folders[name], [QUERY, *DOCUMENTS], 64)
    assert scored.scores == pytest.approx((expected[1:] @ expected[0]).tolist(), abs=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", KINDS)
def test_a_text_gets_the_same_score_alone_and_among_others_to_the_last_bit(
    name: str, dtype: str, folders: dict[str, Path]
) -> None:
    model = load(folders[name], dtype)
    company = [*DOCUMENTS, *(" ".join(["berlin paris people"] * count) for count in range(1, 20))]
    together = ask(model, QUERY, company).scores
    assert [ask(model, QUERY, [text]).scores[0] for text in company] == list(together)


def test_a_long_document_is_read_in_windows_where_the_request_asks_for_them(bi_encoder_folder: Path) -> None:
    model = load(bi_encoder_folder)
    long = "berlin " * 100 + "paris " * 100
    several = ask(model, QUERY, [long, "x"], max_chunks_per_doc=9, overlap_tokens=0)
    parts = ["berlin " * 62, "berlin " * 38 + "paris " * 24, "paris " * 62]
    alone = ask(model, QUERY, parts)
    assert several.scores[0] == max(alone.scores)
    assert several.embeddings is not None
    assert alone.embeddings is not None
    assert several.embeddings[0] == alone.embeddings[list(alone.scores).index(max(alone.scores))]
    assert list(several.truncated) == []


def test_a_text_that_does_not_fit_is_an_error_where_nothing_may_be_cut(bi_encoder_folder: Path) -> None:
    model = load(bi_encoder_folder)
    with pytest.raises(BadRequest, match=r"documents\[1\]"):
        ask(model, QUERY, ["x", "berlin " * 70], truncation=False)
    with pytest.raises(BadRequest, match="query"):
        ask(model, "berlin " * 70, ["x"], truncation=False)


def test_the_users_own_limit_of_a_query_holds(bi_encoder_folder: Path) -> None:
    query, _ = fed(load(bi_encoder_folder, max_query_length=3), QUERY, ["x"])
    assert len(query) == 5


def test_no_text_ever_becomes_a_control_token(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        model: Scorer = load(folder)
        controls = tiny_encoders.control_tokens(folder)
        forbidden = {identity for control, identity in controls.items() if control not in ("<unk>", "[UNK]")}
        for text in tiny_encoders.forgeries(list(controls)):
            for sequence in fed(model, text, [text + " x"]):
                assert sum(identity in forbidden for identity in sequence.ids) == 2, (name, text)
