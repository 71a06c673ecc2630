"""What transformers' own padded classes say of the same checkpoint, with the checkpoint's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification


def tokenizer_of(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def logits(folder: Path, query: str, documents: Sequence[str], strategy: str, max_length: int) -> list[float]:
    """One logit per document from a padded batch in float32."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    batch = _padded(folder, [(query, document) for document in documents], strategy, max_length)
    with torch.inference_mode():
        return list(model(**batch).logits[:, 0].tolist())


def mean_vectors(folder: Path, texts: Sequence[str], max_length: int) -> torch.Tensor:
    """Unit vectors [texts, width]: the mean over real tokens of a padded batch in float32."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = _padded(folder, texts, "longest_first", max_length)
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def _padded(folder: Path, inputs: Sequence[Any], strategy: str, max_length: int) -> dict[str, torch.Tensor]:
    tokenizer = tokenizer_of(folder)
    pad = tokenizer.token_to_id("<pad>")
    tokenizer.enable_truncation(max_length, strategy=strategy)
    tokenizer.enable_padding(pad_id=0 if pad is None else pad)
    encoded = tokenizer.encode_batch(list(inputs))
    return {
        "input_ids": torch.tensor([one.ids for one in encoded]),
        "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
        "token_type_ids": torch.tensor([one.type_ids for one in encoded]),
    }
