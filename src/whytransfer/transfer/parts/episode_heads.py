"""What learns an episode's classes from its support and names its queries: many episodes at once.

    centroid     a query is of the class whose mean support feature it has the largest cosine with
    logistic     regression on features of length 1, as scikit-learn's LogisticRegression
    fine_tuned   a linear layer trained on the support by SGD

Each is a function of the features alone (``fine_tuned`` of the seed and the episode's number, too),
whichever other episodes are computed with it.

Letters: E episodes, W ways, K shots, M queries, D values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.config import assumed
from whytransfer.core.streams import Stream
from whytransfer.ops.logistic_regression import fit_each, spanned


class Logistic(BaseConfig):
    """Settings of the logistic head.

    Attributes:
        c: Inverse strength of the penalty on the weights.
        tolerance: See :func:`whytransfer.ops.logistic_regression.fit_each`.
        max_steps: L-BFGS steps at most; more is an error, never a worse answer.
    """

    c: PositiveFloat = assumed(1.0, "scikit-learn's default; no source of the paper names one")
    tolerance: PositiveFloat = 1e-6
    max_steps: PositiveInt = 1000


class FineTuned(BaseConfig):
    """Settings of the fine-tuned head.

    Attributes:
        lr: Learning rate, constant.
        momentum: Of the velocity.
        dampening: Of what a gradient adds to it, from the second step on.
        weight_decay: Added to the gradient as ``weight_decay * weight``, bias included.
        batch_size: Support images per step; the last batch of an epoch holds what is left.
        epochs: Passes over the support, each in an order of its own.

    Source: CloserLookFewShot, methods/baselinefinetune.py.
    """

    lr: PositiveFloat = 0.01
    momentum: float = Field(0.9, ge=0, lt=1)
    dampening: float = Field(0.9, ge=0, le=1)
    weight_decay: float = Field(0.001, ge=0)
    batch_size: PositiveInt = 4
    epochs: PositiveInt = 100


@dataclass(frozen=True)
class Layers:
    """A linear layer for each episode.

    Attributes:
        weight: (E, W, D).
        bias: (E, W).
    """

    weight: Tensor
    bias: Tensor


def centroid_guesses(support: Tensor, queries: Tensor) -> Tensor:
    """Names the queries (E, M): the class whose centroid has the largest cosine with a query.

    A centroid is the mean of the features as they are, scaled to length 1 afterwards. A query's own
    length scales all its cosines alike, so it is left as it is. Of equal cosines the first wins.

    Args:
        support: (E, W, K, D).
        queries: (E, M, D).

    Source: yinboc/few-shot-meta-baseline, test_few_shot.py and models/meta_baseline.py.
    """
    centroids = F.normalize(support.mean(dim=2), dim=2)
    return torch.bmm(queries, centroids.mT).argmax(dim=2)


def logistic_guesses(support: Tensor, queries: Tensor, config: Logistic) -> Tensor:
    """Names the queries (E, M) by logistic regression on features scaled to length 1.

    Args:
        support: (E, W, K, D).
        queries: (E, M, D).
        config: Penalty and accuracy of the solution.

    Raises:
        InputError: An optimum was not reached.
    """
    episodes, ways, shots, _ = support.shape
    learned, asked = (F.normalize(x.double(), dim=-1) for x in (support.flatten(1, 2), queries))
    learned, asked = spanned(learned, asked)
    labels = _labels(support).expand(episodes, ways * shots)
    weight, bias = fit_each(learned, labels, ways, config.c, config.tolerance, config.max_steps)
    return (asked @ weight.mT + bias[:, None]).argmax(dim=2)


def fine_tuned_guesses(
    support: Tensor, queries: Tensor, config: FineTuned, seed: int, numbers: Sequence[int]
) -> Tensor:
    """Names the queries (E, M) by a linear layer that was trained on the support.

    Args:
        support: (E, W, K, D).
        queries: (E, M, D).
        config: How it is trained.
        seed: Of first weights and orders.
        numbers: (E,) of the episodes, which the streams are named by.
    """
    _, ways, shots, num_values = support.shape
    start = first_layers(seed, numbers, ways, num_values)
    orders = batch_orders(seed, numbers, ways * shots, config.epochs)
    device = support.device
    start = Layers(start.weight.to(device), start.bias.to(device))
    layers = train_layers(support, config, start, orders.to(device))
    return (queries @ layers.weight.mT + layers.bias[:, None]).argmax(dim=2)


def first_layers(seed: int, numbers: Sequence[int], ways: int, num_values: int) -> Layers:
    """Draws every episode's layer, float32: uniform within 1/√D either way, as torch's Linear."""
    reach = 1.0 / math.sqrt(num_values)
    count = ways * (num_values + 1)
    drawn = [Stream(seed, "few_shot/layer", n).uniform(count, -reach, reach) for n in numbers]
    values = torch.from_numpy(np.stack(drawn).astype(np.float32))
    weight, bias = values[:, : ways * num_values], values[:, ways * num_values :]
    return Layers(weight.reshape(-1, ways, num_values), bias)


def batch_orders(seed: int, numbers: Sequence[int], num_examples: int, epochs: int) -> Tensor:
    """Draws the order of the support in every epoch of every episode: (E, epochs, N) int64."""
    drawn = [Stream(seed, "few_shot/order", n).raw(epochs * num_examples) for n in numbers]
    words = np.stack(drawn).reshape(len(drawn), epochs, num_examples)
    return torch.from_numpy(np.argsort(words, axis=2, kind="stable"))


def train_layers(support: Tensor, config: FineTuned, start: Layers, orders: Tensor) -> Layers:
    """Trains the layer of every episode on its support, all in step.

    Args:
        support: (E, W, K, D).
        config: Optimiser and duration.
        start: The layers before the first step; left as they are.
        orders: (E, epochs, W·K) the support's order in every epoch.
    """
    inputs, labels = support.flatten(1, 2), _labels(support)
    # The bias is the weight of a further value that is always 1: one update serves both.
    inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=2)
    weight = torch.cat([start.weight, start.bias[..., None]], dim=2)
    velocity: Tensor | None = None
    rows = torch.arange(len(inputs), device=inputs.device)[:, None]
    for epoch in range(orders.shape[1]):
        for places in torch.split(orders[:, epoch], config.batch_size, dim=1):
            batch = inputs[rows, places]
            chance = (batch @ weight.mT).softmax(dim=2)
            error = (chance - F.one_hot(labels[places], chance.shape[2])) / places.shape[1]
            gradient = torch.baddbmm(weight, error.mT, batch, beta=config.weight_decay)
            if velocity is None:
                velocity = gradient
            else:
                kept = config.momentum * velocity
                velocity = kept + (1 - config.dampening) * gradient
            weight = weight - config.lr * velocity
    return Layers(weight[..., :-1], weight[..., -1])


def _labels(support: Tensor) -> Tensor:
    """Returns the place of each support image's class in its episode, (W·K,)."""
    _, ways, shots, _ = support.shape
    return torch.arange(ways, device=support.device).repeat_interleave(shots)
