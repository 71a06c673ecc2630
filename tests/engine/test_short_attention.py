"""Short sequences side by side: what each of them would get alone, to the last bit."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from rerankd.engine.attention import Span
from rerankd.engine.short_attention import Group, ShortAttention, shape_of, split

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


def test_groups_hold_every_span_once_and_one_shape() -> None:
    asked = spans(5, 9, 31, 32, 33, 60, 64, 65)
    groups = ShortAttention(HEADS, WIDTH).groups(asked)
    assert [span for group in groups for span in group.spans] == asked
    assert all(shape_of(len(span)) == group.shape for group in groups for span in group.spans)


def test_a_group_is_filled_up_with_its_own_rows_alone() -> None:
    (first, second) = ShortAttention(HEADS, WIDTH).groups(spans(3, 17))
    assert rows_of(first) == {0, 1, 2}
    assert rows_of(second) == set(range(3, 20))


def test_what_breaks_one_sequence_breaks_no_neighbour() -> None:
    asked = spans(*range(17, 25))
    qkv = torch.randn(asked[-1].stop, 3, HEADS, WIDTH).bfloat16()
    whole = made(qkv, asked)
    qkv[asked[3].rows] = float("nan")
    broken = made(qkv, asked)
    assert broken[asked[3].rows].isnan().all()
    assert all(torch.equal(broken[span.rows], whole[span.rows]) for span in asked if span is not asked[3])


def test_sequences_apart_from_each_other_are_in_different_groups() -> None:
    near, far = Span(0, 10), Span(300, 310)
    assert [group.spans for group in ShortAttention(HEADS, WIDTH).groups([near, far])] == [[near], [far]]


def rows_of(group: Group) -> set[int]:
    return set(group.laid.tolist())


def test_long_sequences_are_left_to_others() -> None:
    asked = spans(300, 10, 257, 256)
    short, long = split(asked)
    assert [len(span) for span in short] == [10, 256]
    assert [len(span) for span in long] == [300, 257]
