"""An id that is not there, or is something else's, is 404 wherever one is taken, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from rerankd.policies.uuid7 import uuid7
from tests.server.keeping import API, Keeping, keeping
from tests.server.test_admin_audit import CHANNEL
from tests.server.test_admin_openapi import PLACES
from tests.store.entries import entry

TAKING = [(method, path) for method, path in PLACES if "{" in path]
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "channels"): {name: value for name, value in CHANNEL.items() if name != "name"},
    ("POST", "requests"): {"tokens": -1},
}
NOWHERE = ("nobody", uuid7(), "%", "_", "*", "' OR 1=1 --", "é\u2028", "x" * 300, "-1", "null", "\x00")


@dataclass(frozen=True)
class Known:
    """A server, and the ids that it has, by their noun."""

    here: Keeping
    ids: dict[str, list[str]]

    def state(self) -> list[Any]:
        return [self.here.get(path) for path in ("/keys", "/channels", "/requests", "/audit")]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    with keeping(tmp_path_factory.mktemp("admin"), channels=[]) as here:
        key = here.client.post(f"{API}/keys", json={"name": "a-key"}).json()
        here.client.post(f"{API}/channels", json={**CHANNEL, "name": "a-channel"})
        row = entry(request_id="a-request")
        here.record([row])
        yield Known(
            here, {"keys": [key["id"], "a-key"], "channels": ["a-channel"], "requests": [row.entry, "a-request"]}
        )


@pytest.mark.parametrize(("method", "path"), TAKING)
def test_an_id_that_is_not_there_or_is_something_elses_is_404(known: Known, method: str, path: str) -> None:
    noun = path.removeprefix(f"{API}/").partition("/")[0]
    others = [name for other, ids in known.ids.items() if other != noun for name in ids]
    before = known.state()
    for name in (*NOWHERE, *others):
        place = path.replace(path[path.index("{") : path.index("}") + 1], quote(name, safe=""))
        answer = known.here.client.request(method, place, json=BODIES.get((method, noun), {}))
        assert answer.status_code == 404, (name, answer.text)
        assert answer.json()["error"]["code"] == "not_found"
    assert known.state() == before


def test_every_noun_that_has_ids_is_among_them() -> None:
    assert {path.removeprefix(f"{API}/").partition("/")[0] for _, path in TAKING} == {"keys", "channels", "requests"}
