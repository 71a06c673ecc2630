from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.server.http import create_app
from rerankd.server.routes import rerank_routes
from tests.server.conftest import MakeClient, settings

ROUTES = ["/rerank", "/v1/rerank"]
SHOWN = {route.path for route in rerank_routes() if route.warning is None and "{" not in route.path}
PATHS = {
    *SHOWN,
    "/v1/models",
    "/v1/models/{name}",
    "/v1/cluster/auth",
    "/info",
    "/health/live",
    "/health/ready",
    "/metrics",
}
SERVED = ["lexical", "jina-reranker-v3"]
KINDS: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}

Json = dict[str, Any]

with Application(settings()) as application:
    DOCUMENT: Json = json.loads(TestClient(create_app(application)).get("/openapi.json").content)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def request_schema(path: str) -> Json:
    schema: Json = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def values(schema: Json) -> st.SearchStrategy[Any]:
    """Whatever the schema allows, as far as our schemas go."""
    if "$ref" in schema:
        return values(resolve(schema["$ref"]))
    if "anyOf" in schema:
        return st.one_of([values(choice) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=30)
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=4)
        case "object":
            return objects(schema)
    raise AssertionError(f"a schema of a new kind: {schema}")


def objects(schema: Json) -> st.SearchStrategy[Any]:
    properties = {name: values(inner) for name, inner in schema["properties"].items()}
    if "model" in properties:
        properties["model"] = st.sampled_from([*SERVED, None])
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: value for name, value in properties.items() if name in required},
        optional={name: value for name, value in properties.items() if name not in required},
    )


def check(value: Any, schema: Json) -> None:
    """Fails where `value` is not what the schema says."""
    if "$ref" in schema:
        check(value, resolve(schema["$ref"]))
    elif "anyOf" in schema:
        assert any(fits(value, choice) for choice in schema["anyOf"]), (value, schema)
    elif "enum" in schema:
        assert value in schema["enum"]
    else:
        assert isinstance(value, KINDS[schema["type"]]), (value, schema)
        assert schema["type"] == "boolean" or not isinstance(value, bool)
        if isinstance(value, list):
            for item in value:
                check(item, schema["items"])
        if isinstance(value, dict) and set(schema) > {"type"}:  # one without more is anything
            assert set(schema.get("required", ())) <= set(value)
            for name, inner in value.items():
                check(inner, schema.get("properties", {}).get(name) or schema["additionalProperties"])


def fits(value: Any, schema: Json) -> bool:
    try:
        check(value, schema)
    except AssertionError:
        return False
    return True


def test_the_document_has_the_parts_that_openapi_asks_for() -> None:
    assert DOCUMENT["openapi"].startswith("3.")
    assert DOCUMENT["info"]["title"] == "rerankd"
    assert DOCUMENT["info"]["version"]
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids)) > len(PATHS)
    for _, _, operation in operations():
        assert operation["responses"]
        assert operation["summary"]
        assert all(answer["description"] for answer in operation["responses"].values())


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 5
    for reference in found:
        assert isinstance(resolve(reference), dict), reference


def test_every_schema_is_one_that_something_refers_to() -> None:
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} == set(references(DOCUMENT))


def test_the_document_has_the_routes_of_the_app_and_no_others() -> None:
    assert {path for path in DOCUMENT["paths"] if not path.startswith("/admin/")} == PATHS


def test_every_route_of_the_document_is_there(shared_client: TestClient) -> None:
    for path, method, _ in operations():
        if path.startswith("/admin/"):  # test_admin.py
            continue
        there = path.replace("{name}", "lexical")
        assert shared_client.request(method, there).status_code not in (404, 405), path


@pytest.mark.parametrize("path", ROUTES)
def test_query_and_documents_are_required_and_never_empty(path: str) -> None:
    schema = resolve(request_schema(path)["$ref"])
    assert schema["required"] == ["query", "documents"]
    text, text_object = schema["properties"]["query"]["anyOf"]
    assert text["minLength"] == text_object["properties"]["text"]["minLength"] == 1
    assert [choice["minItems"] for choice in schema["properties"]["documents"]["anyOf"]] == [1]


@pytest.mark.parametrize("path", ROUTES)
def test_every_security_scheme_that_a_rerank_route_names_exists(path: str) -> None:
    security = DOCUMENT["paths"][path]["post"]["security"]
    assert {name for choice in security for name in choice} == set(DOCUMENT["components"]["securitySchemes"])


@pytest.mark.parametrize("path", ROUTES)
@how(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_the_schema_allows_is_answered_as_the_schema_says(
    shared_client: TestClient, path: str, data: st.DataObject
) -> None:
    body = data.draw(values(request_schema(path)))
    for name in ("rank_fields", "kwargs"):  # what else must be there, or in it, is more than a schema can say
        body.pop(name, None)
    answer = shared_client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    check(answer.json(), DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"query": "q", "documents": ["d"], "model": "other"}, 404)],
)
def test_an_error_is_as_the_schema_says(shared_client: TestClient, path: str, body: Json, status: int) -> None:
    answer = shared_client.post(path, json=body)
    assert answer.status_code == status
    described = DOCUMENT["paths"][path]["post"]["responses"][str(status)]
    check(answer.json(), described["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", ROUTES)
def test_every_status_that_a_rerank_route_can_answer_is_described(path: str) -> None:
    described = set(DOCUMENT["paths"][path]["post"]["responses"])
    assert described >= {"200", "400", "401", "404", "413", "415", "500", "503", "504"}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_top_n_is_never_negative(make_client: MakeClient, path: str) -> None:
    document: dict[str, Any] = json.loads(make_client().get("/openapi.json").content)
    reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    top_n = document["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]["top_n"]
    assert {"type": "integer", "minimum": 0} in top_n["anyOf"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("field", "least"), [("max_tokens_per_doc", 0), ("max_chunks_per_doc", 0), ("overlap_tokens", 0)]
)
def test_lengths_have_their_bounds(path: str, field: str, least: int) -> None:
    properties = resolve(request_schema(path)["$ref"])["properties"]
    (number,) = [choice for choice in properties[field]["anyOf"] if choice["type"] == "integer"]
    assert number["minimum"] == least < number["maximum"]


@pytest.mark.parametrize("path", ROUTES)
def test_every_option_says_what_it_does(path: str) -> None:
    properties = resolve(request_schema(path)["$ref"])["properties"]
    plain = {"model", "query", "documents", "top_n", "return_documents", "return_embeddings"}
    options = {name: schema.get("description", "") for name, schema in properties.items() if name not in plain}
    assert len(options) == 18
    assert all(text.endswith(".") for text in options.values())
