"""Which device and which number format a model runs in: what the processor is fast at, unless the user says otherwise.

bfloat16 where the processor multiplies it in hardware (AMX, AVX512-BF16), float32 on any other CPU, where bfloat16
is several times slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rerankd.errors import LoadError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True, slots=True)
class Placement:
    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def place(device: str = "auto", dtype: str = "auto") -> Placement:
    """The placement for `device` (auto, cpu, cuda, cuda:N) and `dtype` (auto, float32, bfloat16, float16).

    Raises `LoadError` where the device is not there, or cannot compute in that format.
    """
    chosen = _device(device)
    if chosen.type == "cpu" and dtype == "float16":
        raise LoadError("dtype = float16 is for GPUs: a CPU computes it slowly or not at all; use dtype = auto.")
    return Placement(chosen, DTYPES[dtype] if dtype != "auto" else _fast_dtype(chosen))


def cpu_features() -> list[str]:
    """Which of the instructions that multiply bfloat16 the processor has."""
    capabilities = torch.cpu.get_capabilities()
    return [name for name in BFLOAT16_FEATURES if capabilities.get(name)]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise LoadError("device = cuda was asked for, but torch sees no CUDA device; use device = cpu or auto.")
    return torch.device(name)


def _fast_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if cpu_features() else torch.float32
