from __future__ import annotations

import pytest

from rerankd.engine import memory


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_way_in_which_memory_runs_out_is_known(cause: Exception) -> None:
    assert memory.lacking(cause)


@pytest.mark.parametrize("cause", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyError("x")])
def test_other_failures_are_not_taken_for_it(cause: Exception) -> None:
    assert not memory.lacking(cause)


def test_torchs_own_error_is_known() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.int8)
    assert memory.lacking(caught.value)


def test_giving_memory_back_does_no_harm() -> None:
    memory.release()
