"""Real client libraries get from a real server what their users expect: order, limits, texts, usage and their own errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.cases import BEST_TWO, CHINESE_BEST, CHINESE_DOCUMENTS, DOCUMENTS, KEY_REFUSED, MODEL_REFUSED
from tests.contract.conftest import Run


@dataclass(frozen=True)
class Client:
    """`wrong_key` and `unknown_model` are the exceptions that its user sees, with our message in them unless it is `mute`.

    `documents` and `usage` say whether its user gets them from the server, and `unasked` is how many results come where
    its user names no number.
    """

    name: str
    environment: str
    library: str
    wrong_key: str
    unknown_model: str | None
    documents: bool = False
    usage: bool = False
    unasked: int = len(DOCUMENTS)
    mute: bool = False

    @property
    def title(self) -> str:
        """Cohere's is there twice, in an older version beside the frameworks."""
        return f"{self.name} in {self.environment}" if self.library == "cohere" else self.name


Both = tuple[str, str]

COHERE = ("cohere.errors.unauthorized_error.UnauthorizedError", "cohere.errors.not_found_error.NotFoundError")
LITELLM = ("litellm.exceptions.AuthenticationError", "litellm.exceptions.NotFoundError")
VOYAGE = ("voyageai.error.AuthenticationError", "voyageai.error.APIError")
TOGETHER = ("together.AuthenticationError", "together.NotFoundError")
MIXEDBREAD = ("mixedbread.AuthenticationError", "mixedbread.NotFoundError")
PINECONE = ("pinecone.errors.exceptions.UnauthorizedError", "pinecone.errors.exceptions.NotFoundError")
INFINITY = ("infinity_client.errors.UnexpectedStatus",) * 2
DASHSCOPE = ("tests.contract.clients.dashscope.Refused",) * 2  # its SDK raises nothing: this is our script's
RUNTIME = ("builtins.RuntimeError",) * 2
PLAIN = ("builtins.Exception",) * 2


def sdk(name: str, library: str, raises: Both, *, environment: str = "sdks", documents: bool = True) -> Client:
    return Client(name, environment, library, *raises, documents=documents, usage=True)


def framework(name: str, library: str, raises: Both, *, unasked: int = len(DOCUMENTS)) -> Client:
    return Client(name, "frameworks", library, *raises, unasked=unasked)


CLIENTS = [
    sdk("cohere.Client", "cohere", COHERE),
    sdk("cohere.ClientV2", "cohere", COHERE, documents=False),
    sdk("cohere.Client", "cohere", COHERE, environment="frameworks"),
    sdk("cohere.ClientV2", "cohere", COHERE, environment="frameworks", documents=False),
    sdk("cohere.Client at the root", "cohere_elsewhere", COHERE),
    sdk("cohere.ClientV2 at the root", "cohere_elsewhere", COHERE, documents=False),
    sdk("cohere.Client below /v1", "cohere_elsewhere", COHERE),
    sdk("cohere.ClientV2 below /v1", "cohere_elsewhere", COHERE, documents=False),
    sdk("voyageai", "voyageai", VOYAGE, documents=False),
    sdk("dashscope", "dashscope", DASHSCOPE),
    sdk("xinference-client", "xinference_client", RUNTIME),
    sdk("xinference-client at the root", "xinference_client", RUNTIME),
    sdk("together", "together", TOGETHER),
    sdk("mixedbread", "mixedbread", MIXEDBREAD),
    sdk("pinecone", "pinecone", PINECONE),
    sdk("pinecone at the root", "pinecone", PINECONE),
    sdk("infinity-client", "infinity_client", INFINITY, environment="infinity"),
    sdk("litellm cohere/", "litellm", LITELLM, documents=False),
    sdk("litellm jina_ai/", "litellm", LITELLM),
    sdk("litellm hosted_vllm/", "litellm", LITELLM),
    sdk("litellm hosted_vllm/ at the root", "litellm", LITELLM),
    sdk("litellm litellm_proxy/", "litellm", LITELLM),
    sdk("litellm infinity/", "litellm", LITELLM),
    sdk("litellm voyage/", "litellm", LITELLM),
    sdk("litellm together_ai/", "litellm", LITELLM),
    sdk("litellm dashscope/", "litellm", LITELLM),
    sdk("litellm nvidia_nim/ranking/", "litellm", LITELLM),
    framework("langchain-cohere CohereRerank", "langchain", COHERE),
    framework("langchain-community JinaRerank", "langchain", RUNTIME),
    framework("langchain-nvidia-ai-endpoints NVIDIARerank", "langchain", PLAIN),
    framework("llama-index CohereRerank", "llama_index", COHERE, unasked=2),
    framework("llama-index JinaRerank", "llama_index", RUNTIME, unasked=2),
    framework("llama-index SiliconFlowRerank", "llama_index", RUNTIME),
    # These send no model and look at no status: they take the body of a refusal for the list that they expected.
    Client(
        "llama-index TextEmbeddingInference",
        "frameworks",
        "llama_index",
        wrong_key="json.decoder.JSONDecodeError",
        unknown_model=None,
        mute=True,
    ),
    Client(
        "llama-index TextEmbeddingInference at the root",
        "frameworks",
        "llama_index",
        wrong_key="builtins.AssertionError",
        unknown_model=None,
        mute=True,
    ),
]


