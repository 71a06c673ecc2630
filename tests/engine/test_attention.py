from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.attention import KeysAndValues, Span, attend, packed_attention

HEADS, WIDTH = 4, 8


def parts(length: int, kv_heads: int = HEADS, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = (HEADS, kv_heads, kv_heads)
    query, key, value = (torch.randn(count, length, WIDTH, generator=generator) for count in heads)
    return query, key, value


def by_definition(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, window: int | None
) -> torch.Tensor:
    """[length, heads, head_dim], with one mask over everything."""
    group = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
    own = torch.arange(key.shape[1] - query.shape[1], key.shape[1]).unsqueeze(1)
    other = torch.arange(key.shape[1]).unsqueeze(0)
    hidden = (other > own) & causal
    if window is not None:
        hidden = hidden | ((own - other).abs() >= window)
    scores = (query.double() @ key.double().transpose(1, 2) * 0.25).masked_fill(hidden, float("-inf"))
    return (torch.softmax(scores, -1) @ value.double()).transpose(0, 1).float()


def attended(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool = False, window: int | None = None
) -> torch.Tensor:
    output = query.new_empty(query.shape[1], HEADS, WIDTH)
    attend(query, key, value, output, 0.25, causal=causal, window=window)
    return output


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 1, 5, 64, 1000])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 7, 130, 700])
def test_rows_see_what_they_should_and_nothing_else(
    length: int, causal: bool, window: int | None, kv_heads: int
) -> None:
    query, key, value = parts(length, kv_heads)
    expected = by_definition(query, key, value, causal, window)
    assert torch.allclose(attended(query, key, value, causal, window), expected, atol=1e-5)
    short = attended(query.bfloat16(), key.bfloat16(), value.bfloat16(), causal, window)
    assert torch.allclose(short.float(), expected, atol=0.05)


@pytest.mark.parametrize("window", [None, 9])
def test_rows_see_the_keys_that_stand_before_their_own(window: int | None) -> None:
    query, key, value = parts(150, 2)
    whole = attended(query, key, value, causal=True, window=window)
    behind = attended(query[:, 100:], key, value, causal=True, window=window)
    assert torch.allclose(behind, whole[100:], atol=1e-5)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_each_sequence_of_a_packed_batch_attends_to_itself_alone(lengths: list[int]) -> None:
    stops = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    spans = [Span(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    query, key, value = parts(stops[-1] + 5)
    output, weights = packed_attention(
        torch.nn.Identity(), query[None], key[None], value[None], None, spans=spans, scaling=0.25
    )
    assert weights is None
    assert output.shape == (1, stops[-1] + 5, HEADS, WIDTH)
    for span in spans:
        alone = attended(query[:, span.rows], key[:, span.rows], value[:, span.rows])
        assert torch.equal(output[0, span.rows], alone)
    assert not output[0, stops[-1] :].any(), "rows of no sequence stay empty"


def test_what_a_module_says_of_itself_counts_where_nothing_else_is_said() -> None:
    query, key, value = parts(9)
    module = torch.nn.Identity()
    module.is_causal = True  # type: ignore[assignment]
    expected = attended(query, key, value, causal=True)
    whole: dict[str, Any] = {"spans": [Span(0, 9)], "scaling": 0.25}
    assert torch.equal(packed_attention(module, query[None], key[None], value[None], None, **whole)[0][0], expected)
    bidirectional = packed_attention(module, query[None], key[None], value[None], None, is_causal=False, **whole)[0][0]
    assert torch.equal(bidirectional, attended(query, key, value))


def test_keys_are_kept_and_seen_by_the_sequences_behind_them() -> None:
    """Tokens 0 to 9 are what two sequences share."""
    kept: KeysAndValues = {}
    query, key, value = parts(30)
    module = torch.nn.Identity()
    module.layer_idx = 3  # type: ignore[assignment]
    spans = [Span(0, 10, keep=kept), Span(10, 22, before=kept), Span(22, 30, before=kept)]
    output, _ = packed_attention(
        module, query[None], key[None], value[None], None, spans=spans, scaling=0.25, is_causal=True
    )
    assert set(kept) == {3}
    for start, stop in ((10, 22), (22, 30)):
        rows = [*range(10), *range(start, stop)]
        whole = attended(query[:, rows], key[:, rows], value[:, rows], causal=True)
        assert torch.allclose(output[0, start:stop], whole[10:], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 31, 47, 48, 49, 130, 513])
def test_a_sequences_bits_do_not_depend_on_where_it_lies(length: int, dtype: torch.dtype) -> None:
    query, key, value = (part.to(dtype) for part in parts(length))
    alone = attended(query, key, value)
    for before in (1, 17, 100):
        others = [torch.cat([part[:, :1].expand(-1, before, -1), part, part], 1) for part in (query, key, value)]
        spans = [Span(0, before), Span(before, before + length), Span(before + length, before + 2 * length)]
        q, k, v = (part[None] for part in others)
        output, _ = packed_attention(torch.nn.Identity(), q, k, v, None, spans=spans, scaling=0.25)
        assert torch.equal(output[0, spans[1].rows], alone)
        assert torch.equal(output[0, spans[2].rows], alone)
