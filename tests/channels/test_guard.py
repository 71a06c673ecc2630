"""Where a channel may not go, in every spelling that we know of."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from rerankd.channels.client import Client
from rerankd.channels.guard import GuardedResolver, check_url, literal
from rerankd.errors import BadSettings, RerankError, UpstreamUnavailable

METADATA = [
    "http://169.254.169.254/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254.",
    "http://169.254.169.254:80/",
    "https://169.254.169.254",
    "http://169.254.170.2/v2/credentials",
    "http://169.254.0.1",
    "http://169.254.0.23",
    "http://169.254.42.42",
    "http://169.254.255.255",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0XA9FEA9FE/",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://0251.0376.0251.0376/",
    "http://025177524776/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://0xa9.254.0251.0xfe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[::ffff:0:169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:a9fe:a9fe::1]/",
    "http://[2001:0:808:808:0:0:5601:5601]/",
    "http://[fe80::5efe:a9fe:a9fe]/",
    "http://[2606:4700::5efe:169.254.169.254]/",
    "http://[2606:4700::200:5efe:a9fe:a9fe]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[fe80::a9fe:a9fe%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/",
    "http://[FD00:0EC2:0:0:0:0:0:254]/",
    "http://[fd20:ce::254]/",
    "http://[fd00:42::42]/",
    "http://168.63.129.16/",
    "http://168.63.129.16:32526/",
    "http://0xa83f8110/",
    "http://2822734096/",
    "http://[::ffff:168.63.129.16]/",
    "http://100.100.100.200/",
    "http://1684301000/",
    "http://[::ffff:100.100.100.200]/",
    "http://192.0.0.192/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://metadata/",
    "http://metadata.goog/",
    "http://instance-data/",
    "http://169.254.169.254%2e/",
    "http://１６９.254.169.254/",
    "http://①⑥⑨.254.169.254/",
    "http://169。254。169。254/",
]
"""Refused whatever the channel says."""

PRIVATE = [
    "http://127.0.0.1/",
    "http://127.0.0.1:8000/v1",
    "http://127.0.0.2",
    "http://127.255.255.255",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0x7f.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://00000177.0.0.1/",
    "http://127.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST:11434/",
    "http://localhost./",
    "http://api.localhost/",
    "http://ⓛocalhost/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::1%25lo]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::8.8.8.8]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:0a00:1::]/",
    "http://[2002:c0a8:101::1]/",
    "http://[2001:0:7f00:1::f7f7:f7f7]/",
    "http://[2001:0:808:808::f5ff:fffe]/",
    "http://[2606:4700::5efe:10.0.0.1]/",
    "http://0.0.0.0/",
    "http://0/",
    "http://0x0/",
    "http://00/",
    "http://0.0.0.1/",
    "http://0.1.2.3/",
    "http://10.0.0.1/",
    "http://10.255.255.255/",
    "http://10.1/",
    "http://167772161/",
    "http://012.0.0.1/",
    "http://0xa000001/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://2886729729/",
    "http://192.168.0.1/",
    "http://192.168.1.1:8080/",
    "http://192.168.257/",
    "http://3232235777/",
    "http://0300.0250.0.1/",
    "http://0xc0.0xa8.0.1/",
    "http://[::ffff:192.168.1.1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::ffff:172.16.0.1]/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.19.255.255/",
    "http://198.51.100.1/",
    "http://203.0.113.9/",
    "http://224.0.0.1/",
    "http://239.255.255.255/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://4294967295/",
    "http://[fc00::1]/",
    "http://[fd12:3456:789a::1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[ff0e::1]/",
    "http://[100::1]/",
    "http://[2001:db8::1]/",
    "http://[2001:2::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://[4000::1]/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
]
"""Refused unless the channel allows what is private."""

NO_DESTINATION = [
    "",
    "http://",
    "http:///v1",
    "//8.8.8.8/",
    "8.8.8.8",
    "example.org/v1",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "ws://example.org/",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "javascript:alert(1)",
    "http://example.org:99999/",
    "http://example.org:port/",
    "http://[::1/",
    "http://[example.org]/",
    "http://exam ple.org/",
    "http://example.org\t/",
    "http://example.org/\r\nX-Header: 1",
    "http://example.org\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1\u202e/",
    "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/",
    "http://%6cocalhost/",
    "http://example.org%00.internal/",
]
"""Refused because they are no address of an upstream at all."""

PUBLIC = [
    "https://api.jina.ai",
    "https://api.cohere.com/v2",
    "https://api.siliconflow.cn/v1",
    "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "http://8.8.8.8/",
    "http://1.1.1.1:8080/rerank",
    "http://134744072/",
    "http://0x08080808/",
    "http://172.15.255.255/",
    "http://172.32.0.1/",
    "http://100.63.255.255/",
    "http://100.128.0.1/",
    "http://11.0.0.1/",
    "http://126.255.255.255/",
    "http://128.0.0.1/",
    "http://169.253.255.255/",
    "http://169.255.0.1/",
    "http://168.63.129.17/",
    "http://192.0.1.1/",
    "http://192.167.255.255/",
    "http://198.20.0.1/",
    "http://223.255.255.255/",
    "https://[2606:4700:4700::1111]/",
    "https://[2a00:1450:4001::64]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[2002:808:808::1]/",
    "https://[2001:0:808:808::f7f7:f7f7]/",
    "https://xn--bcher-kva.example/",
    "https://bücher.example/",
    "https://localhost.example.org/",
    "https://10.example.org/",
    "https://127.0.0.1.example.org/",
    "https://metadata.example.org/",
]


def test_the_table_is_as_long_as_it_was_meant_to_be() -> None:
    assert len({*METADATA, *PRIVATE, *NO_DESTINATION}) >= 120


@pytest.mark.parametrize("url", METADATA)
@pytest.mark.parametrize("allow_private", [False, True])
def test_where_credentials_are_handed_out_nobody_goes(url: str, allow_private: bool) -> None:
    with pytest.raises(BadSettings):
        check_url(url, allow_private=allow_private)


@pytest.mark.parametrize("url", PRIVATE)
def test_what_is_private_needs_to_be_allowed(url: str) -> None:
    with pytest.raises(BadSettings):
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)


@pytest.mark.parametrize("url", NO_DESTINATION)
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_is_no_http_address_is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(BadSettings):
        check_url(url, allow_private=allow_private)


@pytest.mark.parametrize("url", PUBLIC)
def test_the_public_internet_is_open(url: str) -> None:
    check_url(url, allow_private=False)


def test_the_refusal_says_what_would_permit_it() -> None:
    with pytest.raises(BadSettings, match="allow_private = true would permit"):
        check_url("http://10.0.0.1/", allow_private=False)
    with pytest.raises(BadSettings, match="credentials"):
        check_url("http://169.254.169.254/", allow_private=True)


@pytest.mark.parametrize("host", ["example.org", "10.example.org", "1.2.3.4.5", "0x7g", "", "abc", "1.2.3.256"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host) is None


class Flipping(AbstractResolver):
    """A name server whose answer is another one each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.answers.pop(0)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


