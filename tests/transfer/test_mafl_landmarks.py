"""The landmark task on small faces: recipe, learning, files, resuming, and what it refuses."""

import json
import math

import numpy as np
import pytest
import torch

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import Config, assumptions
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution, Step, materialise
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec, limited
from whytransfer.data.landmark_files import read_landmarks
from whytransfer.data.world import crowds, faces
from whytransfer.study import plan, spec
from whytransfer.transfer.stage import resample, resolve, run
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Setting
from whytransfer.transfer.tasks.mafl_landmarks import Config as TaskConfig
from whytransfer.transfer.tasks.mafl_landmarks import Task

SMALL = {
    "training": {"epochs": 2, "batch_size": 8, "schedule": {"milestones": [1]}},
    "regressor": {"map_px": 16, "virtual_points": 4, "init_std": 0.01},
    "views": {"crop_top_px": 4, "crop_px": 40, "resize_px": 36, "margin_px": 2},
    "num_draws": 50,
}
WORLD = {
    "num_train": 24, "num_val": 4, "num_test": 12, "num_identities": 6, "width_px": 40,
    "height_px": 48, "num_mafl_train": 24, "num_mafl_test": 8,
}  # fmt: skip
QUIET = Execution(device="cpu", progress=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    faces.write(root, faces.Config(**WORLD), 0)
    return from_spec({"format": "mafl", "root": str(root)}, None, "test")


def network(seed=0):
    return build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(seed, "b"))


def backbone_in(store):
    def compute(folder, _work):
        backbones.save(folder, network(), {})
        return ()

    return materialise(store, Step("pretrain", "random_init", Config(), seed=0), compute)


def transfer(data, root, execution=QUIET, **changes):
    store = Store(root)
    config = resolve("mafl_landmarks", SMALL | changes, "test")
    backbone = backbone_in(store)
    return run("mafl_landmarks", backbone, data, config, seed=0, store=store, execution=execution)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    return {mode: transfer(data, root, mode=mode) for mode in ("frozen", "fine_tuned")}


def task(data, train=None, test=None, **changes):
    config = resolve("mafl_landmarks", SMALL | changes, "test")
    setting = Setting(train or data.open("train"), test or data.open("test"))
    return Task(config, network(), setting)


def test_the_recipe_is_dves_at_contrastlandmarks_size_and_all_of_it_is_assumed():
    config = TaskConfig()
    training, views, regressor = config.training, config.views, config.regressor
    assert (training.epochs, training.batch_size, training.schedule.milestones) == (
        300, 32, (100, 250)
    )  # fmt: skip
    assert training.adam.model_dump() == {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 5e-4,
        "norm_weight_decay": None, "amsgrad": True,
    }  # fmt: skip
    factors = [training.schedule.factor(step, 3000, 10) for step in (0, 999, 1000, 2500)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01])
    assert (views.crop_top_px, views.crop_px, views.size_px) == (30, 178, 96)
    assert (regressor.virtual_points, regressor.temperature, regressor.map_px) == (50, 100, 48)
    assert regressor.levels == ("layer1", "layer2", "layer3", "layer4")
    fields = {found.field: found.reason for found in assumptions(config)}
    assert {
        "mode", "training.adam.lr", "training.epochs", "views.resize_px", "views.flip_p",
        "regressor.levels", "regressor.temperature", "failure_percent",
    } <= set(fields)  # fmt: skip
    assert all("the paper" in reason for reason in fields.values())


def test_the_artifact_holds_what_scoring_needs(finished):
    files = {mode: set(artifact.manifest["files"]) for mode, artifact in finished.items()}
    wanted = {"predictions.json", "truth.json", "training.jsonl", "record.json"}
    assert files["frozen"] == wanted
    assert files["fine_tuned"] == wanted | {
        "backbone/backbone.json", "backbone/backbone.safetensors"
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["frozen", "fine_tuned"])
def test_metrics_are_a_function_of_the_files(finished, mode):
    artifact = finished[mode]
    config = resolve("mafl_landmarks", SMALL | {"mode": mode}, "test")
    assert Task.score(artifact.path, config) == artifact.record.metrics
    headline = artifact.record.metrics[0]
    assert headline.name == "inter_ocular_error" and headline.higher_is_better is False
    assert headline.n == 8 and headline.low <= headline.value <= headline.high
    drawn = resample(artifact, 20)
    assert drawn["inter_ocular_error"].shape == (20,) and set(drawn) == {
        m.name for m in artifact.record.metrics
    }  # fmt: skip


