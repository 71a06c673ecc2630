from __future__ import annotations

import pytest

from rerankd.errors import BadSettings, Forbidden
from rerankd.store.sealing import Sealer

KEY, OTHER = "k" * 40, "o" * 40
TEXT = b"sk-canary"


def sealed(text: bytes = TEXT) -> bytes:
    return Sealer(KEY).seal(text, channel="cohere", host="https://api.cohere.com")


def test_what_was_sealed_opens_for_the_same_channel_and_host() -> None:
    assert Sealer(KEY).open(sealed(), channel="cohere", host="https://api.cohere.com") == TEXT


def test_nothing_of_the_text_or_the_key_is_in_the_seal_and_no_two_are_alike() -> None:
    one, two = sealed(), sealed()
    assert TEXT not in one
    assert KEY.encode() not in one
    assert one != two


@pytest.mark.parametrize(
    ("channel", "host"),
    [
        ("cohere", "https://evil.example"),
        ("cohere", "http://api.cohere.com"),
        ("jina", "https://api.cohere.com"),
        ("cohere\nhttps", "//api.cohere.com"),
    ],
)
def test_it_does_not_open_for_another_channel_or_host(channel: str, host: str) -> None:
    with pytest.raises(BadSettings, match=r"seal of its secrets is broken, or they were sealed for another host"):
        Sealer(KEY).open(sealed(), channel=channel, host=host)


@pytest.mark.parametrize("place", range(0, len(sealed()), 5))
def test_a_changed_byte_anywhere_breaks_it(place: int) -> None:
    changed = bytearray(sealed())
    changed[place] ^= 1
    with pytest.raises(BadSettings, match=r"channels\.cohere"):
        Sealer(KEY).open(bytes(changed), channel="cohere", host="https://api.cohere.com")


@pytest.mark.parametrize("length", [0, 1, 9, 15, 21, 36])
def test_what_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(BadSettings, match=r"channels\.cohere"):
        Sealer(KEY).open(sealed()[:length], channel="cohere", host="https://api.cohere.com")


def test_another_key_is_told_from_a_broken_seal() -> None:
    with pytest.raises(BadSettings, match=r"channels\.cohere: .*another key than RERANKD_SECRET_KEY") as caught:
        Sealer(OTHER).open(sealed(), channel="cohere", host="https://api.cohere.com")
    assert OTHER not in caught.value.message


def test_without_a_key_nothing_is_sealed_and_it_is_said_what_to_set() -> None:
    with pytest.raises(Forbidden, match="RERANKD_SECRET_KEY"):
        Sealer(None).seal(TEXT, channel="cohere", host="https://api.cohere.com")
    with pytest.raises(BadSettings, match=r"channels\.cohere: .*no key.*RERANKD_SECRET_KEY"):
        Sealer(None).open(sealed(), channel="cohere", host="https://api.cohere.com")
