from __future__ import annotations

import copy
from dataclasses import asdict

import pytest

from rerankd.errors import BadSettings
from tests.channels.upstream import KEY, spec_for


def test_what_may_hold_a_secret_is_not_in_the_repr() -> None:
    spec = spec_for(
        "https://api.jina.ai", headers={"x-key": "canary-header"}, proxy="http://user:canary-proxy@10.0.0.1:3128"
    )
    printed = repr(spec) + str(asdict(spec)["keys"]) + repr(copy.deepcopy(spec))
    assert "canary" not in printed
    assert KEY.reveal() not in printed
    assert "the-channel" in printed


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://localhost:8000",
        "ftp://example.org",
        "https://user:pass@example.org",
        "https://user@example.org",
        "https://example.org/v1?key=1",
        "https://example.org/v1?",
        "https://example.org/#a",
        "https://example.org/#",
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused_with_the_channels_name(url: str) -> None:
    with pytest.raises(BadSettings, match=r"^channels: the-channel: "):
        spec_for(url, allow_private=False)


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(BadSettings) as caught:
        spec_for("https://user:canary@example.org")
    assert "canary" not in caught.value.message


def test_a_proxy_is_judged_as_well() -> None:
    with pytest.raises(BadSettings):
        spec_for("https://example.org", proxy="http://127.0.0.1:7890", allow_private=False)
    with pytest.raises(BadSettings):
        spec_for("https://example.org", proxy="http://169.254.169.254", allow_private=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("x:y", "x"),
        ("x\r\ny", "x"),
        ("x", "a\r\nb"),
        ("x", "a\x00"),
        ("x", "é"),
        ("Host", "internal"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Accept-Encoding", "br"),
        ("connection", "close"),
    ],
)
def test_a_header_that_would_break_the_connection_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadSettings):
        spec_for("https://example.org", headers={name: value})


@pytest.mark.parametrize("model", ["", "a\nb", "a\x00"])
def test_a_models_name_is_a_name(model: str) -> None:
    with pytest.raises(BadSettings):
        spec_for("https://example.org", models={"public": model})