def test_the_truth_is_the_datas_own_pixels(finished, data):
    test = data.open("test")
    truth = read_landmarks(finished["frozen"].path / TRUTH)
    found = read_landmarks(finished["frozen"].path / PREDICTIONS)
    assert truth.images == found.images == tuple(test.name(i) for i in range(8))
    assert np.array_equal(truth.points_xy, [test.landmarks(i) for i in range(8)])
    assert truth.landmarks[0] == "left_eye"


def test_predictions_are_in_pixels_of_the_image(data, tmp_path):
    """A model that always says the middle and the corner of the view says them of the image."""
    running = task(data)
    with torch.no_grad():
        running.model.regressor.linear.zero_()
    running.predict(tmp_path)
    found = read_landmarks(tmp_path / PREDICTIONS)
    np.testing.assert_allclose(found.points_xy, np.full((8, 5, 2), [20.0, 24.0]))


def test_the_same_again_and_with_workers_is_the_same(data, finished, tmp_path):
    again = transfer(data, tmp_path, QUIET.model_copy(update={"workers": 1}), mode="frozen")
    assert again.fingerprint == finished["frozen"].fingerprint
    for name in ("predictions.json", "training.jsonl"):
        assert again.manifest["files"][name] == finished["frozen"].manifest["files"][name]


def test_an_interrupted_run_goes_on_to_the_same_bits(data, finished, tmp_path, monkeypatch):
    def killed(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Task, "predict", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(data, tmp_path, mode="fine_tuned")
    again = transfer(data, tmp_path, mode="fine_tuned").manifest["files"]
    for name in ("predictions.json", "training.jsonl", "backbone/backbone.safetensors"):
        assert again[name] == finished["fine_tuned"].manifest["files"][name]


def test_batches_do_not_depend_on_where_a_run_began(data):
    changes = {"views": SMALL["views"] | {"flip_p": 0.5, "turn_degrees": 10}}
    running = task(data, **changes)
    whole, rest = list(running.batches(0)), list(running.batches(4))
    assert len(whole) == 6
    assert torch.equal(whole[5].inputs, rest[1].inputs)
    assert torch.equal(whole[5].points, rest[1].points)
    assert whole[4].indices.tolist() == rest[0].indices.tolist()


@pytest.mark.parametrize(("views", "flip_p"), [(1, 0.0), (2, 0.5)])
def test_cached_views_are_the_views_of_so_many_epochs(data, views, flip_p):
    changes = {
        "views": SMALL["views"] | {"flip_p": flip_p},
        "training": SMALL["training"] | {"epochs": 2},
    }
    plain, cached = task(data, **changes), task(data, cached_views=views, **changes)
    for one, other in zip(plain.batches(0), cached.batches(0), strict=True):
        assert torch.equal(one.indices, other.indices) and torch.equal(one.points, other.points)
        expected = plain.model.maps(one.inputs)
        for found, level in zip(other.inputs, expected, strict=True):
            torch.testing.assert_close(found, level, atol=1e-4, rtol=1e-4)


def test_it_learns_its_training_images(data):
    """Far below the mean face, on images it was trained on; an untrained one is far above."""
    changes = {
        "training": {"epochs": 100, "batch_size": 24, "schedule": {"milestones": [90]}},
        "cached_views": 1,
    }
    running = task(data, **changes)
    optimiser = torch.optim.Adam(running.model.regressor.parameters(), lr=0.01)
    distances = []
    for batch in running.batches(0):
        scalars = running.model.loss(batch, None)
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        distances.append(scalars["distance"].item())
    points = batch.points.numpy()
    mean_face = np.linalg.norm(points - points.mean(axis=0), axis=2).mean() / 2
    assert distances[0] > 2 * mean_face
    assert distances[-1] < 0.5 * mean_face


class Changed:
    """A source some of whose landmarks are others."""

    def __init__(self, source, points):
        self.source, self.points = source, points

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def landmarks(self, index):
        return self.points.get(index, self.source.landmarks(index))


class TestRefusals:
    def test_images_without_landmarks(self, tmp_path):
        crowds.write(tmp_path, crowds.Config(num_train=9, num_test=8, size_px=64), 0)
        boxes = from_spec({**crowds.DATASET, "root": str(tmp_path)}, None, "test")
        with pytest.raises(InputError, match=r"\.jpg: the image has no landmarks.*mafl or celeba"):
            task(boxes)

    def test_another_number_of_landmarks(self, data):
        few = data.open("train").landmarks(0)[:4]
        with pytest.raises(InputError, match=r"has 4 landmarks, the first image has 5"):
            task(data, train=Changed(data.open("train"), {3: few}))
        test = Changed(data.open("test"), dict.fromkeys(range(8), few))
        with pytest.raises(InputError, match=r"has 4 landmarks, a training image 5"):
            task(data, test=test, landmarks=None)

    def test_names_and_mirrors_of_other_landmarks(self, data):
        with pytest.raises(InputError, match="landmarks: names 2 landmarks, the images have 5"):
            task(data, landmarks=["a", "b"])
        views = SMALL["views"] | {"mirrored": [1, 0]}
        task(data, views=views)  # nothing is mirrored
        with pytest.raises(InputError, match=r"views.mirrored: names 2 landmarks.*flip_p to 0"):
            task(data, views=views | {"flip_p": 0.5})

    def test_both_eyes_at_one_place(self, data):
        test = data.open("test")
        blind = test.landmarks(2).copy()
        blind[1] = blind[0]
        name = test.name(2)
        with pytest.raises(InputError, match=rf"test images: {name} has both eyes at"):
            task(data, test=Changed(test, {2: blind}))
        task(data, train=Changed(data.open("train"), {2: blind}))  # nothing is measured there
        with pytest.raises(InputError, match=r"eyes: are the landmarks 0 and 7"):
            task(data, eyes=[0, 7])

    def test_a_crop_larger_than_the_image(self, data):
        with pytest.raises(InputError, match=r"is 40 wide and 48 high; expected at least 178 by 2"):
            task(data, views={})

    def test_a_level_that_the_backbone_lacks(self, data):
        with pytest.raises(InputError, match=r"regressor.levels: the backbone has no level 'res5'"):
            task(data, regressor=SMALL["regressor"] | {"levels": ["res5"]})

    def test_too_few_images(self, data):
        with pytest.raises(InputError, match=r"training.batch_size: 8 is more than the 5"):
            task(data, train=limited(data.open("train"), 5))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"mode": "fine_tuned", "cached_views": 1}, "set it to 0"),
            ({"eyes": [1, 1]}, "landmark 1 twice"),
            ({"mode": "fine_tuned", "bn_group_size": 3}, "not a multiple of bn_group_size 3"),
            ({"mode": "thawed"}, "'frozen' or 'fine_tuned'"),
        ],
    )
    def test_settings_that_make_no_sense(self, changes, words):
        with pytest.raises(InputError, match=words):
            resolve("mafl_landmarks", SMALL | changes, "test")

    def test_a_model_that_diverged_writes_nothing(self, data, tmp_path):
        running = task(data)
        with torch.no_grad():
            running.model.regressor.linear.fill_(math.nan)
        with pytest.raises(InputError, match="8 of 8 images have points that are not finite"):
            running.predict(tmp_path)
        assert not (tmp_path / PREDICTIONS).exists()


