"""Every trained method: ten steps against its reference played out on several processes."""

import copy
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.oracles.classifier import Classifier
from tests.oracles.info_nce import loss_and_gradient, supcon_loss_and_gradient
from tests.oracles.moco import Reference
from torch import nn

from whytransfer.core.config import assumptions, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.views import Augmentation
from whytransfer.pretrain.method import Setting, ViewBatch
from whytransfer.pretrain.methods import (
    exemplar_v1,
    exemplar_v2,
    moco_v1,
    moco_v2,
    supcon_queue_v2,
    supervised,
)
from whytransfer.pretrain.parts.discrimination import Discrimination
from whytransfer.train.loop import Context
from whytransfer.train.norm import convert_groups

NUM_IMAGES, GROUP, SEED = 8, 4, 5
FAMILY = [moco_v1, moco_v2, exemplar_v1, exemplar_v2, supcon_queue_v2]
LABELLED = [exemplar_v1, exemplar_v2, supcon_queue_v2]
LR, SGD_MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-3
PLAIN_SGD = {"lr": LR, "weight_decay": WEIGHT_DECAY, "sgd_momentum": SGD_MOMENTUM}


def _name(module):
    return module.__name__.rpartition(".")[2]


class _Preprocessing:
    def normalise(self, images):
        return images.permute(0, 3, 1, 2).double() / 255


class _FloatPreprocessing:
    def normalise(self, images):
        return images.permute(0, 3, 1, 2).float() / 255


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


def _optimiser(method):
    trained = [p for p in method.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=LR, momentum=SGD_MOMENTUM, weight_decay=WEIGHT_DECAY)


