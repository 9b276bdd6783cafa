"""The moving average of the weights against its closed form, and what a resumed run takes up."""

import signal

import numpy as np
import pytest
import torch
from tests.train.small_learner import STEPS, TRAINING, SmallLearner, batches, run_in
from torch import nn

from whytransfer.train.checkpoint import Checkpoints
from whytransfer.train.loop import Interrupted, fit
from whytransfer.train.weight_average import WeightAverage

DECAY = 0.7
AVERAGED = TRAINING.model_copy(update={"ema_decay": DECAY})


class Watched(SmallLearner):
    """Keeps its weights before the first step and after each."""

    def __init__(self, *args):
        super().__init__(*args)
        self.history = [self.weights()]

    def weights(self):
        return {name: p.detach().clone() for name, p in self.named_parameters()}

    def after_step(self):
        super().after_step()
        self.history.append(self.weights())


def closed_form(history, decay):
    """d^T w_0 + (1 - d) Σ d^(T - t) w_t, in float64."""
    last = len(history) - 1
    average = decay**last * history[0].double().numpy()
    for step in range(1, last + 1):
        average = average + (1 - decay) * decay ** (last - step) * history[step].double().numpy()
    return average


def test_what_is_evaluated_is_the_closed_form(tmp_path):
    model = Watched()
    fit(model, batches, AVERAGED, run_in(tmp_path))
    assert len(model.history) == STEPS + 1
    moved = 0.0
    for name, value in model.named_parameters():
        if not value.requires_grad:  # moves by a rule of the learner's own
            continue
        expected = closed_form([weights[name] for weights in model.history], DECAY)
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
        moved = max(moved, float((value.detach() - model.history[-1][name]).abs().max()))
    assert moved > 1e-3  # the last weights are others


def test_training_itself_is_as_without(tmp_path):
    averaged, plain = Watched(), Watched()
    fit(averaged, batches, AVERAGED, run_in(tmp_path / "averaged"))
    fit(plain, batches, TRAINING, run_in(tmp_path / "plain"))
    for one, other in zip(averaged.history, plain.history, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    for (name, one), other in zip(averaged.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("step", [0, 4, 10])
def test_a_resumed_run_has_the_same_average(tmp_path, step):
    def ask(context):
        if context.step == step:
            signal.raise_signal(signal.SIGTERM)

    whole, again = SmallLearner(), SmallLearner()
    fit(whole, batches, AVERAGED, run_in(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        fit(SmallLearner(ask), batches, AVERAGED, run_in(tmp_path / "again"))
    fit(again, batches, AVERAGED, run_in(tmp_path / "again"))
    for (name, one), other in zip(
        whole.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    states = [Checkpoints(tmp_path / n / "checkpoints").newest().state for n in ("whole", "again")]
    for one, other in zip(*(state["average"] for state in states), strict=True):
        assert torch.equal(one, other)


def test_frozen_weights_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).requires_grad_(True)
    model[0].requires_grad_(False)
    average = WeightAverage(model, 0.5)
    assert [tuple(tensor.shape) for tensor in average.state()] == [(1, 2), (1,)]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        WeightAverage(model, 0.5, [torch.zeros(1, 2)])
