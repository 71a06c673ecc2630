from __future__ import annotations

import re
import subprocess
import sys
from types import ModuleType

import pytest

import rerankd

HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"}


def test_the_list_of_names_is_sorted_complete_and_true() -> None:
    public = {
        name for name, value in vars(rerankd).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(rerankd.__all__) == public | {"__version__"}
    assert rerankd.__all__ == sorted(rerankd.__all__, key=lambda name: (name.startswith("_"), name))


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", rerankd.__version__)


@pytest.mark.parametrize(
    "code",
    [
        "import rerankd",
        "import rerankd.cli.main",
        "import rerankd.server.http",
        "from rerankd.app import Application, Settings; Application(Settings.parse({'models': []})).close()",
        "from rerankd import Reranker; Reranker('lexical').close()",
        "from rerankd.app import Application, Settings; Application(Settings.parse("
        "{'models': [{'name': 'lexical'}], 'server': {'redis': 'redis://127.0.0.1:1/0'}})).close()",
    ],
    ids=[
        "rerankd",
        "the command line",
        "the server",
        "an application without models",
        "the lexical model",
        "an application that shares the lexical model's scores",
    ],
)
def test_it_costs_no_import_of_torch_and_its_kin(code: str) -> None:
    printing = f"{code}; import sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", printing], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "rerankd" in loaded
    assert not loaded & HEAVY
