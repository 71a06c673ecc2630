"""Where a model's files come from: a folder, a Hugging Face id, or `modelscope:ID`; from a hub, data files alone.

Only what `ALLOWED` names is ever fetched: no Python file and no pickle reaches this machine.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

from rerankd.engine.checkpoint import Progress
from rerankd.errors import LoadError, SourceUnreachable

ALLOWED = [
    "model*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MODELSCOPE = "modelscope:"
HUB_TIMEOUT = 5.0
"""Seconds in which a hub must say whether it has a model."""


def is_folder(source: str) -> bool:
    """Whether `source` means a folder rather than a hub's id."""
    return source.startswith(("/", "./", "../", "~")) or Path(source).is_dir()


def name_of_source(source: str) -> str:
    """The name of a model that was given as a source alone: the id, or a folder's own name."""
    name = Path(source).resolve().name if is_folder(source) else source
    return "".join(character if "!" <= character <= "~" else "_" for character in name) or "model"


def fetch(source: str, progress: Progress, *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder that holds the files of `source`, downloaded where need be; with `offline`, the cache alone is asked.

    Raises `SourceUnreachable` where a hub does not give them, `LoadError` where `source` is no source.
    """
    if is_folder(source):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise LoadError(f"There is no folder {source}.")
        return folder
    hub_id = source.removeprefix(MODELSCOPE)
    if not HUB_ID.fullmatch(hub_id):
        raise LoadError(
            f"{source!r} is neither a folder that exists, nor a Hugging Face id such as BAAI/bge-reranker-v2-m3, "
            "nor modelscope:ID, nor one of the models that come with rerankd: builtin, lexical."
        )
    if source.startswith(MODELSCOPE):
        return _modelscope(hub_id, revision, offline)
    return _hugging_face(hub_id, progress, revision, offline)


def _hugging_face(hub_id: str, progress: Progress, revision: str | None, offline: bool) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise LoadError(f"{hub_id} needs Hugging Face's client: pip install 'rerankd[engine]'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    from rerankd.engine.downloads import reporting

    try:
        folder: Any = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=ALLOWED,
            local_files_only=offline or not _answers(hub_id, revision),
            tqdm_class=reporting(progress),
        )
    except GatedRepoError as cause:
        raise SourceUnreachable(f"{hub_id} is gated: accept its licence on the hub, then set HF_TOKEN.") from cause
    except (RepositoryNotFoundError, RevisionNotFoundError) as cause:
        raise SourceUnreachable(f"Hugging Face has no model {hub_id}, or none that this HF_TOKEN may read.") from cause
    except Exception as cause:  # what its HTTP library raises shares no class with the rest
        raise _unreachable("Hugging Face", hub_id) from cause
    return Path(folder)


def _answers(hub_id: str, revision: str | None) -> bool:
    """Whether the hub can be asked now: its client would retry for half a minute before it says that it cannot.

    Raises what the hub says of a model that it does not have or does not give.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().model_info(hub_id, revision=revision, timeout=HUB_TIMEOUT)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception:  # as above; the cache may still have the model
        return False
    return True


def _modelscope(hub_id: str, revision: str | None, offline: bool) -> Path:
    if importlib.util.find_spec("modelscope") is None:
        raise LoadError(f"modelscope:{hub_id} needs ModelScope's client: pip install 'rerankd[modelscope]'")
    from modelscope import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=ALLOWED, local_files_only=offline))
    except Exception as cause:  # its errors share no class
        raise _unreachable("ModelScope", hub_id) from cause


def _unreachable(hub: str, hub_id: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{hub} could not be reached, or did not give {hub_id}. If you have the model's files on this machine, name their "
        f"folder instead: rerankd serve --model {hub_id.rpartition('/')[2]}=/path/to/folder"
    )


def packaged(distribution: str, folder: str) -> Path | None:
    """The `folder` of an installed distribution, found without importing a line of it; None where it is not installed."""
    try:
        located = importlib.metadata.distribution(distribution).locate_file(folder)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(located))
    return path if path.is_dir() else None
