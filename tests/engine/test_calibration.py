from __future__ import annotations

import pytest

from rerankd.engine import calibration
from rerankd.engine.calibration import calibrate
from tests.engine import fake_models
from tests.engine.fake_models import Echo


class Timed(Echo):
    """Takes `overhead` seconds a batch and so many for each token, by a clock of its own."""

    def __init__(self, overhead: float, a_token: float, most_tokens: int = 10**9) -> None:
        super().__init__(batch_tokens=1)
        self.now = 0.0
        self._overhead = overhead
        self._a_token = a_token
        self._most_tokens = most_tokens

    def step(self, batch: fake_models.Batch) -> None:
        tokens = sum(map(len, batch))
        if tokens > self._most_tokens:
            raise RuntimeError("CUDA out of memory.")
        self.now += self._overhead + tokens * self._a_token

    @property
    def sizes(self) -> set[int]:
        return {sum(map(len, batch)) for batch in self.batches}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Timed:
    runner = Timed(*request.param)
    monkeypatch.setattr(calibration, "perf_counter", lambda: runner.now)
    return runner


def in_turn(*timings: tuple[float, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("timed", timings, indirect=True)


@in_turn((0.0, 1e-5))
def test_the_least_size_is_taken_where_all_are_equally_fast(timed: Timed) -> None:
    rate = calibrate(timed)
    assert timed.batch_tokens == 1024
    assert rate.per_second == pytest.approx(1e5 * (1 + 150 / 6144))


@in_turn((0.001, 1e-5))
def test_a_larger_size_is_taken_where_it_is_faster_by_more_than_a_twentieth(timed: Timed) -> None:
    calibrate(timed)
    assert timed.batch_tokens == 2048


@in_turn((0.1, 1e-6))
def test_a_gpu_is_asked_for_larger_ones(timed: Timed) -> None:
    calibrate(timed, on_cuda=True)
    assert timed.batch_tokens == 32768


@in_turn((0.1, 1e-6, 5000))
def test_a_size_that_finds_no_memory_is_the_end_of_the_search(timed: Timed) -> None:
    calibrate(timed, on_cuda=True)
    assert timed.batch_tokens == 4096
    assert max(timed.sizes) == 8100


@in_turn((0.1, 1e-6, 500))
def test_a_model_that_finds_no_memory_at_all_says_so(timed: Timed) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        calibrate(timed)


@in_turn((0.1, 1e-2))
def test_a_slow_machine_is_not_measured_for_longer_than_it_takes(timed: Timed) -> None:
    calibrate(timed)
    assert timed.batch_tokens == 1024
    assert timed.sizes == {150, 900}


@in_turn((0.1, 1e-6))
def test_a_size_that_was_asked_for_is_measured_alone(timed: Timed) -> None:
    calibrate(timed, batch_tokens=256)
    assert timed.batch_tokens == 256
    assert timed.sizes == {150}


@in_turn((0.1, 1e-6))
def test_no_sequence_is_longer_than_the_model_takes(timed: Timed) -> None:
    calibrate(timed, max_length=50)
    assert {len(ids) for batch in timed.batches for ids in batch} == {50}
    assert max(timed.sizes) == 8150
