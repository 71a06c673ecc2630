"""Small random checkpoints in the published layouts: real class names, keys and files, tiny sizes."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

XLMR_CONTROLS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT_CONTROLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
WORDS = ["how", "many", "people", "live", "in", "berlin", "million", "paris", "capital", "the", "of", "is"]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 1,
}
SPREAD = 8.0
"""Weights are scaled up, so that scores differ enough to be compared."""


def xlmr_tokenizer() -> Tokenizer:
    """A unigram model whose vocabulary holds the control tokens as pieces of score 0, as XLM-R's does."""
    pieces = [(piece, 0.0) for piece in XLMR_CONTROLS[:4]]
    pieces += [("▁", -3.0), *((f"▁{word}", -4.0) for word in WORDS), *((letter, -6.0) for letter in LETTERS)]
    pieces += [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(XLMR_CONTROLS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def bert_tokenizer() -> Tokenizer:
    pieces = [*BERT_CONTROLS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(BERT_CONTROLS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def write_xlmr(folder: Path, seed: int = 0, positions: int = 66, **changes: Any) -> Path:
    tokenizer = xlmr_tokenizer()
    config = XLMRobertaConfig(
        **{**SIZES, **changes},
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        layer_norm_eps=1e-5,
    )
    torch.manual_seed(seed)
    return write(folder, XLMRobertaForSequenceClassification(config), tokenizer, positions - 2)


def write_bert(folder: Path, seed: int = 0, positions: int = 64, **changes: Any) -> Path:
    """A BERT cross-encoder that asks for raw logits, as the ms-marco models do."""
    tokenizer = bert_tokenizer()
    torch.manual_seed(seed)
    model = BertForSequenceClassification(_bert_config(tokenizer, positions, changes))
    write(folder, model, tokenizer, positions)
    change_config(folder, sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})
    return folder


def write_bi_encoder(folder: Path, seed: int = 0, positions: int = 64, pooling: str = "mean_tokens") -> Path:
    tokenizer = bert_tokenizer()
    torch.manual_seed(seed)
    write(folder, BertModel(_bert_config(tokenizer, positions, {})), tokenizer, positions)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _bert_config(tokenizer: Tokenizer, positions: int, changes: dict[str, Any]) -> BertConfig:
    return BertConfig(
        **{**SIZES, **changes},
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=positions,
        type_vocab_size=2,
        pad_token_id=0,
        layer_norm_eps=1e-12,
    )


def write(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, max_length: int) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SPREAD)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": max_length}))
    return folder
