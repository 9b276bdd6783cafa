"""One training step of a tiny detector in float64 is the composed oracle's, to 1e-9."""

import numpy as np
import pytest
import torch
from tests.oracles import detector as oracle

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.assignment import sample
from whytransfer.transfer.parts.c4 import C4Config, C4Detector
from whytransfer.transfer.parts.precise_norm import recompute_statistics
from whytransfer.transfer.parts.regions import Regions
from whytransfer.transfer.parts.scenes import Scene, collate

SIZES = ((48, 64), (40, 56), (64, 41), (57, 40))
NUM_CLASSES = 3
CONFIG = {
    "proposals": {
        "sizes_px": [16, 32], "sampled": 24, "candidates_train": 90, "proposals_train": 25,
    },
    "regions": {"sampled": 12, "pooled": 4},
}  # fmt: skip
PARTS = ("loss_objectness", "loss_proposal_boxes", "loss_classes", "loss_boxes")


def detector(**changes):
    config = C4Config.model_validate({**CONFIG, **changes})
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    with seeded_torch(Stream(0, "detector")):
        model = C4Detector(backbone, NUM_CLASSES, config)
        # Livelier than at the start of a training, so that every box and class matters.
        for layer in (*model.proposals.children(), *model.predictor.children()):
            torch.nn.init.normal_(layer.weight, std=0.1)
            torch.nn.init.normal_(layer.bias, std=0.1)
        torch.nn.init.uniform_(model.extra_norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(model.extra_norm.bias)
    return model


def scenes():
    stream = Stream(0, "scenes")
    result = []
    for index, (height, width) in enumerate(SIZES):
        pixels = stream.integers(height * width * 3, 256).astype(np.uint8)
        low = stream.uniform(6, 0, 25).reshape(3, 2)
        boxes = np.concatenate([low, low + stream.uniform(6, 8, 15).reshape(3, 2)], axis=1)
        labels = torch.from_numpy(stream.integers(3, NUM_CLASSES))
        image = torch.from_numpy(pixels.reshape(height, width, 3))
        original = (height, width)
        result.append(Scene(image, torch.from_numpy(boxes).float(), labels, 10 + index, original))
    return result


def context(step=5):
    return Context(step=step, seed=3, gather=lambda t: t)


def plain(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def draw_from(batch):
    """Rows as the detector draws them: from the step's streams, named by image."""

    def draw(kind, image, roles, count, fraction):
        stream = context().stream(kind, batch.indices[image])
        rows = sample(np.array(roles, dtype=np.int64), count, fraction, stream)
        return [part.tolist() for part in rows]

    return draw


@pytest.mark.parametrize("together", [2, None])
def test_the_losses_of_a_step_are_the_oracles(together):
    model, batch = detector(padded_together=together).double(), collate(scenes())
    with torch.no_grad():
        features = model._features(batch)

        def last_stage(rows):
            return model.backbone.run(torch.from_numpy(rows), "layer3", "layer4").numpy()

        expected = oracle.c4_losses(
            features.numpy(),
            [
                (size, boxes.tolist(), labels.tolist())
                for size, boxes, labels in zip(
                    batch.sizes_px, batch.boxes_xyxy, batch.labels, strict=True
                )
            ],
            {
                "conv": plain(model.proposals.conv),
                "objectness": plain(model.proposals.objectness),
                "deltas": plain(model.proposals.deltas),
                "extra_norm": plain(model.extra_norm),
                "classes": plain(model.predictor.classes),
                "box_deltas": plain(model.predictor.deltas),
            },
            {
                "num_classes": NUM_CLASSES, "stride": 8, "sizes": (16, 32), "ratios": (0.5, 1, 2),
                "together": together or len(SIZES), "anchors_sampled": 24, "limits": (90, 25),
                "regions_sampled": 12, "pooled": 4,
            },
            draw_from(batch),
            last_stage,
        )  # fmt: skip
        found = model.loss(batch, context())
    assert features.dtype == torch.float64
    assert set(expected) == set(PARTS)
    for name in PARTS:
        assert expected[name] > 0.01, name
        assert found[name].item() == pytest.approx(expected[name], rel=1e-9), name
    assert found["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-9)


def test_the_padding_of_other_images_is_not_looked_at():
    """The second pair is narrower than the batch: its anchors end where its own padding ends."""
    batch = collate(scenes())
    model = detector()
    features = model._features(batch)
    within = model.proposals.within(features, batch.sizes_px, 2)
    height, width = features.shape[-2:]
    cells = oracle.padded_cells(batch.sizes_px, 2, height, width, 8)
    for n in range(len(SIZES)):
        rows = [cell * 6 + k for cell in cells[n] for k in range(6)]
        assert torch.nonzero(within[n]).squeeze(1).tolist() == rows
    assert within.sum(dim=1).tolist() == [288, 288, 288, 288]  # 6 x 8 and 8 x 6 cells of 8 x 8
    assert model.proposals.within(features, batch.sizes_px, None).all()
    alone = model.proposals.within(features, batch.sizes_px, 1)
    assert alone.sum(dim=1).tolist() == [6 * 6 * 8, 6 * 5 * 7, 6 * 8 * 6, 6 * 8 * 5]


def test_proposals_in_a_padded_map_are_those_of_the_map_cut_to_the_image():
    model = detector().double().eval()
    logits = torch.randn(1, 8 * 8 * 6, dtype=torch.float64)
    deltas = torch.randn(1, 8 * 8 * 6, 4, dtype=torch.float64)
    inside = oracle.padded_cells([(40, 56)], 1, 8, 8, 8)[0]
    rows = torch.tensor([cell * 6 + k for cell in inside for k in range(6)])
    wide = model.proposals.anchors(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    within = torch.zeros(1, 8 * 8 * 6, dtype=torch.bool)
    within[0, rows] = True
    whole = model.proposals.propose(logits, deltas, wide, [(40, 56)], within)
    cut = model.proposals.propose(logits[:, rows], deltas[:, rows], wide[rows], [(40, 56)])
    assert len(whole[0]) > 10
    assert torch.equal(whole[0], cut[0])


def test_precise_statistics_are_a_slow_two_pass_mean():
    """Of every norm: per batch a mean and then a variance about it, averaged over the batches."""
    model = detector().double()
    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    seen = {name: [] for name in norms}
    batches = [collate(scenes()[:2]), collate(scenes()[2:]), collate(scenes()[1:3])]

    def run(step):
        return model.loss(batches[step], context(step))

    with torch.no_grad():
        hooks = [
            norm.register_forward_pre_hook(
                lambda _, args, name=name: seen[name].append(args[0].numpy())
            )
            for name, norm in norms.items()
        ]
        for step in range(3):
            run(step)
        for hook in hooks:
            hook.remove()
        recompute_statistics(model, range(3), run)
    assert len(norms) == 13
    for name, norm in norms.items():
        means, variances = [], []
        for values in seen[name]:
            rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
            mean = rows.sum(axis=1) / rows.shape[1]
            means.append(mean)
            variances.append(((rows - mean[:, None]) ** 2).sum(axis=1) / (rows.shape[1] - 1))
        np.testing.assert_allclose(norm.running_mean, sum(means) / 3, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(norm.running_var, sum(variances) / 3, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frozen_levels", range(6))
def test_freezing_counts_the_stem_as_the_first_level(frozen_levels):
    model = detector(frozen_levels=frozen_levels)
    model.train()
    parts = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    for place, names in enumerate(parts):
        for name in names:
            module = model.backbone.net.get_submodule(name)
            assert module.training == (place >= frozen_levels)
            assert all(p.requires_grad == (place >= frozen_levels) for p in module.parameters())
    assert model.extra_norm.training


def test_frozen_norms_are_an_affine_map_that_nothing_moves():
    model = detector(frozen_norms=True)
    for step in range(2):
        model.train()
        model.loss(collate(scenes()), context(step))["loss"].backward()
    for name, module in model.backbone.net.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.running_mean.any(), name
            assert module.weight.grad is None, name
            assert not module.training, name
    assert model.backbone.net.conv1.weight.grad.any()
    assert model.extra_norm.running_mean.any()


def test_no_region_at_all_costs_nothing():
    model, none = detector(), torch.zeros(0, 4)
    nothing = Regions(none, torch.zeros(0, dtype=torch.int64), none)
    losses = model.predictor.losses(none, torch.zeros(0, 3, 4), [nothing])
    assert {name: value.item() for name, value in losses.items()} == {
        "loss_classes": 0.0, "loss_boxes": 0.0,
    }  # fmt: skip


def test_a_backbone_without_the_stages_is_refused():
    class Pooled(torch.nn.Module):
        levels = (type("Level", (), {"name": "tokens"}),)

    with pytest.raises(InputError, match=r"levels are tokens; .*layer3 and layer4.*linear_readout"):
        C4Detector(Pooled(), 3, C4Config())


@pytest.mark.parametrize("layer", ["proposals.objectness", "predictor.classes", "predictor.deltas"])
def test_outputs_that_are_not_numbers_are_no_empty_images(layer):
    model = detector().eval()
    model.get_submodule(layer).bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"test images 10, 11: .*not finite.*learning rate"):
        model.detect(collate(scenes()[:2]))
