"""Weights from safetensors into a transformers class of our choice, each tensor accounted for.

transformers would go on with random numbers where a tensor is missing; here that is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from rerankd.engine.attention import IMPLEMENTATION
from rerankd.engine.checkpoint import Checkpoint, Progress, damaged
from rerankd.engine.devices import Placement
from rerankd.errors import LoadError

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

Tensors = dict[str, torch.Tensor]


def load_model(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    checkpoint: Checkpoint,
    placement: Placement,
    progress: Progress,
    *,
    attention: str = IMPLEMENTATION,
    rename: Callable[[Tensors], Tensors] | None = None,
    whole: bool = False,
    **arguments: Any,
) -> PreTrainedModel:
    """An instance of `cls` in evaluation mode on its device, with packed attention; `arguments` go to the class.

    `rename` gives the checkpoint's tensors the names that `cls` knows them by. With `whole`, `cls` must have a use for each.
    Raises `LoadError` where the file is damaged, or a tensor is missing, of another shape, or of no use.
    """
    tensors = read_tensors(checkpoint, placement.dtype, progress)
    loaded: Any = cls.from_pretrained(
        None,
        config=config,
        state_dict=tensors if rename is None else rename(tensors),
        dtype=placement.dtype,
        attn_implementation=attention,
        output_loading_info=True,
        **arguments,
    )
    model, report = loaded
    _complete(report, checkpoint, whole)
    return model.eval().requires_grad_(False).to(placement.device)  # type: ignore[no-any-return]


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
            raise damaged(path) from cause
    return tensors


def _complete(report: dict[str, Any], checkpoint: Checkpoint, whole: bool) -> None:
    faults = {
        "lacks": report["missing_keys"],
        "has other shapes for": report["mismatched_keys"],
        "has more than is known here:": report["unexpected_keys"] if whole else (),
    }
    for what, keys in faults.items():
        if keys:
            named = ", ".join(sorted(map(str, keys))[:5])
            raise LoadError(f"{checkpoint.folder} {what} {named}: its weights do not fit a {checkpoint.architecture}.")
