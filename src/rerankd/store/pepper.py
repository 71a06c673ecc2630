"""The pepper: what the hashes of keys are made with, from the settings or a file of its own, and never in the database.

So who has a copy of the database alone has no key, and nothing to try keys with. The database knows the pepper by an id,
which tells nothing of it: with another one no key would be known again, and that is said at the start instead.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from rerankd.api_keys import SHORTEST_PEPPER
from rerankd.errors import BadSettings

PRIVATE = 0o600
FILE = "rerankd.pepper"
"""Where the database is no file beside which it could lie."""
HOW_TO = "It is a random text of at least 32 characters, such as `openssl rand -base64 32` prints."


class Pepper:
    def __init__(self, given: str | None, database: Path | None) -> None:
        """`given` is the settings', `database` the database's file. Nothing is read or made yet.

        Raises `BadSettings` where what is given is too short.
        """
        self._given = None if given is None else _checked(given, "The pepper (RERANKD_PEPPER)")
        self.file = Path(FILE) if database is None else database.with_name(f"{database.name}.pepper")

    @property
    def origin(self) -> str:
        return f"the file {self.file}" if self._given is None else "RERANKD_PEPPER"

    def read(self) -> bytes | None:
        """None where there is none yet. Raises `BadSettings` where the file cannot be used."""
        if self._given is not None:
            return self._given
        try:
            if self.file.stat().st_mode & 0o077:
                self.file.chmod(PRIVATE)
            return _checked(self.file.read_text(encoding="utf-8"), f"The pepper in {self.file}")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise BadSettings(f"The pepper in {self.file} cannot be read, for its owner alone: {reason}.") from None

    def make(self) -> bytes:
        """The file's, which is made where there is none: whole or not at all, so that of two processes both have one's.

        Raises `BadSettings` where that cannot be.
        """
        new = self.file.with_name(f".{self.file.name}.{secrets.token_hex(8)}")
        try:
            _write(new, secrets.token_urlsafe(32) + "\n")
            try:
                with suppress(FileExistsError):  # another was faster
                    os.link(new, self.file)
            finally:
                new.unlink()
            _keep_names(self.file.parent)
        except OSError as error:
            raise BadSettings(
                f"The pepper cannot be written to {self.file}: {error.strerror}. Or set RERANKD_PEPPER. {HOW_TO}"
            ) from None
        made = self.read()
        if made is None:
            raise BadSettings(f"The pepper in {self.file} is gone in the moment when it was made.")
        return made


def pepper_id(pepper: bytes) -> str:
    return hmac.digest(pepper, b"rerankd: id of the pepper", "sha256").hex()[:16]


def _checked(text: str, where: str) -> bytes:
    pepper = text.strip().encode()
    if len(pepper) < SHORTEST_PEPPER:
        raise BadSettings(f"{where} is empty or too short. {HOW_TO}")
    return pepper


def _write(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _keep_names(folder: Path) -> None:
    """A file's name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
