"""What a key looks like, and how one is known again: `sk-rr-`, 8 characters of its id, 43 of its secret, 6 of a checksum.

All are of base62, without anything between them, so that a double click takes all of it and a scanner for secrets finds it.
The id is no secret and the secret has 256 bits. The checksum refuses typing errors and junk before anybody is asked. What is
kept of a key is its HMAC-SHA256, made with a pepper that is not in the database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from functools import lru_cache
from zlib import crc32

PREFIX = "sk-rr-"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 8, 43, 6
SHORTEST_PEPPER, BLOCK = 32, 64
"""Bytes; SHA-256 takes so many at a time."""

_FORM = re.compile(rb"sk-rr-([0-9A-Za-z]{8})[0-9A-Za-z]{49}")


def make_id() -> str:
    return _random(ID_LENGTH)


def make_key(key_id: str) -> str:
    """Another one each time: a key that is rotated keeps its id."""
    body = PREFIX + key_id + _random(SECRET_LENGTH)
    return body + _checksum(body.encode())


def id_of(key: bytes) -> str | None:
    """The id in what came as a key, or None where that is none: by its form and its checksum alone."""
    found = _FORM.fullmatch(key)
    if found is None or _checksum(key[:-CHECKSUM_LENGTH]).encode() != key[-CHECKSUM_LENGTH:]:
        return None
    return found[1].decode()


def digest_of(key: bytes, pepper: bytes) -> bytes:
    """What is kept of a key, 32 bytes. An empty pepper would do as well as none: `ValueError`."""
    inner, outer = _keyed(pepper)
    inner, outer = inner.copy(), outer.copy()
    inner.update(key)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=4)
def _keyed(pepper: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Both halves of an HMAC (RFC 2104, section 4) as they are before a key comes: `hmac.digest` makes them each time."""
    if len(pepper) < SHORTEST_PEPPER:
        raise ValueError("the pepper is too short")
    block = (hashlib.sha256(pepper).digest() if len(pepper) > BLOCK else pepper).ljust(BLOCK, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in block)), hashlib.sha256(bytes(byte ^ 0x5C for byte in block))


def same(one: bytes, other: bytes) -> bool:
    """In a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(body: bytes) -> str:
    left = crc32(body)
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        left, digit = divmod(left, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
