"""Secrets as they lie in the database: sealed with a key that is not in it, and bound to whose they are.

A secret is sealed for one channel and one host. A row that is renamed, or pointed at another host, does not open; so who can
write to the database, but does not have the key, can neither read a secret nor have it sent elsewhere.

The key is derived by HKDF-SHA256 from a text of at least 32 characters, which has to be random: HKDF makes no weak password
strong. What is sealed is AES-256-GCM: a version, the key's id, the nonce, and the text with its tag.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rerankd.errors import BadSettings, Forbidden

VERSION = b"\x01"
ID_BYTES, NONCE_BYTES, KEY_BYTES = 8, 12, 32
HOW_TO = "Set RERANKD_SECRET_KEY to a random text of at least 32 characters, such as `openssl rand -base64 32` prints."


class Sealer:
    """Seals and opens with one key, or, where there is none, refuses to with a sentence that says what to set."""

    def __init__(self, secret_key: str | None) -> None:
        self._cipher = None if secret_key is None else AESGCM(_derived(secret_key, b"rerankd: secrets of channels"))
        self._id = b"" if secret_key is None else _derived(secret_key, b"rerankd: id of the key")[:ID_BYTES]

    def seal(self, text: bytes, *, channel: str, host: str) -> bytes:
        """Raises `Forbidden` where there is no key."""
        if self._cipher is None:
            raise Forbidden(f"A secret is stored only sealed, and there is no key for that. {HOW_TO}")
        head = VERSION + self._id
        nonce = os.urandom(NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, text, _bound_to(head, channel, host))

    def open(self, sealed: bytes, *, channel: str, host: str) -> bytes:
        """Raises `BadSettings`, naming the channel, where there is no key or another one, or the seal is broken."""
        if self._cipher is None:
            raise BadSettings(f"channels.{channel}: its secrets are sealed, and there is no key to open them. {HOW_TO}")
        head, rest = sealed[: 1 + ID_BYTES], sealed[1 + ID_BYTES :]
        if head[:1] != VERSION:
            raise BadSettings(f"channels.{channel}: its secrets are sealed in a way that this version cannot open.")
        if head[1:] != self._id:
            raise BadSettings(f"channels.{channel}: its secrets were sealed with another key than RERANKD_SECRET_KEY.")
        try:
            return self._cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], _bound_to(head, channel, host))
        except (InvalidTag, ValueError):  # ValueError: it is too short to be anything
            raise BadSettings(
                f"channels.{channel}: the seal of its secrets is broken, or they were sealed for another host. "
                "Store the channel again."
            ) from None


def _derived(secret_key: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(secret_key.encode())


def _bound_to(head: bytes, channel: str, host: str) -> bytes:
    """Neither a name nor a host holds a line break, so that no two pairs are written alike."""
    return head + f"{channel}\n{host}".encode()
