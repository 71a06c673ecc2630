from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.decoder_weights import OUTPUTS, load_decoder, output_rows, score_row
from rerankd.engine.devices import place
from rerankd.errors import LoadError
from tests.engine import tiny_decoders


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_those_of_the_output_embedding(tied: bool, tmp_path: Path) -> None:
    folder = tiny_decoders.write_qwen3(tmp_path, tie_word_embeddings=tied)
    config = Qwen3Config.from_pretrained(folder)
    placement = place("cpu", "float32")
    base, kept = load_decoder(Qwen3Model, config, Checkpoint(folder), placement, lambda *_: None, heads=(OUTPUTS,))
    tensors = load_file(folder / "model.safetensors")
    expected = tensors["model.embed_tokens.weight" if tied else OUTPUTS][[5, 3]]
    assert torch.equal(output_rows(base, kept, [5, 3]), expected)
    assert list(kept) == ([] if tied else [OUTPUTS])
    with pytest.raises(LoadError, match=r"score\.weight"):
        score_row(kept)
