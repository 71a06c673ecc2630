from __future__ import annotations

from time import monotonic, perf_counter

import msgspec
import pytest

from rerankd.types import Call, Document, ModelCard, Notes, RerankRequest, RerankResponse, Result, Usage

VALUES = [
    (Document("a"), "text"),
    (RerankRequest(query="q", documents=(Document("a"),)), "query"),
    (Result(0, 0.5), "relevance_score"),
    (Usage(prompt_tokens=1), "prompt_tokens"),
    (RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=1)), "results"),
    (ModelCard(name="m", family="f", score="logit", source="s", device="cpu", dtype="float32"), "name"),
    (Call("id"), "deadline"),
]


@pytest.mark.parametrize(("value", "field"), VALUES, ids=lambda value: type(value).__name__)
def test_no_value_of_the_vocabulary_can_be_changed(value: object, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, field, None)


@pytest.mark.parametrize("value", [value for value, _ in VALUES[:-1]], ids=lambda value: type(value).__name__)
def test_values_can_be_keys_so_that_a_cache_can_hold_them(value: msgspec.Struct) -> None:
    assert {value: 1}[msgspec.structs.replace(value)] == 1


def test_a_request_asks_for_everything_and_returns_nothing_beside_scores_unless_it_says_so() -> None:
    request = RerankRequest(query="q", documents=(Document("a"),))
    assert (request.model, request.top_n, request.return_documents, request.return_embeddings) == (
        None,
        None,
        False,
        False,
    )


def test_a_request_is_somebodys_who_waits_and_cuts_only_what_the_model_cannot_hold_unless_it_says_so() -> None:
    request = RerankRequest(query="q", documents=(Document("a"),))
    assert (request.truncation, request.priority) == (True, "interactive")
    lengths = (request.max_tokens_per_doc, request.max_chunks_per_doc, request.overlap_tokens)
    assert (request.instruction, *lengths) == (None, None, None, None)


def test_an_empty_text_is_a_document() -> None:
    assert Document("").text == ""


def test_total_tokens_are_the_prompt_because_rerankers_write_nothing() -> None:
    assert Usage(prompt_tokens=12, cached_tokens=5).total_tokens == 12


def test_a_call_without_a_deadline_has_no_remaining_time_to_speak_of() -> None:
    assert Call("id").remaining() is None


def test_remaining_time_is_counted_down_to_the_deadline_and_beyond() -> None:
    ahead, passed = Call("id", monotonic() + 100).remaining(), Call("id", monotonic() - 100).remaining()
    assert ahead is not None
    assert passed is not None
    assert 0 < ahead <= 100
    assert passed <= -100


def test_each_call_has_notes_of_its_own() -> None:
    one, other = Call("one"), Call("other")
    one.notes.channel = "local"
    one.notes.took("infer", 1.0)
    assert other.notes == Notes()


def test_notes_add_up_the_times_of_one_stage() -> None:
    notes = Notes()
    for stage, milliseconds in (("infer", 1.5), ("queue", 1.0), ("infer", 2.0)):
        notes.took(stage, milliseconds)
    assert notes.timings == {"infer": 3.5, "queue": 1.0}


def test_notes_say_when_a_stage_first_began() -> None:
    notes = Notes()
    notes.took("infer", 1000.0)
    assert notes.began["infer"] == pytest.approx(perf_counter() - 1, abs=0.5)
    notes.took("queue", 1.0, 5.0)
    notes.took("queue", 1.0, 9.0)
    assert notes.began["queue"] == 5.0
