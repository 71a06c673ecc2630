"""Real servers over a real PostgreSQL that stands still or is killed: who is known goes on, who is not is told to come
again, and nobody's good key is called bad. And what the command line changes is in force in all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx2
import pytest

from rerankd.api_keys import make_id, make_key
from rerankd.store.database import Database
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from tests.store.postgres_server import PostgresServer
from tests.store.redis_server import RedisServer

PEPPER = "a pepper of thirty-two characters and more"
COMMAND = [sys.executable, "-c", "from rerankd.cli.main import main; main()"]
ASKED = {"query": "a query", "documents": ["one", "another"]}
NOTICED = 15.0
"""Seconds until a server must have noticed that its database is away, or is there again; it is generous."""
PROMISED = 5.0
"""Seconds in which a change of a key is in force everywhere on PostgreSQL."""


class Server:
    def __init__(self, url: str) -> None:
        self.url = url

    def ranked(self, key: str) -> httpx2.Response:
        return httpx2.post(f"{self.url}/v1/rerank", json=ASKED, headers={"x-api-key": key}, timeout=30)

    def status(self, key: str) -> int:
        return self.ranked(key).status_code


def configured(folder: Path, database: str, redis: RedisServer | None) -> Path:
    lines = [f'database = "{database}"', f'spool = "{folder / "spool"}"', "port = 0"]
    shared = [] if redis is None else [f'redis = "{redis.url}"']
    file = folder / "rerankd.toml"
    head = [f'pepper = "{PEPPER}"', 'models = [{name = "lexical"}]', "[server]"]
    file.write_text("\n".join([*head, *lines, *shared]))
    return file


@contextmanager
def served(config: Path, count: int = 1) -> Iterator[list[Server]]:
    """So many processes of one configuration, each with a spool of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        log = stack.enter_context((config.parent / "log").open("ab"))
        processes = []
        for number in range(count):
            own = {**environment, "RERANKD_SERVER_SPOOL": str(config.parent / f"spool-{number}")}
            command = [*COMMAND, "serve", "--config", str(config), "--json"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=own, cwd=config.parent)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        assert all(lines), (config.parent / "log").read_text()[-3000:]
        yield [Server(json.loads(line)["url"]) for line in lines]


async def keys_in(url: str, *names: str) -> list[str]:
    database = Database(url)
    store = KeyStore(database, PEPPER)
    made = [(await store.create(NewKey(name=name), actor="test"))[1].reveal() for name in names]
    await database.close()
    return made


def until(met: Callable[[], bool], within: float = NOTICED) -> float:
    """Seconds that it took."""
    began = monotonic()
    while not met():
        assert monotonic() - began < within, "it did not come about"
        sleep(0.02)
    return monotonic() - began


@pytest.mark.parametrize("how", ["killed", "paused", "paused, and Redis too"])
def test_while_the_database_is_away_known_keys_go_on_and_no_other_is_called_bad(
    how: str, postgres: PostgresServer, redis: RedisServer, tmp_path: Path
) -> None:
    both = how.endswith("too")
    with postgres.database() as url:
        known, other = asyncio.run(keys_in(url, "known", "other"))
        never_made, junk = make_key(make_id()), f"{known[:-1]}{'0' if known[-1] != '0' else '1'}"
        with served(configured(tmp_path, url, redis if both else None)) as (server,):
            first = server.ranked(known)
            assert (first.status_code, first.headers.get("x-rerankd-degraded")) == (200, None)
            try:
                answers = [first]
                postgres.kill() if how == "killed" else postgres.pause()
                if both:
                    redis.pause()

                def degraded() -> bool:
                    answers.append(server.ranked(known))
                    return answers[-1].headers.get("x-rerankd-degraded") == "database"

                until(degraded)
                for _ in range(20):
                    assert degraded()
                assert {answer.status_code for answer in answers} == {200}
                for key in (other, never_made):
                    refused = server.ranked(key)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
                    assert int(refused.headers["retry-after"]) >= 1
                assert server.status(junk) == 401  # its checksum is wrong, for which nobody need be asked
            finally:
                redis.resume()
                postgres.bring_back()
            until(lambda: server.status(other) == 200)
            assert server.status(never_made) == 401
            until(lambda: not degraded())
            rows = f"SELECT count(*) FROM ledger WHERE key_id = '{known[6:14]}' AND status = 200"  # noqa: S608
            until(lambda: postgres.execute(rows, url.rpartition("/")[2]) == [(len(answers),)])


def test_a_key_that_is_revoked_on_the_command_line_is_refused_by_every_process(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with postgres.database() as url:
        (key,) = asyncio.run(keys_in(url, "known"))
        config = configured(tmp_path, url, None)
        with served(config, 3) as servers:
            assert [server.status(key) for server in servers] == [200, 200, 200]
            subprocess.run(
                [*COMMAND, "keys", "revoke", "known", "--config", str(config)],
                check=True,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
            )
            took = until(lambda: [server.status(key) for server in servers] == [401, 401, 401], PROMISED)
            print(f"refused by three processes {took:.2f} s after the command line was done")  # noqa: T201
            sleep(0.5)
            assert [server.status(key) for server in servers] == [401, 401, 401]
