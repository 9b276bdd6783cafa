"""MoCo and exemplar: ten steps against the reference played out on several processes."""

import copy

import numpy as np
import pytest
import torch
from tests.oracles.moco import Reference
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.pretrain.method import Setting, ViewBatch
from whytransfer.pretrain.methods import exemplar_v2, moco_v2
from whytransfer.train.loop import Context
from whytransfer.train.norm import convert_groups

NUM_IMAGES, GROUP, SEED = 8, 4, 5


class _Preprocessing:
    def normalise(self, images):
        return images.permute(0, 3, 1, 2).double() / 255


class _Backbone(nn.Module):
    """Two convolutions with BatchNorm: what a real backbone is, small enough for float64 loops."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.preprocessing = _Preprocessing()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x).mean(dim=(2, 3))


class _Unnormalised(nn.Module):
    """What the reference calls an encoder: backbone and head, plain BatchNorm, raw outputs."""

    def __init__(self, embedding):
        super().__init__()
        self.backbone = copy.deepcopy(embedding.backbone)
        self.head = copy.deepcopy(embedding.head)

    def forward(self, images):
        return self.head(self.backbone(self.backbone.preprocessing.normalise(images)))


def _method(module, *, group=GROUP, num_keys=24, **fields):
    config = module.Config(num_keys=num_keys, num_dims=4, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = _Backbone()
    convert_groups(backbone, group)
    return module.Method(config, backbone, Setting(100, 3, SEED)).double()


def _batch(step, num_classes=3):
    stream = Stream(9, "batch", step)
    pixels = stream.integers(2 * NUM_IMAGES * 7 * 7 * 3, 256).astype(np.uint8)
    views = torch.from_numpy(pixels.reshape(2, NUM_IMAGES, 7, 7, 3))
    labels = torch.from_numpy(stream.integers(NUM_IMAGES, num_classes))
    return ViewBatch((views[0], views[1]), labels, torch.arange(NUM_IMAGES))


def _context(step):
    return Context(step=step, seed=SEED, gather=lambda tensor: tensor)


@pytest.mark.parametrize("module", [moco_v2, exemplar_v2])
def test_ten_steps_equal_the_reference_on_two_processes(module):
    method = _method(module, momentum=0.97)
    plain = _Unnormalised(method.query_encoder)
    convert_groups(plain, None)
    settings = {
        "lr": 0.1, "weight_decay": 1e-3, "sgd_momentum": 0.9, "momentum": 0.97, "temperature": 0.2,
    }  # fmt: skip
    reference = Reference(plain, method.queue.keys, NUM_IMAGES // GROUP, settings)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-3)
    for step in range(10):
        batch = _batch(step)
        permutation = Stream(SEED, "shuffle", step).permutation(NUM_IMAGES)
        expected, found = reference.step(
            *batch.views, permutation, batch.labels if module is exemplar_v2 else None
        )
        scalars = method.loss(batch, _context(step))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        method.after_step()
        assert scalars["loss"].item() == pytest.approx(expected, abs=1e-9)
        assert scalars["accuracy"].item() == pytest.approx(found)
        _same_state(method, reference, module is exemplar_v2)


def _same_state(method, reference, labelled):
    torch.testing.assert_close(method.queue.keys, reference.queue.T, rtol=0, atol=1e-9)
    assert method.queue.pointer.item() == reference.pointer
    if labelled:
        assert method.queue.labels.tolist() == reference.queue_labels
    pairs = ((method.query_encoder, reference.query), (method.key_encoder, reference.key))
    for ours, theirs in pairs:
        for (name, a), (other, b) in zip(
            ours.named_parameters(), theirs[0].named_parameters(), strict=True
        ):
            assert name == other
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
        statistics = reference.mean_statistics(theirs)
        for name, value in ours.named_buffers():
            torch.testing.assert_close(value.double(), statistics[name].double(), atol=1e-9, rtol=0)


def test_shuffling_matters_where_batch_norm_has_groups_and_only_there():
    for group, differs in ((GROUP, True), (None, False)):
        losses = {
            _method(moco_v2, group=group).loss(_batch(0), _context(step))["loss"].item()
            for step in range(2)
        }
        assert (max(losses) - min(losses) > 1e-6) == differs


def test_exemplar_without_a_shared_label_is_moco():
    batch = _batch(0)
    alone = batch._replace(labels=torch.arange(NUM_IMAGES))
    moco = _method(moco_v2).loss(batch, _context(0))["loss"]
    exemplar = _method(exemplar_v2).loss(alone, _context(0))["loss"]
    assert exemplar.item() == moco.item()


def test_exemplar_of_one_class_has_no_loss_once_the_queue_is_full():
    method = _method(exemplar_v2)
    losses = [method.loss(_batch(step, num_classes=1), _context(step))["loss"] for step in range(4)]
    assert [loss.item() > 0 for loss in losses[:3]] == [True] * 3
    losses[3].backward()
    assert losses[3].item() == 0
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    assert all(g is None or g.abs().max() == 0 for g in gradients)


def test_key_encoder_keeps_its_own_batch_norm_statistics():
    method = _method(moco_v2, momentum=0.0)
    method.loss(_batch(0), _context(0))
    query, key = (dict(e.named_buffers()) for e in (method.query_encoder, method.key_encoder))
    name = "backbone.net.1.running_mean"
    assert not torch.equal(query[name], key[name])
    assert key[name].abs().max() > 0


def test_the_backbone_is_the_query_encoders_and_keys_are_not_trained():
    method = _method(moco_v2)
    assert method.backbone is method.query_encoder.backbone
    assert not any(p.requires_grad for p in method.key_encoder.parameters())
    assert all(p.requires_grad for p in method.query_encoder.parameters())


def test_a_queue_that_batches_do_not_fill_is_refused_with_one_that_works():
    config = moco_v2.Config(num_keys=1000)
    with pytest.raises(InputError, match=r"field num_keys.*1000.*no multiple.*256.*num_keys=1024"):
        moco_v2.Method.check(config, Setting(10_000), "pretrain moco_v2")


def test_defaults_are_moco_v2s_and_the_papers_open_ones_are_marked():
    from whytransfer.core.config import assumptions

    config = exemplar_v2.Config()
    assert (config.num_keys, config.num_dims, config.momentum) == (65536, 128, 0.999)
    assert (config.temperature, config.bn_group_size) == (0.2, 32)
    training = config.training
    assert (training.epochs, training.batch_size, training.sgd.lr) == (200, 256, 0.03)
    assert (training.schedule.kind, training.schedule.per) == ("cosine", "epoch")
    assumed = {a.field for a in assumptions(config)}
    assert {"training", "num_keys", "momentum", "temperature", "bn_group_size"} <= assumed
