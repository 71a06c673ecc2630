from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading

import pytest

from rerankd.server.log_lines import GATHERED, Lines, visible, word
from tests.server.logged import Caught, logged

ATTACKS = ["a\nb", "a\r\nb", "\x1b[2Ja", "a\x9b31mb", "a\u2028b", "a\u202eb", "a\x00b", "a\x85b"]

log = logging.getLogger("rerankd.tests")


def lines_to(caught: Caught) -> Lines:
    caught.lines = Lines(caught.write)
    return caught.lines


async def test_lines_that_come_together_are_written_together_and_soon() -> None:
    caught = Caught()
    lines = lines_to(caught)
    for number in range(100):
        lines.gather(b"%d\n" % number)
    assert caught.writes == 0
    await asyncio.sleep(2 * GATHERED)
    assert caught.writes == 1
    assert caught.data.split() == [b"%d" % number for number in range(100)]


async def test_what_is_gathered_has_a_bound() -> None:
    caught = Caught()
    lines = lines_to(caught)
    for _ in range(70):
        lines.gather(b"x" * 1024)
    assert caught.writes == 1


async def test_a_line_that_is_written_at_once_stands_behind_what_was_gathered() -> None:
    caught = Caught()
    lines = lines_to(caught)
    lines.gather(b"first ")
    lines.write(b"second ")
    lines.gather(b"third")
    lines.flush()
    assert caught.data == b"first second third"


def test_without_a_loop_nothing_waits() -> None:
    caught = Caught()
    lines_to(caught).gather(b"at once")
    assert caught.data == b"at once"


async def test_no_line_is_lost_when_threads_write_between() -> None:
    caught = Caught()
    lines = lines_to(caught)

    def write_many() -> None:
        for _ in range(2000):
            lines.write(b"t\n")

    others = [threading.Thread(target=write_many) for _ in range(2)]
    for other in others:
        other.start()
    for _ in range(4000):
        lines.gather(b"l\n")
    for other in others:
        other.join()
    lines.flush()
    assert (caught.data.count(b"l"), caught.data.count(b"t")) == (4000, 4000)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_ends_a_line_or_moves_a_cursor(attack: str) -> None:
    assert visible(attack).isprintable()
    assert word(attack).isascii()
    assert word(attack).isprintable()
    with logged("text") as caught:
        log.info("said: %s", attack)
    assert caught.text.count("\n") == 1
    assert caught.text[:-1].isprintable()


def test_a_word_is_cut_and_one_that_is_plain_stays_as_it_is() -> None:
    assert word("/v1/models/BAAI/bge-reranker-v2-m3") == "/v1/models/BAAI/bge-reranker-v2-m3"
    assert word("two words") == "two%20words"
    assert word("\udc80") == "?"
    assert len(word("x" * 10_000)) < 250


@pytest.mark.parametrize("attack", ATTACKS)
def test_in_json_each_record_is_one_object_on_one_line(attack: str) -> None:
    with logged("json") as caught:
        log.warning("said: %s", attack)
        try:
            raise ValueError(attack)
        except ValueError:
            log.exception("failed")
    first, second = (json.loads(line) for line in caught.text.splitlines())
    assert (first["level"], first["logger"]) == ("WARNING", "rerankd.tests")
    assert first["message"].isprintable()
    assert first["time"].endswith("Z")
    assert "ValueError" in second["exception"]


def test_a_traceback_cannot_pass_for_a_line_of_the_log() -> None:
    with logged("text") as caught:
        try:
            raise ValueError("first\n2026-11-21 18:00:00,000 INFO rerankd.access 200 POST /forged")
        except ValueError:
            log.exception("failed")
    first, *rest = caught.text.splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("end", ["return", "SIGTERM"])
def test_a_graceful_end_loses_nothing(end: str) -> None:
    """As uvicorn ends: the loop stops at the signal, and the interpreter goes."""
    program = f"""
import asyncio, os, signal
from rerankd.server.log_lines import install
lines = install()
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if {end!r} == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
    for number in range(1000):
        lines.gather(b"%d\\n" % number)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert ended.stderr.split() == [b"%d" % number for number in range(1000)]


def test_a_reader_that_has_gone_stops_nothing() -> None:
    program = """
import os, logging
from rerankd.server.log_lines import install
lines = install()
reader, writer = os.pipe()
os.dup2(writer, 2)
os.close(writer)
os.close(reader)
logging.getLogger("x").warning("to nobody")
lines.gather(b"to nobody")
print("goes on")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert ended.stdout == b"goes on\n"
