"""Full-size checkpoints of random weights, in the layout that is published, for measuring speed without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

WORDS = 20_000
CONTROLS = ["<s>", "<pad>", "</s>", "<unk>"]

XLMR_LARGE: dict[str, Any] = {
    "vocab_size": 250_002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "num_labels": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
"""bge-reranker-v2-m3's shape."""
MINILM: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
"""ms-marco-MiniLM-L6-v2's shape."""


def word(number: int) -> str:
    return f"w{number % WORDS}"


def write_xlmr(folder: Path, seed: int = 0, **changes: int) -> Path:
    """An XLM-R reranker in float32 under `folder`, with a tokenizer of one token per word. Returns the folder."""
    torch.manual_seed(seed)
    config = XLMRobertaConfig(**{**XLMR_LARGE, **changes})
    model = XLMRobertaForSequenceClassification(config)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def write_bert(folder: Path, seed: int = 0, **sizes: Any) -> Path:
    """A BERT reranker in float32 under `folder`, with the same tokenizer. Returns the folder."""
    torch.manual_seed(seed)
    config = BertConfig(**{**sizes, "num_labels": 1}, vocab_size=30_522, pad_token_id=1)
    BertForSequenceClassification(config).save_pretrained(folder)
    _write_tokenizer(folder, max_length=512)
    return folder


def _write_tokenizer(folder: Path, max_length: int = 8192) -> None:
    vocabulary = {piece: index for index, piece in enumerate([*CONTROLS, *map(word, range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(CONTROLS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), CONTROLS, strict=True)),
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
