"""Small random decoder checkpoints in the published layouts, with tokenizers that split texts as Qwen's and Gemma's do."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"]
WRITTEN = ["<tool_call>", "<think>", "</think>"]
"""Added tokens that are no control tokens: the models write them."""
MARKERS = ["<|score_token|>", "<|embed_token|>", "<|rerank_token|>"]
GEMMA_CONTROLS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
PIECES = [
    "yes",
    "no",
    "Yes",
    " passage",
    "passage",
    " query",
    "Document",
    " Berlin",
    "  ",
    "\n\n",
    '">\n',
    "?\n",
    ":\n",
    " \n",
]
"""Words, and pieces that show where a text was divided in the wrong place."""
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
}
SPREAD = 6.0
"""Weights are scaled up, so that scores differ enough to be compared."""


def qwen_tokenizer(markers: bool = False) -> Tokenizer:
    """Byte-level BPE with NFC and Qwen's division of texts; with `markers` it is jina-reranker-v3's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary, merges = _pieces(letters, (level.pre_tokenize_str(piece)[0][0] for piece in PIECES))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, CONTROLS, special=True)
    _add(tokenizer, WRITTEN, special=False)
    _add(tokenizer, MARKERS if markers else [], special=True)
    return tokenizer


def llama_tokenizer() -> Tokenizer:
    """As Qwen's, with a token before each text."""
    tokenizer = qwen_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.token_to_id("<|im_start|>"))]
    )
    return tokenizer


def gemma_tokenizer(pieces: Iterable[str] = PIECES) -> Tokenizer:
    """BPE over a whole text, with byte tokens, and with control tokens that are pieces of the vocabulary."""
    letters = [*GEMMA_CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256)), *string.printable, "▁"]
    vocabulary, merges = _pieces(letters, (piece.replace(" ", "▁") for piece in pieces))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _add(tokenizer, GEMMA_CONTROLS, special=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def write_qwen3(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Qwen3-Reranker."""
    tokenizer = qwen_tokenizer()
    config = Qwen3Config(**_sizes(tokenizer, {"tie_word_embeddings": True, "head_dim": 8, **changes}))
    return _write(folder, Qwen3ForCausalLM, config, tokenizer, seed)


def write_qwen3_row(folder: Path, of: Path) -> Path:
    """The conversion of the Qwen3-Reranker in `of` to a classifier: its one row is that of yes less that of no."""
    tokenizer = qwen_tokenizer()
    config = Qwen3Config.from_pretrained(of)
    config.num_labels = 1
    _write(folder, Qwen3ForSequenceClassification, config, tokenizer)
    tensors = load_file(of / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    yes, no = (rows[tokenizer.token_to_id(word)] for word in ("yes", "no"))
    save_file({**tensors, "score.weight": (yes - no).unsqueeze(0)}, folder / "model.safetensors")
    return folder


def write_mxbai(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """mxbai-rerank v2."""
    tokenizer = qwen_tokenizer()
    config = Qwen2Config(**_sizes(tokenizer, {"tie_word_embeddings": True, **changes}))
    return _write(folder, Qwen2ForCausalLM, config, tokenizer, seed)


def write_gemma(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """bge-reranker-v2-gemma."""
    tokenizer = gemma_tokenizer()
    config = GemmaConfig(**_sizes(tokenizer, {"tie_word_embeddings": True, "head_dim": 8, **changes}))
    return _write(folder, GemmaForCausalLM, config, tokenizer, seed)


def write_nemotron(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """llama-nemotron-rerank."""
    tokenizer = llama_tokenizer()
    config = LlamaConfig(**_sizes(tokenizer, {"num_labels": 1, **changes}))
    _write(folder, LlamaForSequenceClassification, config, tokenizer, seed)
    _change(
        folder, architectures=["LlamaBidirectionalForSequenceClassification"], model_type="llama_bidirec", pooling="avg"
    )
    return folder


def write_jina(folder: Path, seed: int = 0, *, window: int | None = None, **changes: Any) -> Path:
    """jina-reranker-v3, or v3.5 where some of its layers see a `window` alone."""
    tokenizer = qwen_tokenizer(markers=True)
    sizes = _sizes(tokenizer, {"tie_word_embeddings": True, "head_dim": 8, **changes})
    if window is not None:
        kinds = ["sliding_attention"] * (sizes["num_hidden_layers"] - 1) + ["full_attention"]
        sizes |= {"use_sliding_window": True, "sliding_window": window, "layer_types": kinds}
    _write(folder, Qwen3ForCausalLM, Qwen3Config(**sizes), tokenizer, seed)
    hidden = sizes["hidden_size"]
    projector = {
        "projector.0.weight": torch.randn(hidden // 2, hidden) / hidden**0.5,
        "projector.2.weight": torch.randn(512, hidden // 2) / hidden**0.5,
    }
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **projector}, folder / "model.safetensors")
    _change(folder, architectures=["JinaForRanking"])
    return folder


def _pieces(letters: Iterable[str], words: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of letters and words, and the merges that make each word letter by letter."""
    pieces, merges = [*letters], []
    for word in words:
        for end in range(1, len(word)):
            merges.append((word[:end], word[end]))
            pieces.append(word[: end + 1])
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, list(dict.fromkeys(merges))


def _add(tokenizer: Tokenizer, names: list[str], *, special: bool) -> None:
    tokens = [AddedToken(name, special=special, normalized=False) for name in names]
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(tokens)


def _sizes(tokenizer: Tokenizer, changes: dict[str, Any]) -> dict[str, Any]:
    return {**SIZES, "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0, **changes}


def _write(folder: Path, cls: type[PreTrainedModel], config: Any, tokenizer: Tokenizer, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = cls(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SPREAD)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 131072}))
    return folder


def _change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
