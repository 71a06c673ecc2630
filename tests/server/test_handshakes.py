"""What clients ask before they rank, at the root and under each prefix."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from rerankd.server.routes import prefixes
from tests.server.conftest import MakeClient

KEY = "a-key-of-the-tests"


@pytest.mark.parametrize("prefix", ["", *(f"/{prefix}" for prefix in prefixes())])
def test_the_model_list_is_under_every_prefix(shared_client: TestClient, prefix: str) -> None:
    listed = shared_client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["lexical", "jina-reranker-v3"]
    assert shared_client.get(f"{prefix}/v1/models").json() == listed
    assert shared_client.get(f"{prefix}/v1/models/jina-reranker-v3").json() == listed["data"][1]
    assert shared_client.get(f"{prefix}/v1/models/other").status_code == 404


def test_a_model_says_what_xinferences_clients_look_for(shared_client: TestClient) -> None:
    described = shared_client.get("/xinference/v1/models/lexical").json()
    assert (described["model_type"], described["model_name"]) == ("rerank", "lexical")
    assert "detail" in shared_client.get("/xinference/v1/models/other").json()


def test_a_model_whose_name_has_slashes_is_found(make_client: MakeClient) -> None:
    client = make_client(models=[{"name": "lexical", "aliases": ["BAAI/bge-reranker-v2-m3"]}])
    assert client.get("/v1/models/BAAI/bge-reranker-v2-m3").json()["root"] == "lexical"


@pytest.mark.parametrize(("table", "needed"), [({}, False), ({"api_key": KEY}, True)])
def test_the_cluster_says_truly_and_to_anybody_whether_a_key_is_needed(
    make_client: MakeClient, table: dict[str, str], needed: bool
) -> None:
    client = make_client(**table)
    for path in ("/v1/cluster/auth", "/xinference/v1/cluster/auth"):
        assert client.get(path).json() == {"auth": needed}
    assert (client.get("/v1/models").status_code == 401) is needed


def test_teis_info_describes_the_model_that_its_clients_get(make_client: MakeClient) -> None:
    client = make_client(defaults={"model": "jina-reranker-v3"})
    for path in ("/info", "/tei/info"):
        info = client.get(path).json()
        assert info["model_id"] == "jina-reranker-v3"
        assert "reranker" in info["model_type"]
        assert info["max_input_length"] > 0
    assert make_client(api_key=KEY).get("/tei/info").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health/ready", "/tei/health", "/vllm/health"])
def test_health_is_told_under_the_names_of_other_servers_and_to_anybody(make_client: MakeClient, path: str) -> None:
    answer = make_client(api_key=KEY).get(path)
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


def test_every_other_handshake_needs_the_key(make_client: MakeClient) -> None:
    client = make_client(api_key=KEY)
    for prefix in prefixes():
        for path in ("v1/models", "models", "v1/models/lexical"):
            assert client.get(f"/{prefix}/{path}").status_code == 401
