"""Logistic regression by L-BFGS against scikit-learn's and a slow loss."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.oracles import readout as oracle

from whytransfer.core.streams import Stream
from whytransfer.ops import logistic_regression
from whytransfer.ops.logistic_regression import fit_logistic


def problem(num_images=240, size=12, num_classes=5):
    centres = Stream(0, "centres").uniform(num_classes * size, -1, 1).reshape(num_classes, size)
    labels = Stream(0, "labels").integers(num_images, num_classes)
    noise = Stream(0, "noise").uniform(num_images * size, -2, 2).reshape(num_images, size)
    return 0.5 + centres[labels] + noise, labels


@pytest.mark.parametrize("inverse_penalty", [1e-4, 0.01, 1.0, 100.0])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
def test_it_is_scikit_learns(inverse_penalty, kind, tolerance):
    values, labels = problem()
    given = torch.from_numpy(values).to(kind)
    ours = fit_logistic(
        given, torch.from_numpy(labels), 5, inverse_penalty, tolerance=tolerance,
        max_iterations=20000,
    )  # fmt: skip
    peer = LogisticRegression(C=inverse_penalty, tol=1e-9, max_iter=20000).fit(values, labels)
    theirs = oracle.logistic_loss(values, labels, peer.coef_, peer.intercept_, inverse_penalty)
    weight, bias = ours.weight.double().numpy(), ours.bias.double().numpy()
    here = oracle.logistic_loss(values, labels, weight, bias, inverse_penalty)
    assert here == pytest.approx(theirs, abs=1e-4)
    assert ours.loss == pytest.approx(here, abs=1e-5)
    assert ours.converged
    assert ours.largest_gradient <= (2 * tolerance if kind == torch.float64 else 1e-2)
    best, second = ours.logits(given).topk(2).values.T
    clear = (best - second).numpy() > (0 if kind == torch.float64 else 0.01)
    assert clear.mean() > 0.85
    guesses = ours.logits(given).argmax(1).numpy()
    np.testing.assert_array_equal(guesses[clear], peer.predict(values)[clear])


def test_the_gradient_is_the_losss():
    values, labels = problem(30, 3, 4)
    made = logistic_regression._Problem(
        torch.from_numpy(values), torch.from_numpy(labels), 4, inverse_penalty=0.3
    )
    flat = torch.from_numpy(Stream(1, "flat").uniform(16, -1, 1))
    loss, gradient = made.loss_and_gradient(flat)
    weight, bias = (part.numpy() for part in made.parts(flat))
    assert loss.item() == pytest.approx(
        oracle.logistic_loss(values, labels, weight, bias, 0.3), rel=1e-12
    )
    for place in range(16):
        step = torch.zeros_like(flat)
        step[place] = 1e-6
        up, down = (made.loss_and_gradient(flat + sign * step)[0] for sign in (1, -1))
        assert gradient[place].item() == pytest.approx((up - down).item() / 2e-6, abs=1e-7)


def test_blocks_and_starts_change_where_it_ends_by_little(monkeypatch):
    values, labels = (torch.from_numpy(array) for array in problem())
    whole = fit_logistic(values, labels, 5, 1.0)
    monkeypatch.setattr(logistic_regression, "_ROWS", 7)
    blocks = fit_logistic(values, labels, 5, 1.0)
    assert blocks.loss == pytest.approx(whole.loss, abs=1e-7)
    again = fit_logistic(values, labels, 5, 1.0, start=whole)
    assert again.evaluations <= 3
    assert again.loss == pytest.approx(whole.loss, abs=1e-7)


def test_it_says_where_it_was_cut_short():
    values, labels = (torch.from_numpy(array) for array in problem())
    found = fit_logistic(values, labels, 5, 100.0, max_iterations=2)
    assert not found.converged
    assert found.largest_gradient > 1e-5
    assert found.evaluations <= 8


def test_the_loss_of_float32_logits_is_summed_in_float64():
    """A float32 sum of so many rounds by more than a line search near the optimum looks for."""
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, 1 << 16, 3, generator=drawn)
    labels = torch.randint(4, inputs.shape[:2], generator=drawn)
    weights, intercepts = torch.randn(1, 4, 3, generator=drawn), torch.zeros(1, 4)
    loss, *_ = logistic_regression.cross_entropy(inputs, labels, weights, intercepts, 1 << 16)
    chances = (inputs @ weights.mT).log_softmax(dim=2).gather(2, labels[:, :, None])
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(-chances.double().mean().item(), rel=1e-9)
