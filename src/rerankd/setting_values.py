"""What the value of a setting may be where its type says too little: sizes with units, keys, URLs, prices, networks.

What is refused is refused with a sentence that says what it should have been, and never with the value: it may be a secret.
"""

from __future__ import annotations

from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

SHORTEST_KEY = 8
SHORTEST_SECRET = 32
SQLITE = "sqlite:///"
POSTGRES = "postgresql://"
MOST_EXPENSIVE, MICROS = 10**6, 10**6
UNITS = {"": 1, "b": 1, "kib": 2**10, "kb": 10**3, "mib": 2**20, "mb": 10**6, "gib": 2**30, "gb": 10**9}


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    number = value.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = UNITS.get(value[len(number) :].lower())
    if unit is None or not number.strip().isdecimal():
        raise ValueError("a size is a number of bytes, or one with a unit, such as 32MiB")
    return int(number) * unit


def _visible_ascii(name: str) -> str:
    if not name or not all("!" <= character <= "~" for character in name):
        raise ValueError("a model's name is visible ASCII without blanks, because it is sent in a header")
    return name


def _key(key: SecretStr) -> SecretStr:
    stripped = key.get_secret_value().strip()  # a key read from a file ends in a newline, which no header can hold
    if len(stripped) < SHORTEST_KEY:
        raise ValueError(f"a key has at least {SHORTEST_KEY} characters")
    return SecretStr(stripped)


def _secret_key(key: SecretStr) -> SecretStr:
    stripped = key.get_secret_value().strip()
    if len(stripped) < SHORTEST_SECRET:
        raise ValueError(
            f"it has at least {SHORTEST_SECRET} characters and is made by chance: `openssl rand -base64 32` prints one"
        )
    return SecretStr(stripped)


def _database(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    file = text.removeprefix(SQLITE)
    if text.startswith(POSTGRES):
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise ValueError("this URL cannot be read") from None
        if parts.hostname and parts.path.strip("/"):
            return url
        raise ValueError("a PostgreSQL database is postgresql://USER:PASSWORD@HOST:5432/NAME")
    if not text.startswith(SQLITE) or not file or file.startswith(":") or "?" in file:
        raise ValueError(
            f"the database is {SQLITE}FILE, with four slashes for an absolute path, or postgresql://USER:PASSWORD@HOST/NAME"
        )
    return url


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("a network is an address, or one with a length, such as 10.0.0.0/8") from None


def _decimal(value: object) -> object:
    """0.02 as it is written, and not as a float holds it."""
    return str(value) if isinstance(value, float) else value


def _price(price: Decimal) -> Decimal:
    if price * MICROS != (price * MICROS).to_integral_value():
        raise ValueError("a price has at most six decimals")
    return price


def _redis(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port
    except ValueError:
        raise ValueError("this URL cannot be read") from None
    if parts.path if parts.scheme == "unix" else parts.hostname and parts.scheme in ("redis", "rediss"):
        return url
    raise ValueError("the URL is redis://HOST, rediss://HOST or unix:///PATH")


Key = Annotated[SecretStr, AfterValidator(_key)]
SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
Size = Annotated[int, BeforeValidator(_bytes), Field(ge=1024, le=2**30)]
ModelName = Annotated[str, AfterValidator(_visible_ascii)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Amount = Annotated[Decimal, BeforeValidator(_decimal), AfterValidator(_price), Field(ge=0, le=MOST_EXPENSIVE)]
Network = Annotated[str, AfterValidator(_network)]
