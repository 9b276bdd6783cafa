"""The heads of few-shot episodes: against slow oracles, scikit-learn, torch's SGD and easyfsl."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from tests.oracles import few_shot as oracle
from tests.transfer.episode_features import drawn

from whytransfer.core.errors import InputError
from whytransfer.ops.logistic_regression import fit_each, spanned
from whytransfer.transfer.parts.episode_heads import (
    FineTuned,
    Layers,
    Logistic,
    batch_orders,
    centroid_guesses,
    fine_tuned_guesses,
    first_layers,
    logistic_guesses,
    train_layers,
)

CONSTANTS = Path(__file__).parents[1] / "oracles/easyfsl_constants.json"


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (3, 2), (2, 4)])
def test_the_centroid_head_is_the_oracle(ways, shots):
    support, queries = drawn(20, ways, shots, 4, 6)
    found = centroid_guesses(support, queries)
    expected = [
        [oracle.centroid(learned, query) for query in asked]
        for learned, asked in zip(support.tolist(), queries.tolist(), strict=True)
    ]
    assert found.tolist() == expected
    assert 0.2 < np.mean(found.numpy() == np.repeat(np.arange(ways), 4)) < 1


def test_the_mean_is_taken_before_the_length():
    """Of a long and a short support feature, the long one decides."""
    support = torch.tensor([[[[10.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.6, 0.8]]]])
    assert centroid_guesses(support, torch.tensor([[[1.0, 0.2]]])).item() == 0
    assert centroid_guesses(support, torch.tensor([[[1.0, 0.9]]])).item() == 1


def test_equal_cosines_go_to_the_first_class():
    support = torch.ones(1, 3, 2, 4)
    assert centroid_guesses(support, torch.ones(1, 5, 4)).tolist() == [[0] * 5]


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_one_shot_of_length_one_is_scikit_learns_nearest_centroid():
    """On features of length 1 and one shot, the largest cosine is the smallest distance."""
    support, queries = (torch.nn.functional.normalize(x, dim=-1) for x in drawn(30, 5, 1, 6, 8))
    found = centroid_guesses(support, queries)
    for learned, asked, guesses in zip(support, queries, found, strict=True):
        peer = NearestCentroid().fit(learned.flatten(0, 1).numpy(), range(5))
        assert peer.predict(asked.numpy()).tolist() == guesses.tolist()


def test_several_shots_are_its_nearest_centroid_with_centroids_of_length_one():
    support, queries = (torch.nn.functional.normalize(x, dim=-1) for x in drawn(30, 5, 5, 6, 8))
    found = centroid_guesses(support, queries)
    for learned, asked, guesses in zip(support, queries, found, strict=True):
        peer = NearestCentroid().fit(learned.flatten(0, 1).numpy(), np.repeat(range(5), 5))
        peer.centroids_ /= np.linalg.norm(peer.centroids_, axis=1, keepdims=True)
        assert peer.predict(asked.numpy()).tolist() == guesses.tolist()


@pytest.mark.parametrize(("shots", "values", "c"), [(1, 40, 1.0), (5, 40, 1.0), (5, 9, 10.0)])
def test_the_logistic_head_is_at_the_optimum_and_equals_scikit_learn(shots, values, c):
    support, queries = drawn(8, 5, shots, 6, values)
    units, asked = (torch.nn.functional.normalize(x.double(), dim=-1) for x in (support, queries))
    labels = torch.arange(5).repeat_interleave(shots).expand(8, -1)
    weight, bias = fit_each(units.flatten(1, 2), labels, 5, c, 1e-9, 500)
    guesses = logistic_guesses(support, queries, Logistic(c=c))
    for number in range(8):
        given = support[number].tolist()
        by_weight, by_bias = oracle.logistic_gradient(
            weight[number].tolist(), bias[number].tolist(), given, c
        )
        assert np.abs(by_weight).max() < 1e-6 and np.abs(by_bias).max() < 1e-6
        peer = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
        peer.fit(units[number].flatten(0, 1).numpy(), labels[number].numpy())
        shift = bias[number].numpy() - peer.intercept_
        np.testing.assert_allclose(weight[number].numpy(), peer.coef_, atol=2e-5)
        np.testing.assert_allclose(shift, shift.mean(), atol=2e-5)
        assert peer.predict(asked[number].numpy()).tolist() == guesses[number].tolist()


def test_what_the_support_does_not_span_changes_no_prediction():
    support, queries = drawn(3, 4, 2, 5, 30)
    learned, asked = support.flatten(1, 2).double(), queries.double()
    small, seen = spanned(learned, asked)
    assert small.shape == (3, 8, 8) and seen.shape == (3, 20, 8)
    labels = torch.arange(4).repeat_interleave(2).expand(3, -1)
    weight, bias = fit_each(learned, labels, 4, 1.0, 1e-10, 500)
    weight_small, bias_small = fit_each(small, labels, 4, 1.0, 1e-10, 500)
    torch.testing.assert_close(
        asked @ weight.mT + bias[:, None], seen @ weight_small.mT + bias_small[:, None]
    )


def test_problems_do_not_feel_each_other():
    support, _ = drawn(6, 5, 5, 4, 30)
    hard = support.clone()
    hard[1:] *= 1000  # solved in other numbers of steps
    units = hard.flatten(1, 2).double()
    labels = torch.arange(5).repeat_interleave(5).expand(6, -1)
    together = fit_each(units, labels, 5, 1.0, 1e-6, 5000)[0][0]
    alone = fit_each(units[:1], labels[:1], 5, 1.0, 1e-6, 5000)[0][0]
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_an_optimum_that_is_not_reached_is_an_error():
    support, queries = drawn(2, 5, 5, 2, 10)
    with pytest.raises(InputError, match=r"logistic\.max_steps: 2 steps do not reach.*raise it"):
        logistic_guesses(support, queries, Logistic(max_steps=2))


@pytest.mark.parametrize("shots", [1, 5])
def test_the_fine_tuned_head_is_the_oracle(shots):
    config = FineTuned(epochs=7, lr=0.3)
    support, queries = drawn(3, 5, shots, 2, 4)
    numbers = [0, 4, 9]
    start = first_layers(3, numbers, 5, 4)
    orders = batch_orders(3, numbers, 5 * shots, config.epochs)
    wide = Layers(start.weight.double(), start.bias.double())
    layers = train_layers(support.double(), config, wide, orders)
    guesses = fine_tuned_guesses(support, queries, config, 3, numbers)
    for row in range(3):
        weights, biases = oracle.fine_tuned(
            support[row].double().tolist(), wide.weight[row].tolist(), wide.bias[row].tolist(),
            orders[row].tolist(), config.model_dump(),
        )  # fmt: skip
        np.testing.assert_allclose(layers.weight[row], weights, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(layers.bias[row], biases, rtol=1e-10, atol=1e-12)
        expected = [
            oracle.first_largest(oracle.logits(weights, biases, query))
            for query in queries[row].double().tolist()
        ]
        assert guesses[row].tolist() == expected


def test_the_fine_tuned_head_is_torchs_own_sgd():
    config = FineTuned(epochs=4)
    support, _ = drawn(2, 5, 5, 2, 6)
    start, orders = first_layers(0, [0, 1], 5, 6), batch_orders(0, [0, 1], 25, 4)
    found = train_layers(support, config, start, orders)
    labels = torch.arange(5).repeat_interleave(5)
    for row in range(2):
        layer = torch.nn.Linear(6, 5)
        layer.load_state_dict({"weight": start.weight[row], "bias": start.bias[row]})
        sgd = torch.optim.SGD(
            layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001
        )
        for order in orders[row]:
            for places in order.split(4):
                sgd.zero_grad()
                logits = layer(support[row].flatten(0, 1)[places])
                torch.nn.functional.cross_entropy(logits, labels[places]).backward()
                sgd.step()
        torch.testing.assert_close(found.weight[row], layer.weight.detach(), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found.bias[row], layer.bias.detach(), rtol=1e-5, atol=1e-7)


def test_layers_and_orders_are_functions_of_seed_and_episode():
    both, one = first_layers(0, [3, 8], 5, 16), first_layers(0, [8], 5, 16)
    assert torch.equal(both.weight[1], one.weight[0]) and torch.equal(both.bias[1], one.bias[0])
    assert both.weight.abs().max() <= 0.25 and both.weight.std() > 0.1
    assert not torch.equal(first_layers(1, [8], 5, 16).weight, one.weight)
    orders = batch_orders(0, [3, 8], 10, 6)
    assert torch.equal(orders[1], batch_orders(0, [8], 10, 6)[0])
    assert orders.sort(dim=2).values.eq(torch.arange(10)).all()
    assert len({tuple(order) for order in orders.flatten(0, 1).tolist()}) > 10


@pytest.mark.parametrize(
    "case", json.loads(CONSTANTS.read_text())["cases"], ids=lambda c: c["name"]
)
def test_the_released_package_guesses_the_same(case):
    """Its PrototypicalNetworks take distances, so they are asked where these rank as cosines do."""
    given = {key: case[key] for key in ("episodes", "ways", "shots", "queries", "values")}
    support, queries = drawn(**given)
    if case["unit_length"]:
        support, queries = (torch.nn.functional.normalize(x, dim=-1) for x in (support, queries))
    assert centroid_guesses(support, queries).tolist() == case["guesses"]
    assert len(set(map(tuple, case["guesses"]))) > 1
