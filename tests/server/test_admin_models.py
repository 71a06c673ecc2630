"""/admin/api/models: what is served, by whom, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerankd.errors import UpstreamRefused
from tests.server.keeping import keeping

CHANNEL = {"name": "far", "dialect": "jina", "base_url": "http://127.0.0.1:9", "models": {"bge": "theirs"}}
TABLE: dict[str, Any] = {
    "channels": [{**CHANNEL, "allow_private": True}],
    "cascades": [{"name": "two-steps", "first": "lexical", "then": "bge", "keep": 7}],
    "fallback": {"bge": ["lexical"]},
    "prices": {"bge": {"per_million_tokens": "0.02"}},
}


def test_a_model_has_its_facts_its_channels_and_its_price(tmp_path: Path) -> None:
    with keeping(tmp_path, **TABLE) as here:
        answer = here.get("/models")
        models = {model["name"]: model for model in answer["models"]}
        assert (answer["default"], answer["currency"], set(models)) == (
            "lexical",
            "EUR",
            {"lexical", "bge", "two-steps"},
        )
        assert (models["lexical"]["aliases"], models["lexical"]["channels"]) == (["jina-reranker-v3"], [])
        assert (models["lexical"]["family"], models["lexical"]["price"]["per_million_tokens"]) == ("lexical", 0)
        bge = models["bge"]
        served = {"channel": "far", "upstream": "theirs", "status": "closed", "last_error": None}
        assert (bge["channels"], bge["fallback"]) == ([served], ["lexical"])
        assert bge["price"] == {"per_million_tokens": 20_000, "per_thousand_searches": 0}
        assert models["two-steps"]["cascade"] == {"first": "lexical", "then": "bge", "keep": 7}


def test_a_channel_that_fails_says_why(tmp_path: Path) -> None:
    with keeping(tmp_path, **TABLE) as here:
        breaker = here.application.breakers["far", "bge"]
        breaker.failed(breaker.admit(), UpstreamRefused("The upstream does not take our key."))
        (served,) = next(model for model in here.get("/models")["models"] if model["name"] == "bge")["channels"]
        assert (served["status"], served["last_error"]) == ("needs a person", "The upstream does not take our key.")
