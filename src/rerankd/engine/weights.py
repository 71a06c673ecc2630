"""Weights from safetensors into a transformers class of our choice, each tensor accounted for.

transformers would go on with random numbers where a tensor is missing; here that is an error.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from rerankd.engine.attention import IMPLEMENTATION
from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.devices import Placement
from rerankd.engine.linear import prepack
from rerankd.errors import LoadError

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def load_model(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    checkpoint: Checkpoint,
    placement: Placement,
    progress: Progress,
    **arguments: Any,
) -> PreTrainedModel:
    """An instance of `cls` in evaluation mode on its device, with packed attention; `arguments` go to the class.

    Raises `LoadError` where the file is damaged, or a tensor is missing or of another shape.
    """
    tensors = read_tensors(checkpoint, placement.dtype, progress)
    loaded: Any = cls.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=placement.dtype,
        attn_implementation=IMPLEMENTATION,
        output_loading_info=True,
        **arguments,
    )
    model, report = loaded
    _complete(report, checkpoint)
    model = model.eval().requires_grad_(False).to(placement.device)
    if placement.device.type == "cpu":
        prepack(model)
    return model  # type: ignore[no-any-return]


def read_tensors(checkpoint: Checkpoint, dtype: torch.dtype, progress: Progress) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint, floating ones as `dtype`."""
    files = checkpoint.weight_files
    total = float(sum(path.stat().st_size for path in files))
    tensors: dict[str, torch.Tensor] = {}
    done = 0.0
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                    tensor = file.get_tensor(name)
                    done += tensor.numel() * tensor.element_size()
                    tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
                    progress("loading", done, total)
        except (SafetensorError, OSError) as cause:
            raise LoadError(f"{path} is damaged or is no safetensors file.") from cause
    return tensors


def _complete(report: dict[str, Any], checkpoint: Checkpoint) -> None:
    missing = sorted(map(str, report["missing_keys"]))
    mismatched = sorted(str(key) for key in report["mismatched_keys"])
    if missing or mismatched:
        what = f"lacks {', '.join(missing[:5])}" if missing else f"has other shapes for {', '.join(mismatched[:5])}"
        raise LoadError(f"{checkpoint.folder} {what}: its weights do not fit a {checkpoint.architecture}.")