def of(clients: Iterable[Client]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", [pytest.param(client, id=client.title) for client in clients])


Answered = Callable[[Client, str], Mapping[str, Any]]


@pytest.fixture
def outcome(run: Run) -> Answered:
    """What came of a case: an answer, or an exception and its message."""

    def outcome(client: Client, case: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = run(client.environment, client.library)["answers"][client.name][case]
        return found

    return outcome


@pytest.fixture
def answer(outcome: Answered) -> Answered:
    def answer(client: Client, case: str) -> Mapping[str, Any]:
        found = outcome(client, case)
        assert "raised" not in found, f"{found['raised']}: {found['message']}"
        return found

    return answer


@of(CLIENTS)
def test_the_best_document_comes_first_and_scores_fall(client: Client, answer: Answered) -> None:
    found = answer(client, "top_n too many")
    assert found["order"][:2] == BEST_TWO
    assert found["scores"] == sorted(found["scores"], reverse=True)
    assert found["scores"][0] > found["scores"][-1]


@of(CLIENTS)
def test_without_top_n_as_many_come_as_its_user_expects(client: Client, answer: Answered) -> None:
    order = answer(client, "no top_n")["order"]
    assert len(set(order)) == len(order) == client.unasked


@of(CLIENTS)
def test_top_n_2_gives_the_best_two(client: Client, answer: Answered) -> None:
    assert answer(client, "top_n 2")["order"] == BEST_TWO


@of(CLIENTS)
def test_top_n_above_the_number_of_documents_gives_all(client: Client, answer: Answered) -> None:
    assert sorted(answer(client, "top_n too many")["order"]) == list(range(len(DOCUMENTS)))


@of(client for client in CLIENTS if client.documents)
def test_documents_come_back_with_their_results(client: Client, answer: Answered) -> None:
    found = answer(client, "top_n too many")
    assert found["documents"] == [DOCUMENTS[place] for place in found["order"]]


@of(client for client in CLIENTS if client.usage)
def test_usage_is_counted(client: Client, answer: Answered) -> None:
    assert answer(client, "no top_n")["usage"] > 0


@of(CLIENTS)
def test_a_wrong_key_raises_its_own_exception_with_our_message(client: Client, outcome: Answered) -> None:
    found = outcome(client, "wrong key")
    assert found.get("raised") == client.wrong_key, found
    assert client.mute or KEY_REFUSED in found["message"]


@of(client for client in CLIENTS if client.unknown_model)
def test_an_unknown_model_raises_its_own_exception_with_our_message(client: Client, outcome: Answered) -> None:
    found = outcome(client, "unknown model")
    assert found.get("raised") == client.unknown_model, found
    assert all(part in found["message"] for part in MODEL_REFUSED), found["message"]


@of(CLIENTS)
def test_chinese_is_ranked(client: Client, answer: Answered) -> None:
    assert answer(client, "Chinese")["order"][0] == CHINESE_BEST


@of(client for client in CLIENTS if client.documents)
def test_chinese_documents_come_back_unharmed(client: Client, answer: Answered) -> None:
    found = answer(client, "Chinese")
    assert found["documents"] == [CHINESE_DOCUMENTS[place] for place in found["order"]]


LIBRARIES = sorted({(client.environment, client.library) for client in CLIENTS})
each_library = pytest.mark.parametrize(
    ("environment", "library"), LIBRARIES, ids=[f"{library} in {environment}" for environment, library in LIBRARIES]
)


@each_library
def test_it_asks_nobody_but_the_server(environment: str, library: str, run: Run) -> None:
    assert run(environment, library)["strangers"] == []


@each_library
def test_all_its_clients_are_tested(environment: str, library: str, run: Run) -> None:
    tested = {client.name for client in CLIENTS if (client.environment, client.library) == (environment, library)}
    assert set(run(environment, library)["answers"]) == tested
