"""docs/dialects.md is what the codecs do today."""

from __future__ import annotations

from pathlib import Path

from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.dialects.reference import page

DOCUMENT = Path(__file__).parents[2] / "docs" / "dialects.md"


def test_the_page_is_not_stale() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "python -m rerankd.dialects.reference > docs/dialects.md"


def test_every_format_has_its_section() -> None:
    for dialect in DIALECTS.values():
        assert f"## {dialect.title}\n" in page()
    for name in CALLED.keys() - DIALECTS.keys():
        assert f"### {CALLED[name].title}\n" in page()
