"""A packed decoder says what transformers' own model says of each sequence by itself, its prefix shared or not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from rerankd.engine.attention import IMPLEMENTATION
from rerankd.engine.decoder import PackedDecoder
from rerankd.engine.pre_norm import supports
from rerankd.engine.scorer import Watch, run_all
from rerankd.engine.sequences import SharedPrefix, TokenSequence

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
LENGTHS = (1, 4, 17, 60, 130, 700)


def qwen3(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Qwen3Model(Qwen3Config(**{**SIZES, "head_dim": 32, **changes})).eval().requires_grad_(False)


def qwen2() -> Any:
    torch.manual_seed(0)
    model = Qwen2Model(Qwen2Config(**SIZES)).eval().requires_grad_(False)
    for layer in model.layers:  # a fresh model's biases are zero, and would hide that they are forgotten
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            part.bias.normal_()
    return model


def sliding() -> Any:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return qwen3(use_sliding_window=True, sliding_window=20, layer_types=kinds, max_window_layers=0)


def decoder(base: Any, dtype: torch.dtype = torch.float32) -> PackedDecoder:
    base = copy.deepcopy(base).to(dtype)
    base.config._attn_implementation = IMPLEMENTATION
    return PackedDecoder(base, lambda rows: rows.float(), torch.device("cpu"))


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(0, 60, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def reference(base: Any, tokens: list[int], taps: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        hidden: torch.Tensor = base(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
    return hidden[list(taps)]


@pytest.mark.parametrize("make", [qwen3, qwen2, sliding])
def test_the_taps_are_those_of_transformers_model(make: Any) -> None:
    base = make()
    runner = decoder(base)
    asked = [TokenSequence(ids(length, length), taps=(0, length // 2, -1)) for length in LENGTHS]
    for sequence, found in zip(asked, run_all(runner, asked, Watch()), strict=True):
        torch.testing.assert_close(found, reference(base, sequence.ids, sequence.taps), atol=2e-5, rtol=0)


@pytest.mark.parametrize("make", [qwen3, qwen2, sliding])
@pytest.mark.parametrize("length", [1, 30, 600])
def test_a_shared_prefix_changes_nothing(make: Any, length: int) -> None:
    base = make()
    shared = SharedPrefix(ids(length, 99))
    asked = [TokenSequence(ids(count, count), taps=(-1,), prefix=shared) for count in LENGTHS]
    for sequence, found in zip(asked, run_all(decoder(base), asked, Watch()), strict=True):
        torch.testing.assert_close(found, reference(base, [*shared.ids, *sequence.ids], (-1,)), atol=2e-5, rtol=0)


def test_a_prefix_is_computed_once_and_used_by_later_batches() -> None:
    runner = decoder(qwen3())
    shared = SharedPrefix(ids(40, 99))
    first, second = (TokenSequence(ids(9, seed), taps=(-1,), prefix=shared) for seed in (1, 2))
    run_all(runner, [first], Watch())
    assert set(shared.state) == {0, 1, 2}
    kept = dict(shared.state)
    run_all(runner, [second], Watch())
    assert shared.state == kept


def test_a_prefix_whose_batch_was_given_up_is_computed_again() -> None:
    runner = decoder(qwen3())
    shared = SharedPrefix(ids(40, 99))
    asked = TokenSequence(ids(9, 1), taps=(-1,), prefix=shared)
    steps = runner.run([asked])
    next(steps)
    steps.close()
    assert shared.state == {}
    [found] = run_all(runner, [asked], Watch())
    torch.testing.assert_close(found, reference(qwen3(), [*shared.ids, *asked.ids], (-1,)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_has_the_same_bits_alone_and_among_others(dtype: torch.dtype) -> None:
    runner = decoder(qwen3(), dtype)
    prefix = ids(33, 99)

    def asked() -> list[TokenSequence]:
        shared = SharedPrefix(prefix)
        return [TokenSequence(ids(count, count), taps=(-1,), prefix=shared) for count in LENGTHS]

    others = [TokenSequence(ids(count, count + 1), taps=(0, -1)) for count in (3, 50, 77)]
    among = run_all(runner, [*others, *asked()], Watch())[len(others) :]
    for place in range(len(LENGTHS)):
        [alone] = run_all(runner, [asked()[place]], Watch())
        assert torch.equal(alone, among[place])


def test_bfloat16_is_near_float32() -> None:
    asked = [TokenSequence(ids(length, length), taps=(-1,)) for length in LENGTHS]
    exact = torch.cat(run_all(decoder(qwen3()), asked, Watch()))
    rounded = torch.cat(run_all(decoder(qwen3(), torch.bfloat16), asked, Watch()))
    assert (exact - rounded).abs().max() < 0.12


def test_only_qwen_with_silu_is_rebuilt() -> None:
    assert supports(qwen3())
    assert supports(qwen2())
    assert not supports(qwen3(hidden_act="gelu"))
