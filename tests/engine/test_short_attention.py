"""Short sequences side by side: what each of them would get alone, to the last bit."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from rerankd.engine.attention import Span
from rerankd.engine.short_attention import ShortAttention, rounded, split

HEADS, WIDTH = 3, 16


def spans(*lengths: int) -> list[Span]:
    found, start = [], 0
    for length in lengths:
        found.append(Span(start, start + length))
        start += length
    return found


def made(qkv: torch.Tensor, asked: list[Span]) -> torch.Tensor:
    attention = ShortAttention(HEADS, WIDTH)
    output = torch.zeros(len(qkv), HEADS, WIDTH, dtype=qkv.dtype)
    attention.attend(qkv, attention.groups(asked), output)
    return output


def test_each_sequence_sees_itself_alone() -> None:
    asked = spans(1, 2, 30, 32, 33, 40, 64, 64, 64, 100, 256)
    qkv = torch.randn(asked[-1].stop, 3, HEADS, WIDTH).bfloat16()
    found = made(qkv, asked)
    for span in asked:
        query, key, value = qkv[span.rows].float().permute(1, 2, 0, 3)
        expected = scaled_dot_product_attention(query, key, value).transpose(0, 1)
        assert (found[span.rows].float() - expected).abs().max() < 0.03


def test_company_changes_no_bit() -> None:
    asked = spans(*([40] * 11), *range(33, 60))
    qkv = torch.randn(asked[-1].stop, 3, HEADS, WIDTH).bfloat16()
    among = made(qkv, asked)
    for span in asked:
        assert torch.equal(made(qkv, [span])[span.rows], among[span.rows])


def test_groups_hold_every_span_once_and_one_rounded_length() -> None:
    asked = spans(5, 9, 31, 32, 33, 60, 64, 65)
    groups = ShortAttention(HEADS, WIDTH).groups(asked)
    assert [span for _, members in groups for span in members] == asked
    assert all(rounded(len(span)) == length for length, members in groups for span in members)


def test_long_sequences_are_left_to_others() -> None:
    asked = spans(300, 10, 257, 256)
    short, long = split(asked)
    assert [len(span) for span in short] == [10, 256]
    assert [len(span) for span in long] == [300, 257]
