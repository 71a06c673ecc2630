"""What a gateway costs: rerankd and LiteLLM's proxy before the same upstream, which answers at once, in one run, in turns.

    python benchmarks/gateway.py [--rounds 5] [--seconds 5] [--only rerankd]

Each has one process and one channel in Jina's format to `static_upstream.py`, and no cache. rerankd checks a stored key
with every limit and quota there is, and keeps its ledger: a row for each request, on the disk before the answer, and soon
after in SQLite. So that this has a figure of its own, rerankd runs without any of it, too. LiteLLM checks its master key,
and has no database. `wrk` sends 10 documents of 200 characters, no request twice, and whether every one of them reached the
upstream is counted there, as are the rows of the ledger.
wrk is installed from Debian's packages where it is missing, LiteLLM into .venv/bench-litellm (750 MB).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic, sleep

HERE = Path(__file__).resolve().parent
RERANKD = str(Path(sys.executable).with_name("rerankd"))
LITELLM = "litellm[proxy]==1.106.2"
LITELLM_VENV = HERE.parent / ".venv" / "bench-litellm"
MODEL = "bge"
CROWD = 8
ARRIVAL = 5.0
"""Seconds in which the last rows must have come from the disk into the database."""
START = 90.0
"""Seconds in which a server must answer."""
ASKED_RATIO, ASKED_ADDED, ASKED_MEMORY, ASKED_BOOKS = 20.0, 1.0, 130.0, 0.5
MASTER_KEY = "sk-of-the-benchmark-alone"
KEY_VARIABLE = "GATEWAY_KEY"
ALLOWED = 10**9
"""Of whatever the key may do, so that every limit is asked and none is met."""
LIMITS = ("rpm", "tpm", "dpm", "concurrency", "quota", "quota-month", "quota-day")
MARK = "measured:"

SCRIPT = f"""
local before, after, count, run = "", "", 0, "0"
function init(arguments)
  before, after, run = arguments[1], arguments[2], arguments[3]
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("{KEY_VARIABLE}")
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end
function request()
  count = count + 1
  return wrk.format(nil, nil, nil, before .. run .. "-" .. count .. after)
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("{MARK} [%d, %d, %d, %d, %d]\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
"""For wrk: the body's beginning and end and the run's number come as arguments, so that every query is another."""

LITELLM_CONFIG = """
model_list:
  - model_name: {model}
    litellm_params:
      model: jina_ai/static
      api_key: none-is-needed
      api_base: http://127.0.0.1:{upstream}
general_settings:
  master_key: {key}
"""

RERANKD_CONFIG = """
models = []

[server]
port = {port}
database = "sqlite:///{database}"

[auth]
mode = "{mode}"

[ledger]
enabled = {books}

[cache]
max_bytes = 0

[[channels]]
name = "static"
dialect = "jina"
base_url = "http://127.0.0.1:{upstream}"
api_key_env = "BENCH_KEY"
models = {{ {model} = "static" }}
allow_private = true
"""


@dataclass(frozen=True)
class Run:
    """Requests a second, and milliseconds; `work` is the processor's time for one request, which no neighbour changes."""

    rate: float
    p50: float
    p99: float
    work: float


@dataclass
class Server:
    """Something that answers POST /v1/rerank on `port`; `crowd` and `alone` are runs of 8 connections and of one.

    `books` is the database with its ledger, which must hold a row for every request.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    key: str = "none"
    books: Path | None = None
    idle: float = 0
    loaded: float = 0
    crowd: list[Run] = field(default_factory=list)
    alone: list[Run] = field(default_factory=list)


def main() -> None:
    arguments = _arguments()
    wrk = _wrk()
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "post.lua"
        script.write_text(SCRIPT)
        upstream = stack.enter_context(_static_upstream(folder))
        servers = [upstream]
        for gateway in arguments.only or GATEWAYS:
            servers.append(stack.enter_context(GATEWAYS[gateway](folder, upstream.port)))
        for server in servers:
            server.idle = _memory(server.process.pid)
        for number in range(arguments.rounds):
            for server in servers:
                _measure(wrk, script, server, upstream, arguments.seconds, str(number))
        for server in servers:
            server.loaded = _memory(server.process.pid)
        _report(servers, arguments.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one run of wrk")
    parser.add_argument("--only", action="append", choices=sorted(GATEWAYS), help="leave the other gateway out")
    return parser.parse_args()


def _wrk() -> str:
    """Its path. Ends the program with a sentence where it cannot be had."""
    apt = shutil.which("apt-get")
    if shutil.which("wrk") is None and apt is not None and os.geteuid() == 0:
        print("Installing wrk from the system's packages", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ([apt, "update", "-qq"], [apt, "install", "-qq", "-y", "wrk"]):
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=quiet)
    found = shutil.which("wrk")
    if found is None:
        sys.exit("There is no wrk here, and it could not be installed: nothing was measured. Debian has it as `wrk`.")
    return found


# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _static_upstream(folder: Path) -> Iterator[Server]:
    port = _free_port()
    with _started(
        "upstream itself", port, [sys.executable, str(HERE / "static_upstream.py"), str(port)], folder
    ) as server:
        yield server


@contextlib.contextmanager
def _rerankd(folder: Path, upstream: int) -> Iterator[Server]:
    config = _configured(folder, "rerankd", upstream, books=True)
    most = [part for limit in LIMITS for part in (f"--{limit}", str(ALLOWED))]
    made = subprocess.run(
        [RERANKD, "keys", "create", "bench", *most, "--config", str(config), "--json"],
        capture_output=True,
        check=True,
        cwd=folder,
        env={**os.environ, "BENCH_KEY": "none-is-needed"},
    )
    with _served(folder, config, "rerankd", json.loads(made.stdout)["key"]) as server:
        server.books = folder / "rerankd.db"
        yield server


@contextlib.contextmanager
def _rerankd_without(folder: Path, upstream: int) -> Iterator[Server]:
    config = _configured(folder, "without", upstream, books=False)
    with _served(folder, config, "rerankd without", "none") as server:
        yield server


def _configured(folder: Path, name: str, upstream: int, *, books: bool) -> Path:
    """The configuration; `books` are keys, limits and the ledger."""
    config = folder / f"{name}.toml"
    mode, ledger = ("required", "true") if books else ("off", "false")
    config.write_text(
        RERANKD_CONFIG.format(
            port=_free_port(), upstream=upstream, model=MODEL, database=folder / f"{name}.db", mode=mode, books=ledger
        )
    )
    return config


@contextlib.contextmanager
def _served(folder: Path, config: Path, name: str, key: str) -> Iterator[Server]:
    port = int(tomllib.loads(config.read_text())["server"]["port"])
    command = [RERANKD, "serve", "--config", str(config)]
    with _started(name, port, command, folder, {"BENCH_KEY": "none-is-needed"}, key) as server:
        yield server


@contextlib.contextmanager
def _litellm(folder: Path, upstream: int) -> Iterator[Server]:
    port = _free_port()
    program = _installed_litellm()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream, model=MODEL, key=MASTER_KEY))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    settings = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # ours is no secret
    }
    with _started("LiteLLM", port, command, folder, settings, MASTER_KEY) as server:
        yield server


GATEWAYS: Mapping[str, Callable[[Path, int], contextlib.AbstractContextManager[Server]]] = {
    "rerankd": _rerankd,
    "without": _rerankd_without,
    "litellm": _litellm,
}


def _installed_litellm() -> Path:
    """LiteLLM's command, in an environment of its own: it pins half of what we use."""
    program = LITELLM_VENV / "bin" / "litellm"
    wanted = LITELLM_VENV / ".installed"
    if not wanted.exists() or wanted.read_text() != LITELLM:
        print(f"Installing {LITELLM} into {LITELLM_VENV} (a few minutes)", flush=True)
        venv.create(LITELLM_VENV, with_pip=True)
        pip = [str(LITELLM_VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
        subprocess.run([*pip, LITELLM], check=True)
        wanted.write_text(LITELLM)
    return program


@contextlib.contextmanager
def _started(
    name: str,
    port: int,
    command: Sequence[str],
    folder: Path,
    settings: Mapping[str, str] | None = None,
    key: str = "none",
) -> Iterator[Server]:
    """The server as soon as it answers. Ends the program, with the end of what it wrote, where it does not."""
    log = folder / f"{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, env={**os.environ, **(settings or {})}, start_new_session=True
        )
    try:
        if not _answers(port, process, key):
            sys.exit(f"{name} does not answer; the end of its log:\n{log.read_text(errors='replace')[-2000:]}")
        yield Server(name, port, process, key)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int, process: subprocess.Popen[bytes], key: str) -> bool:
    """Whether a rerank comes back before time is up."""
    until = monotonic() + START
    before, after = _body()
    while monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer = _asked(port, "POST", "/v1/rerank", f"{before}first{after}", key)
            if status == 200 and len(json.loads(answer)["results"]) == 10:
                return True
        sleep(0.5)
    return False


def _asked(port: int, method: str, path: str, body: str | None = None, key: str = "none") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"content-type": "application/json", "authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# --- measures ---------------------------------------------------------------------------------------------------------


def _body() -> tuple[str, str]:
    """Of a request for 10 documents of 200 characters: what stands before the query's number, and after it."""
    documents = [f"{number} " + "lorem ipsum dolor sit amet consectetur " * 6 for number in range(10)]
    fields = {"model": MODEL, "query": "question #", "documents": [text[:200] for text in documents]}
    before, _, after = json.dumps(fields).partition("#")
    return before, after


def _measure(wrk: str, script: Path, server: Server, upstream: Server, seconds: int, number: str) -> None:
    before, rows = _count(upstream), _rows(server)
    crowd, crowd_requests = _run(wrk, script, server, CROWD, seconds, f"{number}c")
    alone, alone_requests = _run(wrk, script, server, 1, seconds, f"{number}a")
    reached, sent = _count(upstream) - before, crowd_requests + alone_requests
    if reached < sent:
        sys.exit(f"{server.name} answered {sent} requests, of which {reached} reached the upstream: not comparable.")
    if server.books is not None and not _has_rows(server, rows + sent):
        sys.exit(f"{server.name} answered {sent} requests, and its ledger has {_rows(server) - rows} rows of them.")
    server.crowd.append(crowd)
    server.alone.append(alone)


def _count(upstream: Server) -> int:
    return int(_asked(upstream.port, "GET", "/count")[1])


def _rows(server: Server) -> int:
    if server.books is None:
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{server.books}?mode=ro", uri=True)) as books:
        return int(books.execute("SELECT count(*) FROM ledger WHERE status = 200").fetchone()[0])


def _has_rows(server: Server, wanted: int) -> bool:
    """Whether its database has so many; the last are on their way there for a moment."""
    until = monotonic() + ARRIVAL
    while _rows(server) < wanted and monotonic() < until:
        sleep(0.1)
    return _rows(server) >= wanted


def _run(wrk: str, script: Path, server: Server, connections: int, seconds: int, run: str) -> tuple[Run, int]:
    url = f"http://127.0.0.1:{server.port}/v1/rerank"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url, "--"]
    before = _processor(server.process.pid)
    environment = {**os.environ, KEY_VARIABLE: server.key}
    done = subprocess.run([*command, *_body(), run], capture_output=True, text=True, check=True, env=environment).stdout
    line = next((line for line in done.splitlines() if line.startswith(MARK)), None)
    assert line is not None, done
    requests, duration, p50, p99, errors = json.loads(line.removeprefix(MARK))
    assert errors == 0, f"{errors} of {requests} requests failed at {url}"
    work = 1000 * (_processor(server.process.pid) - before) / requests
    return Run(requests / duration * 1e6, p50 / 1000, p99 / 1000, work), requests


