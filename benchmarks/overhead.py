"""What HTTP, JSON and the scheduler add to the engine: a small model, served and called directly in turns, 100 documents."""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from checkpoints import write_bert
from encoders import request, texts
from rerankd.app import Application
from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.scorer import score
from rerankd.server import serving
from rerankd.server.http import create_app
from rerankd.settings import CacheSettings, ModelSettings, ServerSettings, Settings

TINY = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}


@dataclass(frozen=True)
class Overhead:
    """Medians in milliseconds."""

    whole: float
    engine: float


def measure(turns: int) -> Overhead:
    query, documents = texts([60] * 100)
    body = json.dumps({"query": query, "documents": documents})
    with tempfile.TemporaryDirectory() as name:
        folder = write_bert(Path(name), **TINY)
        scorer = load_scorer(ModelSpec("tiny", str(folder), "cpu", "float32"), lambda *_: None)
        whole, engine = [], []
        with _served(folder) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for turn in range(turns + 20):
                started = perf_counter()
                score(scorer, request(query, documents))
                middle = perf_counter()
                connection.request("POST", "/rerank", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                if turn >= 20:
                    engine.append(middle - started)
                    whole.append(perf_counter() - middle)
    return Overhead(1000 * median(whole), 1000 * median(engine))


@contextmanager
def _served(folder: Path) -> Iterator[int]:
    """The port of a server in this process, which ends with it: measure nothing else behind it."""
    model = ModelSettings(name="tiny", source=str(folder), device="cpu", dtype="float32")
    settings = Settings(server=ServerSettings(port=0), models=(model,), cache=CacheSettings(max_bytes=0))
    started = threading.Event()
    with serving.bind(settings.server) as listening, Application(settings) as application:
        port: int = listening.getsockname()[1]
        arguments = (create_app(application), listening, settings.server, started.set)
        threading.Thread(target=serving.serve, args=arguments, daemon=True).start()
        assert started.wait(30)
        yield port
