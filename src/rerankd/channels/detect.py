"""Which wire format an upstream speaks, found out by asking it: one real question in one format after the other.

What each attempt got is kept as evidence. A path that is not there is asked once, whichever formats share it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from rerankd.channels.addresses import url_of
from rerankd.channels.auth import scheme
from rerankd.channels.channel import Channel, redacted
from rerankd.channels.client import Answer, Poster
from rerankd.channels.faults import NEEDS_A_PERSON, is_answer
from rerankd.channels.keys import Secret
from rerankd.channels.probe import Verdict, judge, question
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.base import Called
from rerankd.dialects.directory import CALLED
from rerankd.errors import DeadlineExceeded, RerankError, UpstreamBusy, UpstreamUnavailable

ORDER = ("cohere_v2", "jina", "tei", "voyage", "siliconflow", "cohere_v1", "vllm", "xinference", "llamacpp", "infinity")
"""What is met most often goes first; the others follow as the directory lists them. Cohere answers Jina's requests too."""
TIMEOUT = 15.0
SHOWN = 120
NOT_THERE = frozenset({404, 405, 501})


@dataclass(frozen=True)
class Finding:
    """What one attempt got: plain values, to be written down. `status` is None where no answer came.

    `evidence` is one line for people: the status, and what we read of an error, cut and without the key.
    """

    dialect: str
    url: str
    status: int | None
    evidence: str
    verdict: Verdict

    @property
    def speaks(self) -> bool:
        return self.verdict.good


class _Overheard:
    """A client that remembers its last answer."""

    def __init__(self, inner: Poster) -> None:
        self._inner = inner
        self.last: Answer | None = None

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        proxy: str | None,
        allow_private: bool,
    ) -> Answer:
        self.last = None
        self.last = await self._inner.post(
            url, body, headers, timeout=timeout, proxy=proxy, allow_private=allow_private
        )
        return self.last


async def detect(base_url: str, key: Secret | None, client: Poster, allow_private: bool, model: str) -> list[Finding]:
    """All attempts. Where one `speaks`, it stands last, and its dialect is the answer.

    Raises `BadSettings` where `base_url` cannot be a destination.
    """
    asking = _Asking(base_url, key, client, allow_private, model)
    findings: list[Finding] = []
    closed: set[tuple[str, str]] = set()
    for dialect in asking.in_order():
        place = (asking.url(dialect), scheme(dialect.name))
        if place in closed:
            continue
        finding = await asking.attempt(dialect)
        if finding.speaks:
            return [*findings, *await asking.confirmed(finding)]
        findings.append(finding)
        if _is_over(finding):
            break
        if finding.status in NOT_THERE | NEEDS_A_PERSON:
            closed.add(place)
    return findings


def _is_over(finding: Finding) -> bool:
    """Nobody is there, or nobody has time for us: another format would get no further."""
    code = finding.verdict.code
    nobody = finding.status is None and code in (UpstreamUnavailable.code, DeadlineExceeded.code)
    return nobody or code == UpstreamBusy.code


class _Asking:
    def __init__(self, base_url: str, key: Secret | None, client: Poster, allow_private: bool, model: str) -> None:
        self._base_url = base_url
        self._key = key
        self._client = _Overheard(client)
        self._allow_private = allow_private
        self._model = model
        self._asked: set[str] = set()

    def url(self, dialect: Called) -> str:
        return url_of(self._base_url, dialect.paths, self._model)

    def in_order(self) -> list[Called]:
        """Those first whose path is already what `base_url` ends with."""
        names = [*ORDER, *(name for name in CALLED if name not in ORDER)]
        return sorted((CALLED[name] for name in names), key=lambda each: self.url(each) != self._base_url)

    async def attempt(self, dialect: Called) -> Finding:
        self._asked.add(dialect.name)
        spec = ChannelSpec(
            name="detect",
            dialect=dialect.name,
            base_url=self._base_url,
            keys=() if self._key is None else (self._key,),
            models={self._model: self._model},
            timeout=TIMEOUT,
            allow_private=self._allow_private,
        )
        verdict = await judge(Channel(spec, self._client, dialect, level=logging.DEBUG), self._model)
        answer = self._client.last
        status = None if answer is None else answer.status
        return Finding(dialect.name, self.url(dialect), status, self._evidence(dialect, verdict), verdict)

    async def confirmed(self, finding: Finding) -> list[Finding]:
        """What speaks, last. Formats can understand each other's results, and the better one finds the tokens as well."""
        answer = self._client.last
        if finding.verdict.usage_given or answer is None:
            return [finding]
        left = (dialect for dialect in self.in_order() if dialect.name not in self._asked)
        better = next((dialect for dialect in left if _counts(dialect, answer)), None)
        if better is None:
            return [finding]
        second = await self.attempt(better)
        return [finding, second] if second.speaks and second.verdict.usage_given else [second, finding]

    def _evidence(self, dialect: Called, verdict: Verdict) -> str:
        """The upstream's own words where its answer was an error, else ours."""
        answer = self._client.last
        if answer is None:
            return f"no answer: {verdict.summary}"
        words = verdict.summary
        if not is_answer(answer.status):
            words = dialect.parse_error(answer.status, answer.headers, answer.body).message
        key = () if self._key is None else (self._key.reveal(),)
        return f"{answer.status}: {redacted(words, key)[:SHOWN]}"


def _counts(dialect: Called, answer: Answer) -> bool:
    """Whether the format finds all results in an answer, and what they cost."""
    asked = question(None)
    try:
        read = dialect.parse_response(answer.body, answer.headers, asked)
    except RerankError:
        return False
    return len(read.results) == len(asked.documents) and not read.usage.estimated
