"""Readouts by SGD: each layer against a slow one trained alone, the choice, and going on."""

import json

import numpy as np
import pytest
import torch
from tests.oracles import readout as oracle
from tests.oracles import schedules
from tests.transfer.readouts import QUIET, config_of, network, setting_of, things_in, transfer

from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.data.held_out import held_out_mask
from whytransfer.data.predictions import read_classifications
from whytransfer.data.views import center_view
from whytransfer.train.learner import Context
from whytransfer.train.loop import Run, fit
from whytransfer.transfer.parts.choice import Choice
from whytransfer.transfer.parts.readout import Readouts
from whytransfer.transfer.tasks import linear_readout, stage_readout

TASKS = {"linear_readout": linear_readout.Task, "stage_readout": stage_readout.Task}
LEVELS = ("stem", "layer1", "layer2", "layer3", "layer4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return things_in(tmp_path_factory.mktemp("things"))


def made(name, data, **changes):
    return TASKS[name](config_of(name, **changes), network(), setting_of(data))


def trained(name, data, folder, **changes):
    task = made(name, data, **changes)
    fit(
        task.model, task.batches, task.config.training,
        Run(work=folder / "work", log=folder / "log.jsonl", execution=QUIET, seed=0,
            steps_per_epoch=task.steps_per_epoch, title="test"),
    )  # fmt: skip
    task.model.eval()
    return task


def float64(**sgd):
    return {"precision": "64-true", "sgd": {"lr": 0.5, **sgd}}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("weight_decay", "nesterov"), [(0.0, False), (0.02, False), (0.02, True)])
