"""Readouts that train nothing by steps: against slow ones and scikit-learn, what they share, what
they refuse."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from tests.transfer.readouts import (
    QUIET,
    SETTINGS,
    backbone_in,
    config_of,
    network,
    setting_of,
    things_in,
    transfer,
)

from whytransfer.backbone.features import Cache
from whytransfer.backbone.model import Backbone
from whytransfer.core.errors import InputError
from whytransfer.core.store import Store
from whytransfer.data.dataset import from_spec, subset
from whytransfer.data.held_out import held_out_mask
from whytransfer.data.predictions import read_classifications
from whytransfer.data.views import center_view
from whytransfer.data.world import things
from whytransfer.train.loop import Run, fit
from whytransfer.transfer.task import Setting
from whytransfer.transfer.tasks import knn_readout, lbfgs_readout, linear_readout, stage_readout

TASKS = {
    "knn_readout": knn_readout.Task,
    "lbfgs_readout": lbfgs_readout.Task,
    "linear_readout": linear_readout.Task,
    "stage_readout": stage_readout.Task,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return things_in(tmp_path_factory.mktemp("things"))


def made(name, data, **changes):
    return TASKS[name](config_of(name, **changes), network(), setting_of(data))


def seen(source):
    """The pooled features of a source's middles, image by image, and its labels."""
    backbone = network().eval()
    rows = []
    for index in range(len(source)):
        view = torch.from_numpy(center_view(source[index].image, 36, 32))[None]
        with torch.no_grad():
            rows.append(backbone(backbone.preprocessing.normalise(view))[0].numpy())
    return np.stack(rows), np.array([source.label(i) for i in range(len(source))])


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_neighbours_name_what_scikit_learns_do(data, tmp_path, temperature):
    task = made("knn_readout", data, temperature=temperature)
    task.predict(tmp_path)
    found = read_classifications(tmp_path / "predictions.json")
    (train, labels), (test, truth) = seen(task.setting.train), seen(task.setting.test)
    assert list(found.further) == ["k=3", "k=8"]
    assert np.array_equal(found.topk, found.further["k=3"])
    assert found.labels.tolist() == truth.tolist()
    for k in (3, 8):
        weights = "uniform" if temperature is None else lambda d: np.exp((1 - d) / temperature)
        peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
        expected = peer.fit(train, labels).predict(test)
        assert found.further[f"k={k}"][:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("standardise", [True, False])
def test_the_logistic_readout_is_scikit_learns_after_the_same_choice(data, tmp_path, standardise):
    task = made("lbfgs_readout", data, standardise=standardise, tolerance=1e-6)
    task.predict(tmp_path)
    (train, labels), (test, _) = seen(task.setting.train), seen(task.setting.test)
    if standardise:
        mean, deviation = train.mean(0), train.std(0)
        scale = np.where(deviation > 0, deviation, 1)
        train, test = (train - mean) / scale, (test - mean) / scale
    held = held_out_mask(task.setting.train, 0.25)
    shares = []
    for inverse_penalty in (0.01, 1.0):
        peer = LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=5000)
        peer.fit(train[~held], labels[~held])
        shares.append(100 * peer.score(train[held], labels[held]))
    content = json.loads((tmp_path / "choices.json").read_text())
    (row,) = content["readouts"]
    assert [entry["top1"] for entry in row["tried"]] == pytest.approx(shares, abs=1e-3)
    assert row["chosen"] == (0.01, 1.0)[int(np.argmax(shares))]
    peer = LogisticRegression(C=row["chosen"], tol=1e-8, max_iter=5000).fit(train, labels)
    found = read_classifications(tmp_path / "predictions.json")
    assert found.topk[:, 0].tolist() == peer.predict(test).tolist()


class Otherwise:
    """A source whose images are turned around and have the next class."""

    def __init__(self, source):
        self.source = source

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        sample = self.source[index]
        return dataclasses.replace(sample, image=np.ascontiguousarray(255 - sample.image))

    def label(self, index):
        return (self.source.label(index) + 1) % len(self.source.classes)


@pytest.mark.parametrize("name", ["lbfgs_readout", "linear_readout", "stage_readout"])
def test_other_test_images_change_nothing_that_is_chosen(name, data, tmp_path):
    """Neither images nor labels of the test split take part, so the choice is the same bytes."""
    train, test = data.open("train"), data.open("test")
    choices, guesses = [], []
    for number, scored in enumerate((test, Otherwise(test))):
        folder = tmp_path / str(number)
        folder.mkdir()
        task = TASKS[name](config_of(name), network(), Setting(train, scored))
        if task.TRAINS:
            run = Run(
                work=folder / "work", log=folder / "log", execution=QUIET, seed=0,
                steps_per_epoch=task.steps_per_epoch, title="test",
            )  # fmt: skip
            fit(task.model, task.batches, task.config.training, run)
        task.predict(folder)
        choices.append((folder / "choices.json").read_bytes())
        guesses.append((folder / "predictions.json").read_bytes())
    assert choices[0] == choices[1]
    assert guesses[0] != guesses[1]


