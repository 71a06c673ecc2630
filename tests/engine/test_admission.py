from __future__ import annotations

import threading
from contextlib import ExitStack
from time import monotonic

import pytest

from rerankd.engine import admission as admissions
from rerankd.engine.admission import Admission, Rate, Ticket, estimated_cost
from rerankd.errors import Overloaded
from rerankd.types import Document, RerankRequest

RATE = Rate(100.0)


def request(query: str, *documents: str, chunks: int | None = None) -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)), max_chunks_per_doc=chunks)


def refused(admission: Admission, cost: float, rate: Rate = RATE, deadline: float | None = None) -> Overloaded | None:
    try:
        with admission.enter(cost, rate, deadline):
            return None
    except Overloaded as error:
        return error


@pytest.mark.parametrize("cost", [1.0, 1e12])
def test_where_there_is_nobody_everybody_is_let_in(cost: float) -> None:
    admission = Admission(max_wait=1.0)
    assert refused(admission, cost) is None
    assert refused(admission, cost, deadline=monotonic() + 0.1) is None


def test_who_would_wait_too_long_is_refused_with_the_seconds_until_there_is_room() -> None:
    admission = Admission(max_wait=10.0)
    with admission.enter(4000.0, RATE, None):
        error = refused(admission, 4000.0)
    assert error is not None
    assert (error.status, error.retryable) == (503, True)
    assert error.retry_after == pytest.approx(30.0)  # 40 s at the rate, of which 10 may be waited
    assert "40" in error.message


def test_the_seconds_come_from_the_rate_that_is_measured() -> None:
    admission, rate = Admission(max_wait=10.0), Rate(100.0)
    with admission.enter(4000.0, rate, None):
        for _ in range(200):
            rate.observe(50.0, 1.0, full=True)
        error = refused(admission, 4000.0, rate)
        assert error is not None
        assert error.retry_after == pytest.approx(70.0, rel=0.01)
        for _ in range(200):
            rate.observe(1000.0, 1.0, full=True)
        assert refused(admission, 4000.0, rate) is None


def test_nobody_is_told_to_come_again_in_less_than_a_second() -> None:
    admission = Admission(max_wait=10.0)
    with admission.enter(1001.0, RATE, None):
        error = refused(admission, 1001.0)
    assert error is not None
    assert error.retry_after == 1.0


def test_a_small_request_is_not_refused_because_of_large_ones() -> None:
    admission = Admission(max_wait=10.0)
    with ExitStack() as large:
        large.enter_context(admission.enter(1e9, RATE, None))
        for _ in range(50):
            large.enter_context(admission.enter(10.0, RATE, None))
        assert refused(admission, 10.0) is None
        assert refused(admission, 1e6) is not None


def test_many_small_requests_fill_it_too() -> None:
    admission = Admission(max_wait=10.0)
    with ExitStack() as entered:
        for _ in range(101):
            entered.enter_context(admission.enter(10.0, RATE, None))
        assert refused(admission, 10.0) is not None
        assert refused(admission, 5.0) is None


def test_each_model_counts_at_its_own_rate() -> None:
    admission = Admission(max_wait=10.0)
    with admission.enter(4000.0, Rate(100_000.0), None):
        assert refused(admission, 1e9) is None, "what is before it takes 40 ms"


def test_what_has_been_done_already_is_not_waited_for() -> None:
    admission = Admission(max_wait=10.0)
    with admission.enter(4000.0, RATE, None) as ticket:
        assert refused(admission, 4000.0) is not None
        ticket.left = 500.0
        assert refused(admission, 4000.0) is None


def test_who_would_not_be_done_by_his_deadline_is_refused_before_any_work() -> None:
    admission = Admission(max_wait=1000.0)
    with admission.enter(2000.0, RATE, None):
        assert refused(admission, 2000.0, deadline=monotonic() + 60) is None
        error = refused(admission, 2000.0, deadline=monotonic() + 30)
        assert error is not None
        assert error.retry_after == pytest.approx(10.0, abs=0.5)
        hopeless = refused(admission, 2000.0, deadline=monotonic() + 1)
        assert hopeless is not None
        assert hopeless.retry_after == pytest.approx(20.0, abs=0.5)


def test_there_is_a_bound_on_requests_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admissions, "MAX_REQUESTS", 3)
    admission = Admission(max_wait=10.0)
    with ExitStack() as entered:
        for _ in range(3):
            entered.enter_context(admission.enter(0.0, RATE, None))
        assert refused(admission, 0.0) is not None
    assert refused(admission, 0.0) is None


def test_a_ticket_is_given_back_however_its_block_is_left() -> None:
    admission = Admission(max_wait=10.0)

    def enters(error: type[BaseException]) -> None:
        with admission.enter(10.0, RATE, None):
            assert len(admission) == 1
            raise error("x")

    for error in (ValueError, KeyboardInterrupt, Overloaded):
        with pytest.raises(error):
            enters(error)
        assert len(admission) == 0
    with admission.enter(1e6, RATE, None):
        assert refused(admission, 1e6) is not None
        assert len(admission) == 1, "who was refused left nothing behind"
    assert len(admission) == 0


def test_any_thread_may_enter() -> None:
    admission = Admission(max_wait=1e9)
    failures: list[BaseException] = []

    def enters() -> None:
        try:
            for _ in range(2000):
                with admission.enter(1.0, RATE, None):
                    pass
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=enters) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(admission) == 0


def test_a_rate_follows_what_is_measured_by_and_by() -> None:
    rate = Rate(100.0)
    rate.observe(200.0, 1.0, full=True)
    assert rate.per_second == pytest.approx(120.0)
    for _ in range(100):
        rate.observe(200.0, 1.0, full=True)
    assert rate.per_second == pytest.approx(200.0)


def test_small_batches_can_raise_a_rate_and_not_lower_it() -> None:
    rate = Rate(100.0)
    rate.observe(10.0, 1.0, full=False)
    assert rate.per_second == 100.0
    rate.observe(200.0, 1.0, full=False)
    assert rate.per_second > 100.0


@pytest.mark.parametrize(("cost", "seconds"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_measurement_of_nothing_says_nothing(cost: float, seconds: float) -> None:
    rate = Rate(100.0)
    rate.observe(cost, seconds, full=True)
    assert rate.per_second == 100.0


def test_what_is_left_of_a_ticket_in_seconds() -> None:
    assert Ticket(Rate(50.0), 100.0).seconds == 2.0


def test_a_cost_is_estimated_from_bytes_with_the_query_once_a_document() -> None:
    asked = request("q" * 40, "d" * 400, "d" * 4000)
    assert estimated_cost(asked, 8192) == pytest.approx(11 + 101 + 11 + 1001)
    assert estimated_cost(asked, 512) == pytest.approx(11 + 101 + 512)


def test_a_model_without_a_limit_reads_the_query_once() -> None:
    assert estimated_cost(request("q" * 40, "d" * 400, "d" * 4000), None) == pytest.approx(11 + 101 + 1001)


def test_a_document_that_is_read_in_windows_counts_whole() -> None:
    assert estimated_cost(request("q" * 40, "d" * 40_000, chunks=99), 512) == pytest.approx(11 + 10_001)


def test_other_scripts_have_more_tokens_a_character() -> None:
    ascii_cost, chinese_cost = (estimated_cost(request("q", text * 400), 8192) for text in ("d", "字"))
    assert chinese_cost == pytest.approx(3 * ascii_cost, rel=0.05)


def test_halves_of_surrogate_pairs_are_no_error_here() -> None:
    assert estimated_cost(request("q", "\ud800" * 40), 8192) > 0