def test_every_layer_is_one_trained_alone(name, data, tmp_path, weight_decay, nesterov):
    """Ten steps over two milestones: the protocol's layer and the whole bank, every level."""
    sgd = {"momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}
    changes = {"training": float64(**sgd), "cached_views": 2}
    task, first = trained(name, data, tmp_path, **changes), made(name, data, **changes)
    first.model.double()
    batches = list(first.batches(0))
    assert len(batches) == 10
    assert any(batch.held_out.any() for batch in batches)
    epochs = [step // 3 for step in range(10)]
    for level in task.levels:
        head, start = task.model.head(level.name), first.model.head(level.name).linear
        values = [b.inputs[level.name].double().numpy() for b in batches]
        if name == "stage_readout":
            values = [oracle.normalised(v, level.channels) for v in values]
        labels = [b.labels.numpy() for b in batches]
        keep = [~b.held_out.numpy() for b in batches]
        all_rows = list(zip(values, labels, strict=True))
        kept = [(v[k], y[k]) for v, y, k in zip(values, labels, keep, strict=True)]
        found = [(head.linear.weight, head.linear.bias, 0.5, all_rows)]
        for number, lr in enumerate([0.1, 1.0, 3.0]):
            for place, rows in ((number, kept), (number + 3, all_rows)):
                found.append((head.weight[place], head.bias[place], lr, rows))
        begin = start.weight.detach().numpy(), start.bias.detach().numpy()
        for weight, bias, lr, rows in found:
            rates = [schedules.moco_steps(lr, epoch, (1, 3)) for epoch in epochs]
            expected = oracle.sgd(rows, *begin, rates, sgd)
            np.testing.assert_allclose(weight.detach(), expected[0], rtol=1e-8, atol=1e-11)
            np.testing.assert_allclose(bias.detach(), expected[1], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", TASKS)
def test_learning_rates_step_by_step(name, data, tmp_path):
    trained(name, data, tmp_path, training={"sgd": {"lr": 30.0}}, cached_views=1)
    logged = [json.loads(line)["lr"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    expected = [schedules.moco_steps(30.0, step // 3, (1, 3)) for step in range(10)]
    assert logged == pytest.approx(expected, rel=1e-12)


def test_the_defaults_schedules_are_the_references():
    for task, milestones, rate, epochs in (
        (linear_readout, (60, 80), 30.0, 100), (stage_readout, (8, 16, 24), 0.01, 28)
    ):  # fmt: skip
        training = task.Config().training
        assert training.epochs == epochs
        for epoch in range(epochs):
            factor = training.schedule.factor(5 * epoch + 2, 5 * epochs, 5)
            expected = schedules.moco_steps(rate, epoch, milestones)
            assert training.sgd.lr * factor == pytest.approx(expected, rel=1e-12)
    sgd = stage_readout.Config().training.sgd
    assert (sgd.momentum, sgd.weight_decay, sgd.nesterov) == (0.9, 5e-4, True)


@pytest.mark.parametrize("name", TASKS)
def test_the_grid_leaves_the_protocols_layer_its_bits(name, data, tmp_path):
    alone = trained(name, data, tmp_path / "alone", lr_grid=[])
    beside = trained(name, data, tmp_path / "beside")
    for level in alone.levels:
        one, other = (t.model.head(level.name).linear for t in (alone, beside))
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
    logs = [(tmp_path / place / "log.jsonl").read_text() for place in ("alone", "beside")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("name", TASKS)
def test_the_choice_is_what_the_held_out_training_images_say(name, data, tmp_path):
    task = trained(name, data, tmp_path, training={"steps": 10}, cached_views=2)
    task.predict(tmp_path)
    content = json.loads((tmp_path / "choices.json").read_text())
    held = np.flatnonzero(held_out_mask(data.open("train"), 0.25))
    assert content["held_out_images"] == len(held) == 6
    predictions = read_classifications(tmp_path / "predictions.json")
    train, test = task.setting.train, task.setting.test
    for row, level in zip(content["readouts"], task.levels, strict=True):
        head = task.model.head(level.name)

        def seen(source, index, head=head, level=level.name):
            view = torch.from_numpy(center_view(source[index].image, 36, 32))[None]
            return head.normalised(task.model.features(view)[level])

        with torch.no_grad():
            shares = [
                100 * np.mean([
                    head.bank(seen(train, i))[0, rate].argmax().item() == train.label(i)
                    for i in held
                ])
                for rate in range(3)
            ]  # fmt: skip
            best = int(np.argmax(shares))
            chosen = [head.bank(seen(test, i))[0, 3 + best].argmax().item() for i in range(12)]
            plain = [head.logits(seen(test, i))[0].argmax().item() for i in range(12)]
        assert [entry["top1"] for entry in row["tried"]] == pytest.approx(shares, abs=1e-3)
        assert (row["readout"], row["setting"]) == (level.name, "lr")
        assert row["chosen"] == [0.1, 1.0, 3.0][best]
        grid = "grid" if name == "linear_readout" else f"grid {level.name}"
        assert predictions.further[grid][:, 0].tolist() == chosen
        if name == "stage_readout":
            assert predictions.further[level.name][:, 0].tolist() == plain
    assert predictions.topk[:, 0].tolist() == plain


def test_of_equal_settings_the_first_is_chosen():
    assert Choice("x", "lr", (0.1, 1.0, 10.0), (2, 5, 5), 9).value == 1.0


def test_a_batch_of_held_out_images_alone_trains_no_layer_that_chooses(data):
    task = made("linear_readout", data, cached_views=1)
    batch = next(iter(task.batches(0)))
    batch = batch._replace(held_out=torch.ones_like(batch.held_out))
    task.model.loss(batch, Context(step=0, seed=0, gather=lambda x: x))["loss"].backward()
    gradient = task.model.head("layer4").weight.grad
    assert not gradient[:3].any()
    assert all(part.any() for part in gradient[3:])


@pytest.mark.parametrize("name", TASKS)
def test_two_parts_of_a_batch_train_as_the_whole(name, data):
    """As processes do: gradients are averaged, and counts are gathered."""
    task = made(name, data, cached_views=1, training={"batch_size": 8, "precision": "64-true"})
    task.model.double().eval()  # statistics over a part are not those of the whole
    halves = slice(4), slice(4, 8)

    def unlike(batch):
        return len({int(batch.held_out[half].sum()) for half in halves}) > 1

    batch = next(filter(unlike, task.batches(0)))
    alone = Context(step=0, seed=0, gather=lambda x: x)
    task.model.loss(batch, alone)["loss"].backward()
    whole = {n: p.grad.clone() for n, p in task.model.named_parameters() if p.grad is not None}
    task.model.zero_grad()
    counts = torch.stack([(~batch.held_out[part]).sum() for part in halves])
    for rank, part in enumerate(halves):
        inputs = {level: values[part] for level, values in batch.inputs.items()}
        rest = (batch.labels[part], batch.held_out[part], batch.indices[part])
        context = Context(0, 0, lambda _: counts.double(), rank=rank, world_size=2)
        (task.model.loss(type(batch)(inputs, *rest), context)["loss"] / 2).backward()
    for name, parameter in task.model.named_parameters():
        if name in whole:
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    return {name: transfer(name, data, root) for name in TASKS}


def test_stages_have_names_and_metrics(finished):
    record = finished["stage_readout"].record
    names = [metric.name for metric in record.metrics]
    each = [m for level in LEVELS for m in (f"top1[{level}]", f"grid_top1[{level}]")]
    assert names == ["top1", "top5", *each]
    assert record["top1"].value == record["top1[layer4]"].value
    files = set(finished["stage_readout"].manifest["files"])
    assert files == {"predictions.json", "choices.json", "training.jsonl", "record.json"}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_bit(name, data, finished, tmp_path, workers):
    execution = Execution(device="cpu", progress=False, workers=workers)
    again = transfer(name, data, tmp_path, execution)
    assert again.fingerprint == finished[name].fingerprint
    for file in ("predictions.json", "choices.json", "training.jsonl"):
        assert again.manifest["files"][file] == finished[name].manifest["files"][file]


@pytest.mark.parametrize("name", TASKS)
def test_an_interrupted_readout_goes_on_to_the_same_bits(
    name, data, finished, tmp_path, monkeypatch
):
    steps = 0

    def killed(self):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Readouts, "after_step", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(name, data, tmp_path)
    monkeypatch.setattr(Readouts, "after_step", lambda self: counted.append(1))
    counted: list[int] = []
    again = transfer(name, data, tmp_path)
    assert len(counted) == 7  # from the checkpoint after step 3
    for file in ("predictions.json", "choices.json", "training.jsonl"):
        assert again.manifest["files"][file] == finished[name].manifest["files"][file]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("linear_readout", {"training": {"batch_size": 64}}, "64 is more than the 24 training"),
        ("stage_readout", {"levels": ["layer3", "layer6"]}, r"no level 'layer6'; expected some of"),
        ("stage_readout", {"training": {"batch_size": 1}}, r"batch_size: is 1; expected 2 or more"),
        ("stage_readout", {"augmentation": {"crop_px": 16}, "num_values": 9216}, "crops of one"),
    ],
)
def test_what_can_not_be_read_is_refused(name, data, changes, message):
    with pytest.raises(InputError, match=message):
        made(name, data, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_grid": [1.0, 0.1]}, "the learning rates must rise"),
        ({"lr_grid": [0.0, 0.1]}, "greater than 0"),
        ({"held_out": 1.0}, "less than 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config_of("linear_readout", **changes)
