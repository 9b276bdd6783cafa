"""The fields that all tasks share: frozen levels, parts of the learning rate, averaged weights."""

import pytest
import torch
from tests.transfer.two_processes import CASES, dataset, transfer, write_data

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import merge
from whytransfer.core.errors import InputError, TrainingError
from whytransfer.core.streams import Stream
from whytransfer.train.optimiser import set_lr, sgd
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import DIVERGED, Setting
from whytransfer.transfer.tasks import semantic_segmentation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture
def case(monkeypatch):
    """Changes the settings of one of the small transfers."""

    def change(name, settings):
        task, before = CASES[name]
        monkeypatch.setitem(CASES, name, (task, merge(before, settings)))

    return change


def test_frozen_levels_of_a_segmenter_keep_weights_and_statistics(data):
    changes = {"segmenter": {"frozen_levels": 2}}
    config = resolve(*(CASES["segmentation"][0], merge(CASES["segmentation"][1], changes)), "test")
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    opened = dataset("semantic_segmentation", data)
    setting = Setting(opened.open("train"), opened.open("test"))
    task = semantic_segmentation.Task(config, backbone, setting)
    model = task.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = sgd(model, config.training.sgd)
    for step, batch in zip(range(2), task.batches(0), strict=False):
        set_lr(optimiser, 0.1)
        model.loss(batch, setting.context(step))["loss"].backward()
        optimiser.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    frozen = ("backbone.net.conv1", "backbone.net.bn1", "backbone.net.layer1")
    assert not [name for name in changed if name.startswith(frozen)]
    assert {"backbone.net.layer2.0.conv1.weight", "head.classify.weight"} <= changed
    assert "backbone.net.layer2.0.bn1.running_mean" in changed


def test_the_average_is_what_is_evaluated_and_kept(data, tmp_path, case):
    # With nearly all weight on the past, the artifact's backbone is nearly the one it began with.
    case("segmentation", {"training": {"ema_decay": 1 - 1e-9}})
    tuned = backbones.load(transfer("segmentation", tmp_path, data).path / "backbone")
    start = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    for (name, one), other in zip(
        tuned.net.named_parameters(), start.net.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)
    moved = (tuned.net.bn1.running_mean - start.net.bn1.running_mean).abs().max()
    assert moved > 1e-3


def test_a_part_with_a_small_share_of_the_learning_rate_hardly_moves(data, tmp_path, case):
    case("segmentation", {"training": {"lr_factors": {"backbone": 1e-6, "head": 2.0}}})
    tuned = backbones.load(transfer("segmentation", tmp_path, data).path / "backbone")
    start = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    for one, other in zip(tuned.net.parameters(), start.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_part_that_does_not_exist_is_refused_with_those_there_are(data, tmp_path, case):
    case("segmentation", {"training": {"lr_factors": {"bakbone": 0.1}}})
    with pytest.raises(InputError, match=r"one of backbone, head, auxiliary.*mean 'backbone'"):
        transfer("segmentation", tmp_path, data)
    assert not list(tmp_path.glob("*/transfer/*"))


def test_a_training_that_diverges_is_an_answer_on_held_out_images_and_an_error_elsewhere(
    data, tmp_path, case
):
    too_much = {"training": {"sgd": {"lr": 1e300}}}
    case("readout", too_much)
    with pytest.raises(TrainingError, match=r"the loss is .* at step .*last good checkpoint"):
        transfer("readout", tmp_path, data)
    case("held_out", too_much)
    (metric,) = transfer("held_out", tmp_path, data).record.metrics
    assert (metric.name, metric.value, metric.n) == (DIVERGED, None, 6)
    assert "the loss is" in metric.interval and str(tmp_path) not in metric.interval
