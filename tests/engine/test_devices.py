from __future__ import annotations

import pytest
import torch

from rerankd.engine.devices import place
from rerankd.errors import LoadError


@pytest.mark.parametrize(
    ("features", "dtype"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_the_processor_decides_the_dtype(
    features: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert place("cpu").dtype is dtype


def test_what_the_user_says_wins() -> None:
    assert place("cpu", "float32").dtype is torch.float32
    assert place("cpu", "bfloat16").dtype_name == "bfloat16"


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoadError, match="no CUDA device"):
        place("cuda")


def test_float16_is_refused_on_a_cpu() -> None:
    with pytest.raises(LoadError, match="float16 is for GPUs"):
        place("cpu", "float16")
