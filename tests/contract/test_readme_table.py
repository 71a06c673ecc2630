"""README's table of clients says what these tests run: the same versions, and the addresses that the scripts give them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
SERVER = "http://127.0.0.1:8000"

ROW = re.compile(r"\|\s*([\w-]+)\s*\|\s*`([^`|]+)`\s*\|\s*([\d., ]+?)\s*\|")
ADDRESS = re.compile(rf'([\w.]+\s*[=(]\s*)"{re.escape(SERVER)}([^"]*)"')


def pinned() -> Mapping[str, set[str]]:
    """The versions of each package that the environments are made with."""
    versions = defaultdict(set)
    for environment in HERE.glob("environments/*.txt"):
        for name, version in re.findall(r"^([\w-]+)==(\S+)$", environment.read_text(encoding="utf-8"), re.MULTILINE):
            versions[name].add(version)
    return versions


def rows() -> Iterator[tuple[str, str, set[str]]]:
    """Package, line to change and versions of each row below README's heading."""
    _, heading, after = README.read_text(encoding="utf-8").partition("\n## Clients\n")
    assert heading, "README has no section of that name"
    for line in after.partition("\n## ")[0].splitlines():
        row = ROW.fullmatch(line.strip())
        if row:
            yield row[1], row[2], set(re.split(r",\s*", row[3]))


@pytest.mark.parametrize("package", sorted(pinned()))
def test_readme_names_the_version_that_is_tested(package: str) -> None:
    named = [versions for client, _, versions in rows() if client == package]
    assert named, f"README's table has no row for {package}"
    assert all(versions == pinned()[package] for versions in named)


def test_readme_names_no_client_that_is_not_tested() -> None:
    assert {client for client, _, _ in rows()} == set(pinned())


def test_the_addresses_in_readme_are_those_that_the_scripts_use() -> None:
    scripts = without_spaces("".join(path.read_text(encoding="utf-8") for path in HERE.glob("clients/*.py")))
    for client, line, _ in rows():
        address = ADDRESS.search(line)
        assert address, f"{client}: {line} has no address"
        used = without_spaces(f'{address[1]}f"{{ask.url}}{address[2]}"')
        assert used in scripts, f"{client}: no script has {used}"


def without_spaces(code: str) -> str:
    return re.sub(r"\s+", "", code)
