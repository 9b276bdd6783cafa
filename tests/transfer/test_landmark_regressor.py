"""The regressor against the plain oracle, its gradients, and what a frozen backbone keeps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.oracles import landmarks as oracle

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.landmark_regressor import (
    LandmarkModel,
    Regressor,
    RegressorConfig,
    centres,
    resized,
    soft_argmax,
)
from whytransfer.transfer.parts.landmark_views import FaceBatch

CONTEXT = Context(step=0, seed=0, gather=lambda tensor: tensor)


def values(seed, *shape):
    drawn = Stream(seed, "values").uniform(int(np.prod(shape)), -1, 1)
    return torch.from_numpy(drawn.reshape(shape))


def network(**fields):
    return build(Architecture(name="resnet10", width=8, **fields), Stream(0, "b"))


def model(frozen=True, **fields):
    config = RegressorConfig(**{"virtual_points": 3, "map_px": 12, "init_std": 0.1} | fields)
    with seeded_torch(Stream(0, "regressor")):
        return LandmarkModel(network(), 5, config, frozen)


def batch(count=2, size=48):
    images = Stream(0, "images").integers(count * size * size * 3, 256)
    images = torch.from_numpy(images.reshape(count, size, size, 3).astype(np.uint8))
    return FaceBatch(images, values(1, count, 5, 2).float(), torch.arange(count))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000), sides=st.lists(st.integers(2, 7), min_size=1, max_size=3),
    side=st.integers(2, 8), temperature=st.floats(0.1, 100),
)  # fmt: skip
def test_equals_the_oracle(seed, sides, side, temperature):
    """One level or a hypercolumn; the oracle resizes and stacks the levels before it scores."""
    config = RegressorConfig(
        levels=("stem", "layer1", "layer2")[: len(sides)], map_px=side, virtual_points=2,
        temperature=temperature,
    )  # fmt: skip
    channels = [2 + number for number in range(len(sides))]
    regressor = Regressor(channels, 3, config).double()
    maps = [values(seed + c, 2, c, s, s + 1) for c, s in zip(channels, sides, strict=True)]
    with torch.no_grad():
        for number, layer in enumerate(regressor.scores):
            layer.weight.copy_(values(seed + number, *layer.weight.shape))
        found = regressor(maps)
    stacked = torch.cat([layer.weight[..., 0, 0] for layer in regressor.scores], dim=1)
    scores = stacked.detach().unflatten(0, (3, 2)).numpy()
    for image in range(2):
        features = oracle.hypercolumn([level[image].numpy() for level in maps], side)
        expected = oracle.landmarks(
            features, scores, regressor.linear.detach().numpy(), config.temperature
        )
        np.testing.assert_allclose(found[image], expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), before=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    after=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)  # fmt: skip
def test_resizing_is_torchs(seed, before, after):
    maps = values(seed, 2, 3, *before)
    expected = F.interpolate(maps, size=after, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized(maps, after), expected.transpose(2, 3))


def test_soft_argmax_by_hand():
    """Two places with the same score, then one that is far above all others."""
    score = torch.full((1, 2, 4, 4), -1e3)
    score[0, 0, 0, 1] = score[0, 0, 2, 1] = 0.0
    score[0, 1, 3, 0] = 7.0
    assert soft_argmax(score, 100.0).tolist() == [[[-0.25, -0.25], [-0.75, 0.75]]]
    flat = soft_argmax(torch.zeros(1, 1, 5, 3), 100.0)
    torch.testing.assert_close(flat, torch.zeros(1, 1, 2))
    assert centres(2, score).tolist() == [-0.5, 0.5]


def test_the_loss_is_the_oracles():
    learner = model()
    found = learner(batch().inputs).detach().numpy()
    loss = learner.loss(batch(), CONTEXT)
    expected = oracle.smooth_l1(found, batch().points.numpy(), 10.0)
    assert loss["loss"].item() == pytest.approx(expected, rel=1e-5)
    apart = np.linalg.norm(found - batch().points.numpy(), axis=2).mean() / 2
    assert loss["distance"].item() == pytest.approx(apart, rel=1e-5)


def test_the_start_is_the_references():
    """N(0, 1) scores without bias, and torch's own start of a linear map of 2V numbers."""
    with seeded_torch(Stream(0, "start")):
        regressor = Regressor([64, 128], 5, RegressorConfig(levels=("layer1", "layer2")))
    weights = torch.cat([layer.weight.flatten() for layer in regressor.scores])
    assert len(weights) == 5 * 50 * 192 and all(layer.bias is None for layer in regressor.scores)
    assert weights.mean().abs() < 0.02 and abs(weights.std() - 1) < 0.02
    assert regressor.linear.shape == (5, 2, 50, 2)
    assert 0.099 < regressor.linear.abs().max() <= 0.1


@pytest.mark.parametrize("levels", [("layer2",), ("layer4", "layer1"), ("stem", "layer3")])
def test_levels_are_the_backbones_in_its_own_order(levels):
    learner = model(levels=levels, map_px=None)
    images = batch().inputs
    wanted = [lv.name for lv in learner.backbone.levels if lv.name in levels]
    normalised = learner.backbone.preprocessing.normalise(images)
    with torch.no_grad():
        expected = [learner.backbone.features(normalised, upto=name) for name in wanted]
        for found, level in zip(learner.maps(images), expected, strict=True):
            assert torch.equal(found, level)
        assert torch.equal(learner(images), learner(learner.maps(images)))


def test_a_frozen_backbone_gets_no_gradient_and_stays_in_evaluation_mode():
    learner = model().train()
    assert not any(module.training for module in learner.backbone.modules())
    before = {name: value.clone() for name, value in learner.backbone.state_dict().items()}
    learner.loss(batch(), CONTEXT)["loss"].backward()
    assert all(p.grad is None for p in learner.backbone.parameters())
    assert all(p.grad is not None for p in learner.regressor.parameters())
    after = learner.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_fine_tuned_backbone_gets_gradients_in_every_layer():
    learner = model(frozen=False)
    assert all(module.training for module in learner.modules())
    learner.loss(batch(), CONTEXT)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learner.parameters())


def test_a_level_that_the_backbone_lacks_is_refused():
    with pytest.raises(InputError, match=r"regressor.levels: .*'layer5'.*stem, .*layer4.*did you"):
        model(levels=("layer1", "layer5"))


@pytest.mark.parametrize("levels", [(), ("layer1", "layer1")])
def test_levels_that_make_no_sense_are_refused(levels):
    with pytest.raises(ValidationError, match="each once"):
        RegressorConfig(levels=levels)
