from __future__ import annotations

from rerankd.policies.calls import call_for, carry_over
from rerankd.types import Call, Notes


def test_a_call_for_another_is_the_same_with_notes_of_its_own() -> None:
    call = Call("the-request", deadline=5.0, created=7, owner="me", notes=Notes(attempts=2, channel="near"))
    own = call_for(call)
    assert (own.request_id, own.deadline, own.created, own.owner) == ("the-request", 5.0, 7, "me")
    assert own.notes == Notes()
    own.notes.attempts += 1
    assert call.notes.attempts == 2


def test_times_and_attempts_add_up_and_the_last_word_is_who_answered() -> None:
    into = Notes({"infer": 1.0}, channel="near", attempts=1, cached=True)
    carry_over(Notes({"infer": 2.0, "queue": 4.0}, channel="far", attempts=2), into)
    into.began.clear()
    assert into == Notes({"infer": 3.0, "queue": 4.0}, channel="far", attempts=3, cached=False)


def test_a_call_that_reached_nobody_leaves_who_answered_before() -> None:
    into = Notes(channel="near")
    carry_over(Notes(attempts=1), into)
    assert into == Notes(channel="near", attempts=1)