async def test_a_name_is_judged_each_time_it_is_resolved() -> None:
    flipping = Flipping(["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14"], ["169.254.169.254"])
    guarded = GuardedResolver(False, flipping)
    for refused in (False, True, False, True):
        if refused:
            with pytest.raises(UpstreamUnavailable):
                await guarded.resolve("rebinding.example", 80)
        else:
            found = await guarded.resolve("rebinding.example", 80)
            assert [one["host"] for one in found] == ["93.184.215.14"]


@pytest.mark.parametrize(
    "bad", ["10.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fd00:ec2::254", "not-an-address"]
)
@pytest.mark.parametrize("first", [True, False])
async def test_one_bad_address_among_good_ones_refuses_them_all(bad: str, first: bool) -> None:
    answer = [bad, "8.8.8.8"] if first else ["8.8.8.8", "2606:4700::1", bad]
    with pytest.raises(UpstreamUnavailable):
        await GuardedResolver(False, Flipping(answer)).resolve("mixed.example", 80)


async def test_what_is_private_is_resolved_where_it_is_allowed_but_for_credentials() -> None:
    guarded = GuardedResolver(True, Flipping(["10.0.0.1", "::1"], ["10.0.0.1", "169.254.169.254"]))
    assert [one["host"] for one in await guarded.resolve("inside.example", 80)] == ["10.0.0.1", "::1"]
    with pytest.raises(UpstreamUnavailable):
        await guarded.resolve("inside.example", 80)


async def test_the_systems_resolver_is_guarded_too() -> None:
    with pytest.raises(UpstreamUnavailable):
        await GuardedResolver(False).resolve("localhost", 80)
    assert await GuardedResolver(True).resolve("localhost", 80)


@pytest.mark.parametrize("url", [*METADATA, *PRIVATE, *NO_DESTINATION])
async def test_a_client_connects_to_none_of_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError(f"a socket was opened for {url}")

    monkeypatch.setattr(socket, "socket", connect)
    client = Client(Flipping())
    with pytest.raises(RerankError):
        await client.post(url, b"{}", {}, timeout=1)
    await client.close()
