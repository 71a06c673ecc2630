from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.families import sequence_classification
from rerankd.engine.families.sequence_classification import MASKED_WELL
from rerankd.engine.linear import tile_linears
from rerankd.engine.padded import PaddedEncoder, positions
from rerankd.engine.scorer import Watch, drain
from rerankd.engine.sequences import TokenSequence
from rerankd.errors import UnsupportedModel
from tests.engine import tiny, tiny_encoders
from tests.engine.asking import load
from tests.engine.tiny_encoders import DEBERTA, DISTILBERT, write_native

SMALL: dict[str, Any] = {
    **tiny.SIZES,
    "hidden_size": 64,
    "intermediate_size": 96,
    "vocab_size": 100,
    "max_position_embeddings": 300,
    "pad_token_id": 1,
    "embedding_size": 64,
    "num_key_value_heads": 4,
    "head_dim": 16,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "Deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2": {**DEBERTA, "position_buckets": 32},
    "DistilBert": {**DISTILBERT, "dim": 64},
    "MobileBert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
}
MASKING = (
    "Albert",
    "Data2VecText",
    "Deberta",
    "DebertaV2",
    "DistilBert",
    "Ernie",
    "EuroBert",
    "MegatronBert",
    "MobileBert",
    "MPNet",
    "NomicBert",
    "RemBert",
    "RobertaPreLayerNorm",
    "SqueezeBert",
    "XLMRobertaXL",
)
LENGTHS = (3, 9, 14, 15, 30, 39, 40, 90, 150, 200)


def test_every_model_type_that_is_said_to_mask_well_is_tried() -> None:
    configs = [getattr(transformers, f"{name}ForSequenceClassification").config_class for name in MASKING]
    assert {config.model_type for config in configs} == MASKED_WELL


@pytest.mark.parametrize("name", MASKING)
def test_padding_changes_nothing_and_company_not_a_bit(name: str) -> None:
    cls = getattr(transformers, f"{name}ForSequenceClassification")
    torch.manual_seed(0)
    model = cls._from_config(cls.config_class(**{**SMALL, **SPECIAL.get(name, {})}), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    generator = torch.Generator().manual_seed(0)
    sequences = [TokenSequence(torch.randint(5, 100, (length,), generator=generator).tolist()) for length in LENGTHS]
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([sequence.ids])).logits.item() for sequence in sequences]
    tile_linears(model)
    runner = PaddedEncoder(model, lambda inputs: model(**inputs).logits.double(), positions(model), masks=True)
    together = [result.item() for result in drain(runner.run(sequences), Watch())]
    assert together == pytest.approx(alone, abs=1e-5)
    assert max(together) - min(together) > 0.05
    assert [drain(runner.run([sequence]), Watch())[0].item() for sequence in sequences] == together


@pytest.mark.parametrize("architecture", ["DebertaV2ForSequenceClassification", "LongformerForSequenceClassification"])
def test_an_encoder_that_transformers_has_is_recognised(architecture: str, tmp_path: Path) -> None:
    assert sequence_classification.recognises(checkpoint(tmp_path, architecture))


@pytest.mark.parametrize(
    "architecture",
    [
        "Qwen3ForSequenceClassification",
        "XLNetForSequenceClassification",
        "Wav2Vec2ForSequenceClassification",
        "AutoModelForSequenceClassification",
        "EvilForSequenceClassification",
        "DebertaV2Model",
        "",
    ],
)
def test_anything_else_is_not(architecture: str, tmp_path: Path) -> None:
    assert not sequence_classification.recognises(checkpoint(tmp_path, architecture))


def checkpoint(folder: Path, architecture: str) -> Checkpoint:
    (folder / "config.json").write_text("{}")
    tiny.change_config(folder, architectures=[architecture])
    return Checkpoint(folder)


def test_several_labels_are_no_reranker(tmp_path: Path) -> None:
    write = write_native(
        "DebertaV2ForSequenceClassification", tiny_encoders.deberta_tokenizer(), **DEBERTA, num_labels=3
    )
    with pytest.raises(UnsupportedModel, match="3 labels"):
        load(write(tmp_path / "model"))


def test_roberta_like_positions_are_counted_behind_the_padding(tmp_path: Path) -> None:
    assert load(tiny_encoders.WRITERS["mpnet"](tmp_path / "mpnet")).card.max_length == 64
    (tmp_path / "mpnet" / "tokenizer_config.json").unlink()
    assert load(tmp_path / "mpnet").card.max_length == 64
