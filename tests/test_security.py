"""What must not stand anywhere in the source."""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
FORBIDDEN = ["trust_" + "remote_code", "import pickle", "torch.load(", "eval(", "exec(", "yaml.load(", "os.system("]


def test_nothing_here_runs_code_that_came_from_outside() -> None:
    files = list(SOURCE.rglob("*.py"))
    assert len(files) > 50
    for path in files:
        text = path.read_text(encoding="utf-8").replace(".eval(", "")
        assert not [word for word in FORBIDDEN if word in text], path