@pytest.mark.parametrize("module", FAMILY, ids=_name)
def test_ten_steps_equal_the_reference_on_two_processes(module):
    method = _method(module, momentum=0.97)
    plain = _Unnormalised(method.query_encoder)
    convert_groups(plain, None)
    settings = {**PLAIN_SGD, "momentum": 0.97, "temperature": method.config.temperature}
    score = supcon_loss_and_gradient if module is supcon_queue_v2 else loss_and_gradient
    reference = Reference(plain, method.queue.keys, NUM_IMAGES // GROUP, settings, score)
    optimiser = _optimiser(method)
    for step in range(10):
        batch = _batch(step)
        permutation = Stream(SEED, "shuffle", step).permutation(NUM_IMAGES)
        expected, found = reference.step(
            *batch.views, permutation, batch.labels if module in LABELLED else None
        )
        scalars = method.loss(batch, _context(step))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        method.after_step()
        assert scalars["loss"].item() == pytest.approx(expected, abs=1e-9)
        assert scalars["accuracy"].item() == pytest.approx(found)
        _same_state(method, reference, module in LABELLED)


def test_ten_steps_of_supervised_equal_the_reference_on_two_processes():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = _Backbone()
    convert_groups(backbone, GROUP)
    method = supervised.Method(supervised.Config(), backbone, Setting(100, 3, SEED)).double()
    plain = _Unnormalised(method)
    convert_groups(plain, None)
    reference = Classifier(plain, NUM_IMAGES // GROUP, PLAIN_SGD)
    optimiser = _optimiser(method)
    for step in range(10):
        batch = _batch(step)
        expected, right = reference.step(batch.views[0], batch.labels)
        scalars = method.loss(batch, _context(step))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        assert scalars["loss"].item() == pytest.approx(expected, abs=1e-12)
        assert scalars["accuracy"].item() == pytest.approx(right)
        for network in reference.replicas:
            theirs = network.parameters()
            for ours, other in zip(method.parameters(), theirs, strict=True):
                torch.testing.assert_close(ours, other, rtol=0, atol=1e-12)


class _Ring:
    """Gives threads, one per rank, a gather among them."""

    def __init__(self, size):
        self.parts, self.barrier = [None] * size, threading.Barrier(size, timeout=60)

    def gather(self, rank, tensor):
        self.parts[rank] = tensor.clone()
        self.barrier.wait()
        gathered = torch.stack(self.parts)
        self.barrier.wait()
        return gathered

    def train(self, rank, method, num_steps):
        """Trains as the loop does: own part of each batch, gradients averaged over the ranks."""
        try:
            optimiser, losses, size = _optimiser(method), [], len(self.parts)
            for step in range(num_steps):
                whole = _batch(step)
                views = tuple(view.chunk(size)[rank] for view in whole.views)
                batch = ViewBatch(views, *(x.chunk(size)[rank] for x in whole[1:3]))
                context = Context(step, SEED, lambda tensor: self.gather(rank, tensor), rank, size)
                loss = method.loss(batch, context)["loss"]
                optimiser.zero_grad()
                loss.backward()
                for parameter in method.parameters():
                    if parameter.requires_grad:
                        parameter.grad = self.gather(rank, parameter.grad).mean(0)
                optimiser.step()
                losses.append(self.gather(rank, loss.detach()).mean().item())
            return losses
        except BaseException:
            self.barrier.abort()
            raise


@pytest.mark.parametrize("module", [moco_v2, exemplar_v1, supcon_queue_v2], ids=_name)
def test_two_processes_do_what_one_does_with_the_same_groups(module):
    alone = _method(module, momentum=0.9)
    ranks = [copy.deepcopy(alone) for _ in range(2)]
    optimiser, expected = _optimiser(alone), []
    for step in range(10):
        loss = alone.loss(_batch(step), _context(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    ring = _Ring(2)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ring.train, rank, method, 10) for rank, method in enumerate(ranks)]
        losses = [future.result() for future in running]
    assert losses[0] == losses[1] == pytest.approx(expected, abs=1e-9)
    for method in ranks:
        for name, ours in alone.state_dict().items():
            if "running" not in name:  # each process has its own, until they are averaged
                theirs = method.state_dict()[name]
                torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-9, msg=name)


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


PAIRS = [(moco_v1, exemplar_v1), (moco_v2, exemplar_v2), (exemplar_v2, supcon_queue_v2)]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=_name)
def test_a_pair_differs_in_its_contrast_and_nothing_else(one, other):
    configs = one.Config(), other.Config()
    assert to_plain(configs[0]) == to_plain(configs[1])
    assert list(assumptions(configs[0])) == list(assumptions(configs[1]))
    own = [
        {name: value for cls in module.Method.__mro__ for name, value in _defined(cls).items()}
        for module in (one, other)
    ]
    different = {name for name in own[0] | own[1] if own[0].get(name) != own[1].get(name)}
    assert "contrast" in different
    assert different <= {"contrast", "NEEDS_LABELS"}
    # What is built from one seed is the same weights and the same queue.
    states = [_method(module).state_dict() for module in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _defined(cls):
    """What a class below Discrimination defines, that is, adds to or changes in it."""
    if not issubclass(cls, Discrimination) or cls is Discrimination:
        return {}
    return {name: value for name, value in vars(cls).items() if not _of_every_class(name)}


def _of_every_class(name):
    return name.startswith("__") or name == "_abc_impl"


@pytest.mark.parametrize("pair", PAIRS[:2], ids=["v1", "v2"])
def test_exemplar_without_a_shared_label_is_moco(pair):
    batch = _batch(0)
    alone = batch._replace(labels=torch.arange(NUM_IMAGES))
    moco, exemplar = (_method(module).loss(alone, _context(0))["loss"] for module in pair)
    assert exemplar.item() == moco.item()


@pytest.mark.parametrize("module", [exemplar_v1, exemplar_v2], ids=_name)
def test_exemplar_of_one_class_has_no_loss_once_the_queue_is_full(module):
    method = _method(module)
    losses = [method.loss(_batch(step, num_classes=1), _context(step))["loss"] for step in range(4)]
    # Before that the random initial keys are negatives.
    assert [loss.item() > 0 for loss in losses[:3]] == [True] * 3
    losses[3].backward()
    assert losses[3].item() == 0
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    assert all(g is None or g.abs().max() == 0 for g in gradients)


@pytest.mark.parametrize("module", [exemplar_v2, moco_v2, supcon_queue_v2], ids=_name)
def test_an_older_key_of_the_same_image_is_dropped_a_negative_or_a_positive(module):
    method = _method(module)
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    far = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    label = torch.tensor([7])

    def loss(newest):
        method.queue.keys[0], method.queue.labels[0] = newest[0], label[0]
        return method.contrast(query, query, label).loss.item()

    near, opposite = loss(query), loss(far)
    assert {exemplar_v2: near == opposite, moco_v2: near > opposite + 0.1}.get(module, True)
    assert module is not supcon_queue_v2 or near < opposite - 1


def test_labelled_methods_refuse_a_batch_without_labels():
    for module in LABELLED:
        with pytest.raises(ValueError, match="label"):
            _method(module).loss(_batch(0)._replace(labels=None), _context(0))


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


def test_embeddings_have_length_one_in_float32_also_under_mixed_precision():
    method = _method(moco_v2).float()
    method.query_encoder.backbone.preprocessing = _FloatPreprocessing()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = method.query_encoder(_batch(0).views[0])
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(NUM_IMAGES), rtol=0, atol=1e-6)


