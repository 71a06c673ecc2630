from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rerankd.errors import BadSettings
from rerankd.store.pepper import Pepper, pepper_id

GIVEN = "a random text, or so it is hoped: 0123456789"
MAKE = "import sys, pathlib; from rerankd.store.pepper import Pepper; print(Pepper(None, pathlib.Path(sys.argv[1])).make())"


def test_it_is_made_once_beside_the_database_for_its_owner_alone(tmp_path: Path) -> None:
    pepper = Pepper(None, tmp_path / "x.db")
    assert pepper.read() is None
    made = pepper.make()
    assert len(made) >= 32
    assert pepper.read() == made == Pepper(None, tmp_path / "x.db").make()
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("x.db.pepper", 0o600)]


def test_where_the_database_is_no_file_it_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Pepper(None, None).make()
    assert (tmp_path / "rerankd.pepper").read_bytes().strip() == made


def test_processes_that_start_at_once_have_the_same_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / "x.db")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    peppers = {process.communicate(timeout=60)[0] for process in running}
    assert len(peppers) == 1
    assert len(peppers.pop()) > 32
    assert [file.name for file in tmp_path.iterdir()] == ["x.db.pepper"]


def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    pepper = Pepper(None, tmp_path / "x.db")
    made = pepper.make()
    pepper.file.chmod(0o644)
    assert pepper.read() == made
    assert pepper.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "\n", "short", " " * 64])
def test_an_empty_or_short_one_is_refused_wherever_it_comes_from(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.db.pepper").write_text(text)
    for work in (Pepper(None, tmp_path / "x.db").read, Pepper(None, tmp_path / "x.db").make):
        with pytest.raises(BadSettings, match=r"x\.db\.pepper is empty or too short"):
            work()
    with pytest.raises(BadSettings, match="RERANKD_PEPPER"):
        Pepper(text, None)


def test_what_is_given_goes_before_the_file(tmp_path: Path) -> None:
    Pepper(None, tmp_path / "x.db").make()
    assert Pepper(GIVEN, tmp_path / "x.db").read() == GIVEN.encode()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be written"):
        Pepper(None, tmp_path / "no" / "x.db").make()


def test_its_id_tells_nothing_of_it() -> None:
    assert pepper_id(GIVEN.encode()) != pepper_id(GIVEN.encode() + b"x")
    assert pepper_id(GIVEN.encode()).encode() not in GIVEN.encode()
