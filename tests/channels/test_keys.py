from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import dataclass

import msgspec
import pytest

from rerankd.channels.keys import REFUSED_RESTS, KeyRing, Secret
from rerankd.errors import BadSettings, UpstreamBusy, UpstreamRefused

CANARY = "sk-canary-0123456789"
ONE, TWO, THREE = Secret("key-one"), Secret("key-two"), Secret("key-three")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_secret_prints_as_stars_wherever_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Holder:
        key: Secret

    secret = Secret(CANARY)
    logging.getLogger("rerankd.test").error("%s %r %s", secret, secret, {"key": secret})
    printed = [
        str(secret),
        repr(secret),
        f"{secret} {secret!r} {secret:>40} {secret!s}",
        "%s" % secret,  # noqa: UP031
        format(secret, "x"),
        repr([secret, {secret: secret}]),
        repr(Holder(secret)),
        repr(copy.deepcopy(Holder(secret))),
        json.dumps({"key": secret}, default=str),
        repr(KeyRing([secret])),
        repr(dir(secret)),
        caplog.text,
    ]
    assert all(CANARY not in text for text in printed)
    assert str(secret) == repr(secret) == f"{secret}" == "***"
    assert secret.reveal() == CANARY


def test_a_secret_is_not_written_down_by_accident() -> None:
    secret = Secret(CANARY)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)


def test_blanks_around_a_key_are_dropped() -> None:
    assert Secret(f" {CANARY}\r\n").reveal() == CANARY


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nb", "a\r\nX-Header: 1", "kéy", "a\x00b", "钥匙"])
def test_what_no_header_can_carry_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Secret(text)
    assert text.strip() == "" or text not in caught.value.message


def test_secrets_of_the_same_text_are_equal() -> None:
    assert Secret("key-one") == ONE != TWO
    assert ONE != "key-one"
    assert len({ONE, Secret("key-one"), TWO}) == 2


def test_keys_take_turns() -> None:
    ring = KeyRing([ONE, TWO, THREE])
    assert [ring.next() for _ in range(7)] == [ONE, TWO, THREE, ONE, TWO, THREE, ONE]


def test_without_keys_none_is_used() -> None:
    assert KeyRing([]).next() is None


def test_a_key_that_was_refused_rests_alone_and_comes_back() -> None:
    clock = Clock()
    ring = KeyRing([ONE, TWO, THREE], clock)
    ring.refused(TWO)
    assert {ring.next() for _ in range(9)} == {ONE, THREE}
    clock.now += REFUSED_RESTS - 0.01
    assert {ring.next() for _ in range(9)} == {ONE, THREE}
    clock.now += 0.02
    assert {ring.next() for _ in range(9)} == {ONE, TWO, THREE}


def test_a_key_that_has_enough_rests_for_as_long_as_was_asked() -> None:
    clock = Clock()
    ring = KeyRing([ONE, TWO], clock)
    ring.busy(ONE, 7)
    assert {ring.next() for _ in range(4)} == {TWO}
    clock.now += 7
    assert {ring.next() for _ in range(4)} == {ONE, TWO}


def test_where_all_were_refused_only_a_person_can_help() -> None:
    ring = KeyRing([ONE, TWO], Clock())
    ring.refused(ONE)
    assert not ring.rests()
    ring.refused(TWO)
    assert ring.rests()
    with pytest.raises(UpstreamRefused):
        ring.next()


def test_where_one_only_has_enough_the_time_until_it_is_back_is_said() -> None:
    clock = Clock()
    ring = KeyRing([ONE, TWO, THREE], clock)
    ring.refused(ONE)
    ring.busy(TWO, 30)
    ring.busy(THREE, 20)
    clock.now += 5
    with pytest.raises(UpstreamBusy) as caught:
        ring.next()
    assert caught.value.retry_after == 15
