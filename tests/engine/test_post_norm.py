"""The rebuilt BERT and XLM-R layers say what transformers' own layers say, and the same bits in any company."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from rerankd.engine.attention import IMPLEMENTATION
from rerankd.engine.encoder import PackedEncoder, first_rows, mean_rows, whole_model
from rerankd.engine.int8 import Int8Linear
from rerankd.engine.linear import TiledLinear
from rerankd.engine.post_norm import STEP, PostNormLayers, supports
from rerankd.engine.scorer import Watch, run_all
from rerankd.engine.sequences import TokenSequence

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 700,
}
LENGTHS = (3, 5, 5, 31, 32, 33, 47, 90, 90, 91, 200, 300, 600, 1)


def bert(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = BertConfig(**{**SIZES, **changes})
    config._attn_implementation = IMPLEMENTATION
    return BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)


def xlmr() -> Any:
    torch.manual_seed(0)
    config = XLMRobertaConfig(**SIZES, pad_token_id=1)
    config._attn_implementation = IMPLEMENTATION
    return XLMRobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)


def sequences() -> list[TokenSequence]:
    generator = torch.Generator().manual_seed(1)
    made = [torch.randint(3, 50, (length,), generator=generator).tolist() for length in LENGTHS]
    return [TokenSequence(ids, [int(place > len(ids) // 2) for place in range(len(ids))]) for ids in made]


def untyped() -> list[TokenSequence]:
    return [TokenSequence(sequence.ids) for sequence in sequences()]


def fast(
    base: Any, first_position: int, pool: Any = first_rows, linear: type[TiledLinear] = TiledLinear
) -> PackedEncoder:
    layers = PostNormLayers(base, first_position, linear)
    return PackedEncoder(layers, pool, lambda rows: rows.float(), layers.heights)


@pytest.mark.parametrize("pool", [first_rows, mean_rows])
@pytest.mark.parametrize(("make", "first_position", "asked"), [(bert, 0, sequences), (xlmr, 2, untyped)])
def test_in_float32_they_say_what_transformers_layers_say(
    make: Any, first_position: int, asked: Any, pool: Any
) -> None:
    base = make()
    general = PackedEncoder(
        whole_model(copy.deepcopy(base), first_position, torch.device("cpu")), pool, lambda rows: rows.float()
    )
    expected = run_all(general, asked(), Watch())
    assert supports(base)
    found = run_all(fast(base, first_position, pool), asked(), Watch())
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("linear", [TiledLinear, Int8Linear])
def test_a_sequence_has_the_same_bits_alone_and_among_others(dtype: torch.dtype, linear: type[TiledLinear]) -> None:
    encoder = fast(bert().to(dtype), 0, linear=linear)
    asked = sequences()
    among = run_all(encoder, [*asked, *asked[::-1]], Watch())
    backwards = run_all(encoder, asked[::-1], Watch())[::-1]
    for place, sequence in enumerate(asked):
        [alone] = run_all(encoder, [sequence], Watch())
        assert torch.equal(alone, among[place])
        assert torch.equal(alone, backwards[place])


def test_bfloat16_is_near_float32() -> None:
    exact = torch.stack(run_all(fast(bert(), 0), sequences(), Watch()))
    rounded = torch.stack(run_all(fast(bert().bfloat16(), 0), sequences(), Watch()))
    assert (exact - rounded).abs().max() < 0.08  # some 10 roundings of 1/256 at numbers of up to 3


def test_int8_is_near_float32() -> None:
    exact = torch.stack(run_all(fast(bert(), 0), sequences(), Watch()))
    rounded = torch.stack(run_all(fast(bert(), 0, linear=Int8Linear), sequences(), Watch()))
    assert (exact - rounded).abs().max() < 0.1
    assert not torch.equal(exact, rounded)


@pytest.mark.parametrize("changes", [{"hidden_act": "gelu_new"}, {"hidden_act": "relu"}, {"is_decoder": True}])
def test_another_activation_or_a_decoder_is_not_rebuilt(changes: dict[str, Any]) -> None:
    assert not supports(bert(**changes))


def test_a_step_is_a_layer() -> None:
    steps = fast(bert(), 0).run(sequences()[:3])
    assert sum(1 for _ in steps) >= SIZES["num_hidden_layers"]


def test_a_layer_of_a_large_batch_is_several_steps() -> None:
    long = TokenSequence([5] * 30)
    steps = sum(1 for _ in fast(bert(), 0).run([long] * (3 * STEP // 30)))
    assert steps >= 2 * SIZES["num_hidden_layers"]
