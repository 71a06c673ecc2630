from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.api_keys import ALPHABET, digest_of, id_of, make_id, make_key, same

PEPPER = b"p" * 32
A_KEY = make_key("abcdEF12").encode()


def test_a_key_is_one_word_that_holds_its_id() -> None:
    key = make_key(make_id())
    assert key.startswith("sk-rr-")
    assert len(key) == 6 + 8 + 43 + 6
    assert set(key[6:]) <= set(ALPHABET)
    assert id_of(A_KEY) == "abcdEF12"


def test_no_two_are_alike() -> None:
    assert len({make_key("abcdEF12") for _ in range(1000)}) == 1000


def test_every_error_of_one_letter_is_seen_without_asking_anybody() -> None:
    for place in range(len(A_KEY)):
        for letter in (b"x", b"7", b"Q"):
            wrong = A_KEY[:place] + letter + A_KEY[place + 1 :]
            assert wrong == A_KEY or id_of(wrong) is None


@given(st.binary(max_size=80) | st.text(ALPHABET, min_size=57, max_size=57).map(lambda text: b"sk-rr-" + text.encode()))
def test_junk_is_no_key(junk: bytes) -> None:
    assert id_of(junk) is None


@pytest.mark.parametrize(
    "wrong",
    [A_KEY + b"\n", b" " + A_KEY, A_KEY[:-1], A_KEY + b"0", A_KEY.upper(), b""],
    ids=["line break", "blank", "shorter", "longer", "upper case", "empty"],
)
def test_what_is_nearly_a_key_is_none(wrong: bytes) -> None:
    assert id_of(wrong) is None


def test_a_hash_depends_on_all_of_the_key_and_all_of_the_pepper() -> None:
    one = digest_of(A_KEY, PEPPER)
    assert len(one) == 32
    assert same(one, digest_of(A_KEY, PEPPER))
    assert not same(one, digest_of(A_KEY[:-1], PEPPER))
    assert not same(one, digest_of(A_KEY, PEPPER[:-1] + b"q"))


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=200))
def test_a_hash_is_the_hmac_of_the_standard(key: bytes, pepper: bytes) -> None:
    assert digest_of(key, pepper) == hmac.digest(pepper, key, "sha256")


@pytest.mark.parametrize("pepper", [b"", b"p" * 31])
def test_a_hash_without_a_pepper_is_not_made(pepper: bytes) -> None:
    with pytest.raises(ValueError, match="pepper"):
        digest_of(A_KEY, pepper)