def test_a_queue_that_batches_do_not_fill_is_refused_with_one_that_works():
    config = moco_v2.Config(num_keys=1000)
    with pytest.raises(InputError, match=r"field num_keys.*1000.*no multiple.*256.*num_keys=1024"):
        moco_v2.Method.check(config, Setting(10_000), "pretrain moco_v2")


def test_a_queue_longer_than_the_data_is_remarked_on_and_not_refused():
    config = moco_v2.Config(num_keys=1024)
    assert moco_v2.Method.remarks(config, Setting(1024), "pretrain moco_v2") == []
    remarks = []
    for module, setting in ((moco_v2, Setting(1000)), (exemplar_v2, Setting(1000, 10))):
        module.Method.check(config, setting, "test")
        remarks += module.Method.remarks(config, setting, f"pretrain {_name(module)}")
    assert remarks == [
        "pretrain moco_v2, field num_keys: a queue of 1024 keys is longer than the data of 1000 "
        "images, so for every query it holds earlier keys of the same image, and these are "
        "negatives; num_keys=768 holds none twice",
        "pretrain exemplar_v2, field num_keys: a queue of 1024 keys is longer than the data of "
        "1000 images, so for every query it holds earlier keys of the same image; num_keys=768 "
        "holds none twice",
    ]


@pytest.mark.parametrize("module", [exemplar_v1, exemplar_v2, supcon_queue_v2], ids=_name)
def test_one_class_is_too_few_where_labels_are_used(module):
    config = module.Config(num_keys=256)
    with pytest.raises(InputError, match=r"1 class; expected at least 2 .* moco_v2"):
        module.Method.check(config, Setting(1000, 1), "pretrain")
    module.Method.check(config, Setting(1000, 2), "pretrain")


@pytest.mark.parametrize("module", [moco_v2, exemplar_v2, supcon_queue_v2], ids=_name)
def test_defaults_of_v2_and_the_papers_open_ones_are_marked(module):
    config = module.Config()
    assert (config.num_keys, config.num_dims, config.momentum) == (65536, 128, 0.999)
    assert (config.temperature, config.bn_group_size, config.head) == (0.2, 32, "mlp")
    assert config.augmentation == Augmentation()
    training = config.training
    assert (training.epochs, training.batch_size, training.sgd.lr) == (200, 256, 0.03)
    assert (training.schedule.kind, training.schedule.per) == ("cosine", "epoch")
    _marks_what_is_open(config)


@pytest.mark.parametrize("module", [moco_v1, exemplar_v1], ids=_name)
def test_defaults_of_v1_and_the_papers_open_ones_are_marked(module):
    config = module.Config()
    assert (config.num_keys, config.num_dims, config.momentum) == (65536, 128, 0.999)
    assert (config.temperature, config.bn_group_size, config.head) == (0.07, 32, "linear")
    v1 = Augmentation(order="v1", jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)
    assert config.augmentation == v1
    training = config.training
    assert (training.epochs, training.batch_size, training.sgd.lr) == (200, 256, 0.03)
    assert (training.sgd.momentum, training.sgd.weight_decay) == (0.9, 1e-4)
    _marks_what_is_open(config)


def _learning_rates(training, steps_per_epoch):
    total = training.total_steps(steps_per_epoch)
    factors = (training.schedule.factor(step, total, steps_per_epoch) for step in range(total))
    return [training.sgd.lr * factor for factor in factors]


@pytest.mark.parametrize("steps_per_epoch", [1, 3])
def test_the_learning_rate_of_every_step_is_the_references(steps_per_epoch):
    first, second = [], []
    for epoch in range(200):
        lr = 0.03
        if epoch >= 120:
            lr = lr * 0.1
        if epoch >= 160:
            lr = lr * 0.1
        first += [lr] * steps_per_epoch
        second += [0.03 * 0.5 * (1 + math.cos(math.pi * epoch / 200))] * steps_per_epoch
    for module in (moco_v1, exemplar_v1):
        found = _learning_rates(module.Config().training, steps_per_epoch)
        assert found == pytest.approx(first, rel=1e-12)
    for module in (moco_v2, exemplar_v2, supcon_queue_v2):
        found = _learning_rates(module.Config().training, steps_per_epoch)
        assert found == pytest.approx(second, rel=1e-12)


def _marks_what_is_open(config):
    assert {a.field for a in assumptions(config)} == {
        "augmentation", "training", "bn_group_size", "num_keys", "num_dims", "head", "momentum",
        "temperature",
    }  # fmt: skip


def test_supervised_marks_its_augmentation_and_recipe_as_open():
    open_fields = {a.field for a in assumptions(supervised.Config())}
    assert {"augmentation", "training"} <= open_fields
