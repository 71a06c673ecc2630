"""A model's folder, read as data: its configuration, its tokenizer and its weights, and never a line of its code.

Only safetensors hold weights here: a pickle can run code when it is opened. Python files and `auto_map` entries that lie
in a folder are left alone; what cannot be run without them is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rerankd.errors import LoadError, UnsafeCheckpoint, UnsupportedModel

Value = TypeVar("Value", dict[str, Any], list[Any])
Progress = Callable[[str, float, float], None]
"""Called with what is going on, and how much of how much is done."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
JSON_LIMIT = 256 * 2**20
UNLIMITED = 10**9
"""Tokenizers without a limit state one of about 10**30."""


@dataclass(frozen=True)
class Checkpoint:
    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise LoadError(f"{self.folder} is not a folder.")
        if not (self.folder / "config.json").is_file():
            raise LoadError(f"{self.folder} holds no config.json, so it is no model folder.")

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.json("config.json")

    @property
    def architecture(self) -> str:
        """The first of config.json's `architectures`, or an empty string."""
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else ""

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in the file `name`; an empty one where there is no such file.

        Raises `LoadError` where the file holds anything else.
        """
        return self._parsed(name, dict)

    def json_list(self, name: str) -> list[Any]:
        """The JSON list in the file `name`, as `json` reads an object."""
        return self._parsed(name, list)

    def _parsed(self, name: str, kind: type[Value]) -> Value:
        path = self.folder / name
        if not path.is_file():
            return kind()
        try:
            value = json.loads(self.text(name))
        except (ValueError, RecursionError) as cause:
            raise LoadError(f"{path} is not JSON.") from cause
        if not isinstance(value, kind):
            raise LoadError(f"{path} holds no JSON {'object' if kind is dict else 'list'}.")
        return value

    def text(self, name: str) -> str:
        path = self.folder / name
        try:
            if path.stat().st_size > JSON_LIMIT:
                raise LoadError(f"{path} is larger than {JSON_LIMIT >> 20} MiB.")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            raise LoadError(f"{path} cannot be read as UTF-8 text.") from cause

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files that hold the weights, in the order of their names.

        Raises `UnsafeCheckpoint` where there are only pickles, `LoadError` where there is nothing.
        """
        files = sorted(self.folder.glob("model*.safetensors"))
        if files:
            return files
        pickles = sorted(path.name for path in self.folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise UnsafeCheckpoint(
                f"{self.folder} has its weights only as {', '.join(pickles)}: such files are pickles, which can run "
                "code when they are opened, so rerankd reads safetensors alone. Convert them once, on a machine you can "
                "lose, with safetensors.torch.save_file, or choose a model that publishes model.safetensors."
            )
        raise LoadError(f"{self.folder} holds no model.safetensors.")

    @cached_property
    def tensor_names(self) -> frozenset[str]:
        """The names of all tensors, from the weight files' headers alone. Raises what `weight_files` does."""
        return frozenset(name for path in self.weight_files for name in _header(path) if name != "__metadata__")

    def max_length(self, positions: int, wanted: int | None) -> int:
        """Tokens of one sequence, special ones included: the least of what model, tokenizer and user allow."""
        limits = [positions] if wanted is None else [positions, wanted]
        stated = (
            self.json("tokenizer_config.json").get("model_max_length"),
            self.json("sentence_bert_config.json").get("max_seq_length"),
        )
        limits.extend(int(limit) for limit in stated if isinstance(limit, int | float) and 0 < limit < UNLIMITED)
        return min(limits)

    def tokenizer_json(self) -> str:
        if not (self.folder / "tokenizer.json").is_file():
            raise UnsupportedModel(f"{self.folder} holds no tokenizer.json; a slow tokenizer alone is not supported.")
        return self.text("tokenizer.json")


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors: eight bytes with a length, and so much JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= JSON_LIMIT else None
    except (OSError, ValueError, RecursionError) as cause:
        raise damaged(path) from cause
    if not isinstance(header, dict):
        raise damaged(path)
    return header


def damaged(path: Path) -> LoadError:
    return LoadError(f"{path} is damaged or is no safetensors file.")