def _processor(pid: int) -> float:
    """Seconds of processor time of a process and of those that it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_processor(child) for child in _children(pid))


def _memory(pid: int) -> float:
    """Resident MB of a process and of those that it started."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1000 * 1.024
    return own + sum(_memory(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _report(servers: Sequence[Server], seconds: int) -> None:
    upstream, *gateways = servers
    print(f"{platform.machine()}, {os.cpu_count()} cores, {len(upstream.crowd)} runs of {seconds} s each; medians\n")
    print(
        f"{'':16}{'requests/s':>12}{'p50 at 1':>12}{'p99 at 8':>12}{'work at 8':>12}{'MB at start':>14}{'MB at end':>12}"
    )
    for server in servers:
        print(
            f"{server.name:16}{_rate(server):>12.0f}{_p50(server):>9.2f} ms"
            f"{median(run.p99 for run in server.crowd):>9.2f} ms"
            f"{median(run.work for run in server.crowd):>9.2f} ms{server.idle:>14.0f}{server.loaded:>12.0f}"
        )
    print()
    for server in gateways:
        print(f"{server.name} adds {_p50(server) - _p50(upstream):.2f} ms at one connection")
    found = {server.name: server for server in gateways}
    ours, theirs = found.get("rerankd"), found.get("LiteLLM")
    if ours is not None and theirs is not None:
        ratios = [our.rate / their.rate for our, their in zip(ours.crowd, theirs.crowd, strict=True)]
        ratio = median(ratios)
        said = f"{ratio:.1f} x (from round to round {min(ratios):.1f} to {max(ratios):.1f})"
        _verdict("requests/s against LiteLLM's", said, f"at least {ASKED_RATIO:g} x", ratio >= ASKED_RATIO)
    without = found.get("rerankd without")
    if ours is not None and without is not None:
        cost = _p50(ours) - _p50(without)
        _verdict("p50 of keys, limits and ledger", f"{cost:.2f} ms", f"at most {ASKED_BOOKS:g} ms", cost <= ASKED_BOOKS)
    if ours is not None:
        added = _p50(ours) - _p50(upstream)
        memory = max(ours.idle, ours.loaded)
        _verdict("p50 added", f"{added:.2f} ms", f"at most {ASKED_ADDED:g} ms", added <= ASKED_ADDED)
        _verdict("memory", f"{memory:.0f} MB", f"at most {ASKED_MEMORY:g} MB", memory <= ASKED_MEMORY)


def _verdict(what: str, value: str, asked: str, met: bool) -> None:
    print(f"{what}: {value}; asked: {asked}, {'met' if met else 'MISSED'}")


def _rate(server: Server) -> float:
    return median(run.rate for run in server.crowd)


def _p50(server: Server) -> float:
    return median(run.p50 for run in server.alone)


if __name__ == "__main__":
    main()
