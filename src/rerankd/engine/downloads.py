"""A hub's own progress reports, turned into ours.

huggingface_hub draws through a tqdm class that it is given; this one draws nothing and tells how many bytes have come.
"""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from rerankd.engine.checkpoint import Progress


def reporting(progress: Progress) -> Any:
    """A tqdm class whose byte counts go to `progress`, and nothing to the terminal."""

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self._bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> Any:
            drawn = super().update(n)
            if self._bytes and self.total:
                progress("downloading", float(self.n), float(self.total))
            return drawn

    return Reporting


class _Nowhere:
    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