def test_batch_norm_is_grouped_in_fine_tuning_alone(data):
    tuned = task(data, mode="fine_tuned", bn_group_size=4)
    sizes = {getattr(m, "group_size", None) for m in tuned.model.modules()}
    assert sizes == {None, 4}
    assert Task.fine_tunes(tuned.config) and not Task.fine_tunes(task(data).config)


def study(mode):
    """The world's faces as CelebA without MAFL's pictures to pretrain on, and as MAFL."""
    maker = {"make": "faces", "config": WORLD}
    lists = ["celeba/MAFL/training.txt", "celeba/MAFL/testing.txt"]
    transfer = {"task": "mafl_landmarks", "data": "mafl", "config": SMALL | {"mode": mode}}
    return {
        "name": "faces",
        "reference": "random_init",
        "data": {
            "celeba": {**maker, "read": {"exclude_lists": lists}},
            "mafl": {**maker, "read": {"format": "mafl"}},
        },
        "pretrain": {"data": "celeba"},
        "arms": {"random_init": {"method": "random_init"}, "points": {"transfer": transfer}},
        "tasks": {
            "landmarks": {
                "task": "mafl_landmarks", "data": "mafl", "headline": "inter_ocular_error",
                "config": SMALL,
            },
        },
    }  # fmt: skip


def test_a_fine_tuned_landmark_run_can_be_an_arm_and_a_frozen_one_not(tmp_path):
    for mode in ("fine_tuned", "frozen"):
        (tmp_path / f"{mode}.yaml").write_text(json.dumps(study(mode)))
    found = plan.make(spec.read(str(tmp_path / "fine_tuned.yaml")), Store(tmp_path / "runs"))
    assert "pretrain/points/seed0" in [node.key for node in found.nodes]
    with pytest.raises(InputError, match="mafl_landmarks does not fine-tune the backbone"):
        plan.make(spec.read(str(tmp_path / "frozen.yaml")), Store(tmp_path / "runs"))