def test_readouts_of_one_backbone_share_its_features(data, tmp_path, monkeypatch):
    count = 0
    plain = Backbone.run

    def counting(self, x, after, upto):
        nonlocal count
        count += len(x) if after is None else 0
        return plain(self, x, after, upto)

    monkeypatch.setattr(Backbone, "run", counting)
    transfer("knn_readout", data, tmp_path)
    assert count == 24 + 12
    transfer("lbfgs_readout", data, tmp_path)
    assert count == 24 + 12
    transfer("linear_readout", data, tmp_path, cached_views=2)
    assert count == 36 + 2 * 24 + 6  # two views, and the images held out
    transfer("linear_readout", data, tmp_path, cached_views=2, init_std=0.1)
    assert count == 36 + 2 * 24 + 6
    transfer("linear_readout", data, tmp_path, cached_views=3)
    assert count == 36 + 3 * 24 + 6
    kept = [artifact.record for artifact in Store(tmp_path).all()]
    assert sum(record.stage == "features" for record in kept) == 6
    assert all(record.metrics == () for record in kept if record.stage == "features")


def test_features_are_named_by_the_split_that_is_scored(data, tmp_path):
    """Images held out of the training split may be called as others of the test split are."""
    cache = Cache(Store(tmp_path), "b" * 64, data.fingerprint)
    train = data.open("train")
    setting = Setting(train, subset(train, np.arange(5)), cache=cache, test_split="train")
    knn_readout.Task(config_of("knn_readout"), network(), setting).predict(tmp_path)
    assert {a.record.config["split"] for a in Store(tmp_path).all()} == {"train"}


def test_features_that_were_altered_stop_a_readout(data, tmp_path):
    transfer("knn_readout", data, tmp_path)
    for artifact in Store(tmp_path).all():
        if artifact.record.stage == "features":
            path = artifact.path / "layer4.npy"
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"layer4\.npy: altered or missing"):
        transfer("lbfgs_readout", data, tmp_path)


def test_where_files_lie_and_in_which_order_they_were_written_changes_nothing(data, tmp_path):
    root, copy = data.config.root, tmp_path / "copy"
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    other = from_spec({**things.DATASET, "root": str(copy)}, None, "test")
    assert other.fingerprint == data.fingerprint
    for name in SETTINGS:
        first = transfer(name, data, tmp_path / "first")
        second = transfer(name, other, tmp_path / "second")
        files = [run.manifest["files"]["predictions.json"] for run in (first, second)]
        assert files[0] == files[1]
        assert first.record.metrics == second.record.metrics


def test_names_of_metrics(data, tmp_path):
    names = {n: [m.name for m in transfer(n, data, tmp_path).record.metrics] for n in TASKS}
    assert names["knn_readout"] == ["top1", "top5", "top1[k=3]", "top1[k=8]"]
    assert names["lbfgs_readout"] == ["top1", "top5"]


@pytest.mark.parametrize("name", ["knn_readout", "lbfgs_readout"])
def test_a_backbone_that_moved_is_noticed(data, tmp_path, name):
    task = made(name, data)
    task.model.backbone.net.bn1.running_mean.add_(1e-6)
    with pytest.raises(RuntimeError, match=r"bn1\.running_mean has changed"):
        task.predict(tmp_path)


def test_more_neighbours_than_images_are_refused(data):
    with pytest.raises(InputError, match="25 is more than the 24 training images"):
        made("knn_readout", data, neighbours=[3, 25])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("knn_readout", {"neighbours": []}, "at least 1 item"),
        ("knn_readout", {"neighbours": [0]}, "greater than 0"),
        ("lbfgs_readout", {"inverse_penalties": []}, "at least 1 item"),
        ("lbfgs_readout", {"inverse_penalties": [1.0, 0.1]}, "must rise"),
        ("knn_readout", {"training": {"epochs": 2}}, "unknown field"),
        *(
            (name, {"resize_px": 31}, "crop_px 32 is larger than the image of resize_px 31")
            for name in TASKS
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, changes, message):
    with pytest.raises(InputError, match=message):
        config_of(name, **changes)


class Labels:
    """A split whose images are the same, but for what is said of them."""

    def __init__(self, source, classes, label):
        self._source, self.classes, self._label = source, classes, label

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]

    def name(self, index):
        return self._source.name(index)

    def path(self, index):
        return self._source.path(index)

    def label(self, index):
        return self._label


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [(("a",), 0, "the data have 1 class"), (("a", "b"), None, "the image has no label")],
)
def test_nothing_to_tell_apart_is_refused(data, name, classes, label, message):
    setting = setting_of(data)
    setting = type(setting)(*(Labels(s, classes, label) for s in (setting.train, setting.test)))
    with pytest.raises(InputError, match=message):
        TASKS[name](config_of(name), network(), setting)


@pytest.mark.parametrize("name", TASKS)
def test_features_that_are_not_finite_name_the_image(data, tmp_path, monkeypatch, name):
    plain = Backbone.run

    def broken(self, x, after, upto):
        maps = plain(self, x, after, upto)
        if upto == "layer4":
            maps[2, 0, 0, 0] = float("inf")
        return maps

    monkeypatch.setattr(Backbone, "run", broken)
    changes = {"cached_views": 1} if "training" in SETTINGS[name] else {}
    with pytest.raises(InputError, match="features at layer4 are not finite") as error:
        transfer(name, data, tmp_path, **changes)
    assert error.value.where == str(data.open("train").path(2))
    backbone = backbone_in(Store(tmp_path))
    assert [artifact.path for artifact in Store(tmp_path).all()] == [backbone.path]
