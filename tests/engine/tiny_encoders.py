"""Small random checkpoints of the encoder families beside BERT and XLM-RoBERTa, in their published layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    GteConfig,
    GteForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from tests.engine import tiny
from tests.engine.tiny import BERT_CONTROLS, LETTERS, SIZES, WORDS

ROPE_THETA, NTK_FACTOR = 20000, 8.0
ROBERTA_CONTROLS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_tokenizer(controls: list[str], post: Any) -> Tokenizer:
    """A byte-level BPE with a few merges; the first controls are the ids from 0 on."""
    pieces = [*controls, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġb", "er", "Ġber", "li", "lin", "Ġberlin"]
    merges = [("Ġ", "b"), ("e", "r"), ("Ġb", "er"), ("l", "i"), ("li", "n"), ("Ġber", "lin")]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(controls)
    tokenizer.post_processor = post
    return tokenizer


def roberta_tokenizer() -> Tokenizer:
    return byte_tokenizer(ROBERTA_CONTROLS, processors.RobertaProcessing(("</s>", 2), ("<s>", 0)))


def modernbert_tokenizer() -> Tokenizer:
    post = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return byte_tokenizer(BERT_CONTROLS, post)


def deberta_tokenizer() -> Tokenizer:
    """A unigram model whose vocabulary holds `[SEP]` and its like as pieces of score 0, as DeBERTa's does."""
    pieces = [(piece, 0.0) for piece in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    pieces += [("▁", -3.0), *((f"▁{word}", -4.0) for word in WORDS), *((letter, -6.0) for letter in LETTERS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def mpnet_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_str(tiny.bert_tokenizer().to_str().replace("[CLS]", "<s>").replace("[SEP]", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return tokenizer


def write_native(name: str, tokenizer: Tokenizer, **changes: Any) -> Callable[..., Path]:
    """A writer of a checkpoint of transformers' class `name`."""

    def write(folder: Path, seed: int = 0, positions: int = 64) -> Path:
        torch.manual_seed(seed)
        cls = getattr(transformers, name)
        offset = 2 if changes.get("pad_token_id") == 1 else 0
        sizes = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": positions + offset}
        config = cls.config_class(**{**SIZES, "pad_token_id": 0, **sizes, **changes})
        return tiny.write(folder, cls(config), tokenizer, positions)

    return write


def write_jina_v2(folder: Path, seed: int = 0, positions: int = 64) -> Path:
    """The fused layout without a model type; `standard` in it is the same model as transformers knows it."""
    standard = tiny.write_xlmr(folder / "standard", seed, positions + 2)
    tensors = _fused(load_file(standard / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((standard / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((standard / name).read_text())
    return folder


def _fused(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    fused = {}
    for name in tensors:
        published = name.replace("roberta.embeddings.LayerNorm", "roberta.emb_ln").replace(
            "encoder.layer.", "encoder.layers."
        )
        for ours, theirs in (
            ("attention.output.dense", "mixer.out_proj"),
            ("attention.output.LayerNorm", "norm1"),
            ("attention.self.query", "mixer.Wqkv"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
            ("output.LayerNorm", "norm2"),
        ):
            published = published.replace(ours, theirs)
        if ".query." in name:
            parts = [tensors[name.replace("query", part)] for part in ("query", "key", "value")]
            fused[published] = torch.cat(parts)
        elif ".key." not in name and ".value." not in name:
            fused[published] = tensors[name].clone()
    return fused


def write_gte(folder: Path, seed: int = 0, positions: int = 64) -> Path:
    """The native config and layout."""
    tokenizer = tiny.xlmr_tokenizer()
    torch.manual_seed(seed)
    width = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    config = GteConfig(
        **SIZES,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=positions,
        rope_parameters={
            "rope_type": "linear",
            "rope_theta": ROPE_THETA * NTK_FACTOR,
            "factor": NTK_FACTOR ** (2 / width),
        },
    )
    return tiny.write(folder, GteForSequenceClassification(config), tokenizer, positions)


def write_new(folder: Path, seed: int = 0, positions: int = 64, **changes: Any) -> Path:
    """The same model under the name and in the words of the code on the hub."""
    write_gte(folder, seed, positions)
    tensors = load_file(folder / "model.safetensors")
    renamed = {name.replace("gte.", "new.", 1) if name.startswith("gte.") else name: tensors[name] for name in tensors}
    save_file(renamed, folder / "model.safetensors")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    published = {
        "architectures": ["NewForSequenceClassification"],
        "model_type": "new",
        "auto_map": {"AutoModel": "modeling.NewModel"},
        "position_embedding_type": "rope",
        "rope_theta": ROPE_THETA,
        "rope_scaling": {"type": "ntk", "factor": NTK_FACTOR},
    }
    path.write_text(json.dumps({**config, **published, **changes}))
    return folder


def write_modernbert(folder: Path, seed: int = 0, positions: int = 400, pooling: Any = "cls") -> Path:
    """Layers 1 and 2 see 8 tokens to each side, layers 0 and 3 everything."""
    tokenizer = modernbert_tokenizer()
    torch.manual_seed(seed)
    config = ModernBertConfig(
        **{**SIZES, "num_hidden_layers": 4},
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=positions,
        local_attention=16,
        classifier_pooling=pooling,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )
    return tiny.write(folder, ModernBertForSequenceClassification(config), tokenizer, positions)


DEBERTA: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 8,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_hidden_act": "gelu",
}
DISTILBERT: dict[str, Any] = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "seq_classif_dropout": 0.0}
ROBERTA: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}

WRITERS: dict[str, Callable[..., Path]] = {
    "xlm-roberta": tiny.write_xlmr,
    "bert": tiny.write_bert,
    "jina-v2": write_jina_v2,
    "gte": write_gte,
    "new": write_new,
    "modernbert": write_modernbert,
    "modernbert-mean": lambda folder: write_modernbert(folder, pooling="mean"),
    "roberta": write_native("RobertaForSequenceClassification", roberta_tokenizer(), **ROBERTA),
    "camembert": write_native("CamembertForSequenceClassification", tiny.xlmr_tokenizer(), **ROBERTA),
    "electra": write_native("ElectraForSequenceClassification", tiny.bert_tokenizer(), embedding_size=16),
    "deberta-v2": write_native("DebertaV2ForSequenceClassification", deberta_tokenizer(), **DEBERTA),
    "distilbert": write_native("DistilBertForSequenceClassification", tiny.bert_tokenizer(), **DISTILBERT),
    "albert": write_native("AlbertForSequenceClassification", tiny.bert_tokenizer(), embedding_size=16),
    "mpnet": write_native("MPNetForSequenceClassification", mpnet_tokenizer(), pad_token_id=1),
    "convbert": write_native("ConvBertForSequenceClassification", tiny.bert_tokenizer(), embedding_size=16),
}
"""Every cross-encoder's layout by name; the last one is run without padding."""
TOKENIZERS = {
    "RobertaModel": roberta_tokenizer,
    "XLMRobertaModel": tiny.xlmr_tokenizer,
    "CamembertModel": tiny.xlmr_tokenizer,
    "ModernBertModel": modernbert_tokenizer,
    "MPNetModel": mpnet_tokenizer,
    "DistilBertModel": tiny.bert_tokenizer,
}


def write_encoder(name: str) -> Callable[..., Path]:
    """A writer of a bi-encoder of transformers' class `name`, which pools the mean."""
    changes = {
        "DistilBertModel": DISTILBERT,
        "ModernBertModel": {"local_attention": 16},
        "MPNetModel": {"pad_token_id": 1},
    }
    return write_native(name, TOKENIZERS[name](), **changes.get(name, ROBERTA))


def control_tokens(folder: Path) -> dict[str, int]:
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return {token["content"]: token["id"] for token in added if token["special"]}


def forgeries(controls: list[str]) -> list[str]:
    """Texts that hold control tokens: alone, side by side, one within another, among letters and blanks."""
    pairs = [(one, other) for one in controls for other in controls]
    nested = [f"{one[:place]}{other}{one[place:]}" for one, other in pairs for place in (1, 3)]
    around = [f" {control} " for control in controls] + [f"a{control}b" for control in controls]
    return [*controls, *(one + other for one, other in pairs), *nested, *around]
