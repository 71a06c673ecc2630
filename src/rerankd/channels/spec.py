"""What a channel is, as facts: where its upstream is, in which format it is asked, with which keys and for which models.

What cannot be right is refused here, at start-up, with a sentence that names the channel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from rerankd.channels.guard import check_url
from rerankd.channels.keys import Secret
from rerankd.errors import BadSettings
from rerankd.types import ScoreKind

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"})
"""Headers on which the HTTP connection itself depends."""


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """`models` maps public names to the upstream's; `max_documents` and `max_tokens` are for one call. `revision` is another
    one after each change of a channel that is changed while the server runs.

    What may hold a secret is left out of the repr.
    """

    name: str
    dialect: str
    base_url: str
    keys: tuple[Secret, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    allow_private: bool = False
    max_documents: int | None = None
    max_tokens: int | None = None
    listwise: bool = False
    score: ScoreKind = "probability"
    priority: int = 0
    weight: float = 1.0
    revision: str = ""

    def __post_init__(self) -> None:
        """Raises `BadSettings`."""
        try:
            self._check_base_url()
            if self.proxy is not None:
                check_url(self.proxy, allow_private=self.allow_private)
            for name, value in self.headers.items():
                _check_header(name, value)
            for model in self.models.values():
                _check_model(model)
        except BadSettings as error:
            raise BadSettings(f"channels: {self.name}: {error.message}") from None

    def _check_base_url(self) -> None:
        check_url(self.base_url, allow_private=self.allow_private)
        url = URL(self.base_url)
        if url.raw_user is not None or url.raw_password is not None:
            raise BadSettings("The URL of an upstream holds a user's name; a key belongs into api_key_env.")
        if url.raw_query_string or url.raw_fragment or "?" in self.base_url or "#" in self.base_url:
            raise BadSettings("The URL of an upstream ends before a ? or #; the format's path is added to it.")


def _check_header(name: str, value: str) -> None:
    if not HEADER_NAME.fullmatch(name) or name.lower() in OURS:
        raise BadSettings(f"{name!r} is no header that a channel can send.")
    if not all(character == "\t" or " " <= character <= "~" for character in value):
        raise BadSettings(f"The value of the header {name!r} holds what no HTTP header can carry.")


def _check_model(model: str) -> None:
    if not model or not model.isprintable():
        raise BadSettings(f"{model[:100]!r} is no name of an upstream's model.")
