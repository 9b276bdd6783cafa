"""The detector as a whole: it learns, its groups and frozen levels hold, its draws are named."""

import numpy as np
import pytest
import torch

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.data.predictions import truth_of
from whytransfer.data.world import crowds
from whytransfer.ops.average_precision import average_precision, summary, voc_matches
from whytransfer.train.learner import Context
from whytransfer.train.norm import GroupedBatchNorm2d
from whytransfer.transfer.parts.c4 import C4Config, C4Detector
from whytransfer.transfer.parts.precise_norm import recompute_statistics
from whytransfer.transfer.parts.scenes import SceneViews, TestScenes, collate
from whytransfer.transfer.tasks.voc07_detection import columns

NUM_IMAGES = 4
SMALL = {
    "proposals": {
        "sizes_px": [16, 32], "sampled": 32, "candidates_train": 100, "candidates_test": 100,
        "proposals_train": 30, "proposals_test": 30,
    },
    "regions": {"sampled": 16, "pooled": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowds")
    config = crowds.Config(
        num_train=4, num_test=NUM_IMAGES, size_px=64, num_shared_shapes=2, num_new_shapes=1
    )
    crowds.write(root, config, 0)
    from whytransfer.data.formats import voc

    return voc.open(voc.Config(root=root, classes=crowds.classes(config)), "test")


@pytest.fixture(scope="module")
def batch(source):
    scenes = TestScenes(source, SceneViews(test_short_side_px=64))
    return collate([scenes(0, index) for index in range(NUM_IMAGES)])


def detector(num_classes=3, **changes):
    architecture = Architecture(name="resnet10", width=8, stem_pool=False)
    config = C4Config.model_validate({**SMALL, **changes})
    with seeded_torch(Stream(0, "detector")):
        return C4Detector(build(architecture, Stream(0, "b")), num_classes, config)


def context(step=0, seed=0):
    return Context(step=step, seed=seed, gather=lambda t: t)


def images_of(batch, *rows):
    """The batch of some of its images."""

    def pick(column):
        return tuple(column[row] for row in rows)

    return batch._replace(
        images=batch.images[list(rows)], sizes_px=pick(batch.sizes_px),
        boxes_xyxy=pick(batch.boxes_xyxy), labels=pick(batch.labels), indices=pick(batch.indices),
        originals=pick(batch.originals),
    )  # fmt: skip


def ap50(model, batch, source):
    model.eval()
    found = columns(model.detect(batch))
    model.train()
    matches = voc_matches(found, truth_of(source))
    return float(summary(average_precision(matches, metric="voc07"))["AP50"])


def test_it_learns_four_images(batch, source):
    model = detector()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    before = ap50(model, batch, source)
    losses = []
    for step in range(60):
        scalars = model.loss(batch, context(step))
        optimiser.zero_grad()
        scalars["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append({name: value.item() for name, value in scalars.items()})
    assert before < 20
    for name, start in losses[0].items():
        end = np.mean([row[name] for row in losses[-5:]])
        assert end < (0.8 if "boxes" in name else 0.6) * start, name
    recompute_statistics(model, range(5), lambda step: model.loss(batch, context(step)))
    assert ap50(model, batch, source) > 60


def test_every_loss_is_named_and_their_sum_is_the_loss(batch):
    scalars = detector().loss(batch, context())
    parts = ["loss_objectness", "loss_proposal_boxes", "loss_classes", "loss_boxes"]
    assert set(scalars) == {"loss", *parts}
    assert scalars["loss"].item() == pytest.approx(sum(scalars[p].item() for p in parts))
    # Untrained, every class is equally likely, and every anchor is as likely an object as not.
    assert scalars["loss_classes"].item() == pytest.approx(np.log(4), rel=0.05)
    assert scalars["loss_objectness"].item() == pytest.approx(np.log(2), rel=0.05)


def test_every_parameter_gets_a_gradient(batch):
    model = detector()
    model.loss(batch, context())["loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_draws_are_a_function_of_seed_and_step(batch):
    with torch.no_grad():
        first, again = (detector().loss(batch, context(3))["loss"].item() for _ in range(2))
        other_step = detector().loss(batch, context(4))["loss"].item()
        other_seed = detector().loss(batch, context(3, seed=1))["loss"].item()
    assert first == again
    assert len({first, other_step, other_seed}) == 3


def test_nothing_draws_from_the_global_generator(batch):
    model = detector()
    state = torch.get_rng_state()
    model.loss(batch, context())["loss"].backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_groups_of_images_are_normalised_on_their_own(batch):
    """Two groups of two images give the losses of two batches of two, a region with its image."""
    whole = detector(bn_group_size=2)
    assert isinstance(whole.backbone.net.layer3[0].bn1, GroupedBatchNorm2d)
    with torch.no_grad():
        together = whole.loss(batch, context())
        halves = [detector().loss(images_of(batch, *rows), context()) for rows in ((0, 1), (2, 3))]
    for name in ("loss_objectness", "loss_proposal_boxes", "loss_classes", "loss_boxes"):
        expected = np.mean([half[name].item() for half in halves])
        assert together[name].item() == pytest.approx(expected, rel=1e-4), name


def test_without_groups_the_whole_batch_is_normalised_together(batch):
    with torch.no_grad():
        together = detector().loss(batch, context())["loss_objectness"].item()
        halves = [
            detector().loss(images_of(batch, *rows), context())["loss_objectness"].item()
            for rows in ((0, 1), (2, 3))
        ]
    assert together != pytest.approx(np.mean(halves), rel=1e-6)


def test_frozen_levels_keep_weights_and_statistics(batch):
    model = detector(frozen_levels=2)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.loss(batch, context())["loss"].backward()
    optimiser.step()
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    frozen = ("backbone.net.conv1", "backbone.net.bn1", "backbone.net.layer1")
    assert not [name for name in changed if name.startswith(frozen)]
    assert any(name.startswith("backbone.net.layer2") for name in changed)


def test_padding_does_not_reach_the_statistics_as_pixels(batch):
    """Where an image ends the input is zero, which is the mean colour, not black."""
    model = detector().eval()
    seen = []
    hook = model.backbone.net.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.detect(batch._replace(sizes_px=((50, 40),) * NUM_IMAGES))
    hook.remove()
    assert not seen[0][:, :, 50:].any()
    assert not seen[0][:, :, :, 40:].any()
    assert seen[0][:, :, :50, :40].any()


def test_detections_are_in_pixels_of_the_original(batch):
    model = detector(regions={**SMALL["regions"], "score_threshold": 0.0}).eval()
    small = model.detect(batch)[0]
    large = model.detect(batch._replace(originals=((128, 192),) * NUM_IMAGES))[0]
    scale = torch.tensor([3.0, 2.0, 3.0, 2.0])
    torch.testing.assert_close(large.boxes_xyxy, small.boxes_xyxy * scale)
    assert (small.boxes_xyxy >= 0).all()
    assert small.boxes_xyxy.max() <= 64
    assert (small.scores.diff() <= 0).all()


def test_extra_norm_can_be_left_out():
    regions = {**SMALL["regions"], "extra_norm": False}
    assert isinstance(detector().extra_norm, torch.nn.BatchNorm2d)
    assert isinstance(detector(regions=regions).extra_norm, torch.nn.Identity)


def test_precise_statistics_are_plain_means_over_batches():
    norm = torch.nn.BatchNorm2d(3, momentum=0.1)
    frozen = torch.nn.BatchNorm2d(3).eval()
    model = torch.nn.Sequential(norm, frozen)
    frozen.train(False)
    batches = [torch.randn(4, 3, 5, 5) * scale for scale in (1, 2, 5)]
    recompute_statistics(model, batches, model)
    means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.var(dim=(0, 2, 3), unbiased=True) for b in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1
    assert not frozen.running_mean.any()


def test_precise_statistics_give_groups_equal_weight():
    norm = GroupedBatchNorm2d(3, group_size=2)
    batches = [torch.randn(4, 3, 5, 5) for _ in range(3)]
    recompute_statistics(torch.nn.Sequential(norm), batches, norm)
    groups = [half for b in batches for half in b.split(2)]
    means = torch.stack([g.mean(dim=(0, 2, 3)) for g in groups]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)


def test_defaults_are_the_references():
    config = C4Config()
    assert config.bn_group_size is None
    assert config.frozen_levels == 0
    assert config.regions.extra_norm
    assert (config.regions.pooled, config.regions.sampled) == (14, 512)
    assert (config.proposals.candidates_train, config.proposals.candidates_test) == (12000, 6000)
    assert (config.proposals.proposals_train, config.proposals.proposals_test) == (2000, 1000)
