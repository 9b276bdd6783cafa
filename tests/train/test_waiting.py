"""The loader's share of the time: measured after a warm-up, put into words once."""

import itertools
import re

import pytest
import torch
from tests.train.small_learner import TRAINING, SmallLearner, batches, run_in

from whytransfer.core.processes import Processes
from whytransfer.core.stage import Execution
from whytransfer.train import loop, waiting
from whytransfer.train.loop import fit
from whytransfer.train.waiting import WARM_UP_STEPS, Waiting, advice


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"waited": 2.3, "measured": 5.1, "workers": 0, "cores": 2},
            "2.3 s of 5.1 s were spent in waiting for images, without which training would be 1.8 "
            "times as fast; raise --workers from 0 to 1",
        ),
        ({"waited": 4.0, "measured": 5.0, "workers": 0, "cores": 2}, "5.0 times.* from 0 to 2"),
        # One worker that reads for all 5 s of which 2 are work: three would keep up.
        ({"waited": 3.0, "measured": 5.0, "workers": 1, "cores": 8}, "2.5 times.* from 1 to 3"),
        (
            {"waited": 3.0, "measured": 5.0, "workers": 2, "cores": 2},
            r"times as fast; store the images smaller, since all 2 cores are in use$",
        ),
        ({"waited": 5.0, "measured": 5.0, "workers": 0, "cores": 4}, "over 100 times"),
    ],
)
def test_it_says_by_what_factor_and_what_to_change(numbers, words):
    text = advice(**numbers, to_device=False)
    assert text.startswith("the loader is the bottleneck: ") and "\n" not in text
    assert re.search(words, text), text
    assert "applier=device" not in text


def test_the_device_applier_is_named_where_the_cpu_does_what_a_gpu_could():
    text = advice(3.0, 5.0, workers=8, cores=8, to_device=True)
    assert "; set applier=device, which" in text and "raise" not in text
    assert text.endswith(", or store the images smaller, since all 8 cores are in use")
    text = advice(3.0, 5.0, workers=2, cores=8, to_device=True)
    assert "; raise --workers from 2 to 5, or set applier=device" in text
    assert "smaller" not in text


@pytest.mark.parametrize(("cpu_photometry", "gpu"), [*itertools.product([False, True], repeat=2)])
def test_the_loop_passes_on_what_is_true(tmp_path, monkeypatch, cpu_photometry, gpu):
    """With more processes than cores on this machine there is still one core for each."""
    asked = []
    monkeypatch.setattr(Waiting, "finding", lambda self, *given: asked.append(given))
    monkeypatch.setattr(loop, "num_cores", lambda: 1)
    monkeypatch.setattr(loop, "launch", lambda *_: _Fabric(gpu))
    monkeypatch.setattr(loop, "place", lambda batch, device, channels_last: batch)
    execution = Execution(progress=False, workers=3)
    processes = Processes(local_size=2)
    fit(
        SmallLearner(),
        batches,
        TRAINING,
        run_in(
            tmp_path,
            execution=execution,
            processes=processes,
            cpu_photometry=cpu_photometry,
        ),
    )
    assert set(asked) == {(3, 1, cpu_photometry and gpu)}


class _Fabric:
    """Trains on the CPU and says that it is a GPU, where it is to."""

    def __init__(self, gpu):
        self.device = torch.device("cuda" if gpu else "cpu")

    def setup(self, *given):
        return given

    def backward(self, loss):
        loss.backward()


@pytest.mark.parametrize("waited", [0.0, 1.0])
def test_a_fifth_of_the_time_is_not_worth_a_word(waited):
    assert advice(waited, 5.0, workers=0, cores=2, to_device=False) is None


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def run(monkeypatch, wait, work, steps=60):
    """Runs steps of given seconds on a false clock; returns the measure and what was said."""
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)

    def batches():
        for step in range(steps):
            clock.now += wait if step >= WARM_UP_STEPS else 50.0
            yield step

    measure, said = Waiting(batches()), []
    for step in range(steps):
        assert next(measure) == step
        clock.now += work
        if found := measure.finding(workers=0, cores=2, to_device=False):
            said.append((step, found))
    return measure, said


def test_it_is_said_once_after_enough_steps_and_seconds(monkeypatch):
    measure, said = run(monkeypatch, wait=0.3, work=0.2)
    assert len(said) == 1
    # Steps 10 to 29 are the first twenty whole ones that follow the warm-up; 30 sees their end.
    assert said[0][0] == WARM_UP_STEPS + 20
    assert "6.0 s of 10.0 s" in said[0][1] and "2.5 times" in said[0][1]
    assert measure.share == pytest.approx(0.6)
    assert measure.steps == 49


def test_nothing_is_said_of_short_runs_or_fast_loaders(monkeypatch):
    assert run(monkeypatch, wait=0.3, work=0.2, steps=WARM_UP_STEPS + 20)[1] == []
    assert run(monkeypatch, wait=0.03, work=0.02)[1] == []
    measure, said = run(monkeypatch, wait=0.1, work=0.9)
    assert said == [] and measure.share == pytest.approx(0.1)


def test_the_end_of_the_batches_is_the_end():
    measure = Waiting(iter([1]))
    assert next(measure) == 1
    with pytest.raises(StopIteration):
        next(measure)
    assert measure.share == 0.0
