"""The few-shot task: its episodes, its files, what it measures, and what it refuses."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import few_shot as oracle

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.config import assumptions
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution, Step, materialise
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.episode_predictions import read_episodes
from whytransfer.data.predictions import read_classifications
from whytransfer.data.world import novelties, things
from whytransfer.study.statistics import Scores, compare
from whytransfer.transfer.measure import Measure, draws, means, metrics, shares
from whytransfer.transfer.parts import episodes
from whytransfer.transfer.stage import resample, resolve, run
from whytransfer.transfer.task import PREDICTIONS, Setting
from whytransfer.transfer.tasks import few_shot

SMALL = {
    "features": {"view": {"kind": "centre", "resize_px": 48, "crop_px": 48}},
    "episodes": {"queries": 4},
    "num_episodes": 30,
    "num_draws": 200,
}
KINDS = {"num_base": 6, "num_validation": 1, "num_novel": 6, "per_kind": 12, "apart": 2}
QUIET = Execution(device="cpu", progress=False)


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("novelties")
    novelties.write(root, novelties.Config(**KINDS, size_px=48), 0)
    return from_spec({**novelties.DATASET, "root": str(root)}, None, "test")


def network():
    return build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))


def configured(**changes):
    return resolve("few_shot", {**SMALL, **changes}, "test")


def setting(data, **changes):
    train = data.open("train")
    return replace(Setting(train, data.open("test"), 0, kept_apart=train.kept_apart()), **changes)


def backbone_in(store):
    def compute(folder, _work):
        backbones.save(folder, network(), {})
        return ()

    return materialise(store, Step("pretrain", "random_init", BaseConfig(), seed=0), compute)


def transfer(data, root, execution=QUIET, seed=0, **changes):
    store = Store(root)
    given = backbone_in(store), data, configured(**changes)
    return run("few_shot", *given, seed=seed, store=store, execution=execution)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    return transfer(data, tmp_path_factory.mktemp("store"))


class TestEpisodes:
    @settings(max_examples=30, deadline=None)
    @given(
        sizes=st.lists(st.integers(5, 12), min_size=3, max_size=8), ways=st.integers(1, 3),
        shots=st.integers(1, 3), queries=st.integers(1, 2), seed=st.integers(0, 3),
    )  # fmt: skip
    def test_they_hold_different_images_of_their_classes(self, sizes, ways, shots, queries, seed):
        labels = Stream(seed, "shuffle").permutation(sum(sizes)) * 0
        labels = np.repeat(np.arange(len(sizes)), sizes)[
            Stream(seed, "shuffle").permutation(sum(sizes))
        ]
        config = episodes.Config(ways=ways, shots=(shots,), queries=queries, seed=seed)
        found = episodes.draw(labels, tuple(map(str, range(len(sizes)))), config, 6)
        assert found.queries.shape == (6, ways, queries)
        assert found.support.shape == (6, ways, shots)
        images = np.concatenate([found.queries, found.support], axis=2)
        assert (labels[images] == found.classes[:, :, None]).all()
        for row, classes in zip(images.reshape(6, -1), found.classes, strict=True):
            assert len(set(row)) == len(row) and len(set(classes)) == ways

    def labels(self):
        return np.repeat(np.arange(7), 30), tuple("abcdefg")

    def test_each_is_a_function_of_its_number(self):
        config = episodes.Config()
        few, many = (episodes.draw(*self.labels(), config, count) for count in (3, 50))
        for name in ("classes", "queries", "support"):
            assert np.array_equal(getattr(few, name), getattr(many, name)[:3])
        assert len({tuple(row.ravel()) for row in many.queries}) == 50
        other = episodes.draw(*self.labels(), episodes.Config(seed=1), 3)
        assert not np.array_equal(other.queries, few.queries)

    def test_shots_are_nested_and_queries_the_same_for_all(self):
        one = episodes.draw(*self.labels(), episodes.Config(shots=(1,)), 9)
        both = episodes.draw(*self.labels(), episodes.Config(shots=(1, 5)), 9)
        assert np.array_equal(one.queries, both.queries)
        assert np.array_equal(one.support, both.support[:, :, :1])

    def test_classes_and_images_are_drawn_evenly(self):
        found = episodes.draw(*self.labels(), episodes.Config(), 2000)
        share = np.bincount(found.classes.ravel()) / 2000
        assert np.abs(share - 5 / 7).max() < 0.04
        count = np.bincount(found.queries.ravel(), minlength=210)
        assert np.abs(count / count.mean() - 1).max() < 0.2

    def test_chunks_are_all_of_them(self):
        found = episodes.draw(*self.labels(), episodes.Config(), 7)
        parts = list(found.chunks(3))
        assert [len(part) for part in parts] == [3, 3, 1]
        assert np.concatenate([part.support for part in parts]).tolist() == found.support.tolist()

    def test_what_cannot_be_drawn(self):
        labels, classes = self.labels()
        with raises("episodes.ways", "8 ways", "7 classes", "at most 7"):
            episodes.draw(labels, classes, episodes.Config(ways=8), 1)
        with raises("episodes", "20 shots and 15 queries", "class a has 30 images", "at most 30"):
            episodes.draw(labels, classes, episodes.Config(shots=(1, 20)), 1)
        for shots in ((), (1, 1)):
            with raises("episodes.shots", "different numbers of shots"):
                episodes.draw(labels, classes, episodes.Config(shots=shots), 1)


class TestResults:
    def test_the_files(self, finished):
        files = set(finished.manifest["files"])
        assert files == {PREDICTIONS, few_shot.BASE, "record.json"}

    def test_the_metrics_say_what_was_sampled(self, finished):
        found = {m.name: m for m in finished.record.metrics}
        assert list(found) == [
            "5way_1shot", "5way_5shot", "base_top1", "5way_1shot_normal", "5way_5shot_normal",
        ]  # fmt: skip
        for name in ("5way_1shot", "5way_5shot"):
            assert (found[name].n, found[name].interval) == (30, "episodes")
            assert found[name].low < found[name].value < found[name].high
            normal = found[f"{name}_normal"]
            assert normal.value == pytest.approx(found[name].value)
            assert (normal.n, normal.interval) == (30, "episodes: 1.96 std / sqrt(n)")
        assert (found["base_top1"].n, found["base_top1"].interval) == (6, "images")

    def test_accuracies_and_reaches_are_the_oracles(self, finished):
        read = read_episodes(finished.path / PREDICTIONS)
        for shots in (1, 5):
            accuracies = [oracle.accuracy(g.tolist()) for g in read.guesses[shots]]
            metric = finished.record[f"5way_{shots}shot_normal"]
            assert metric.value == pytest.approx(100 * np.mean(accuracies))
            assert metric.high - metric.value == pytest.approx(100 * oracle.reach(accuracies))

    def test_they_are_a_function_of_the_files(self, finished, tmp_path):
        config = configured()
        for name in (PREDICTIONS, few_shot.BASE):
            shutil.copyfile(finished.path / name, tmp_path / name)
        assert few_shot.Task.score(tmp_path, config) == finished.record.metrics
        (tmp_path / few_shot.BASE).unlink()
        with raises(few_shot.BASE, "no such file"):
            few_shot.Task.score(tmp_path, config)

    def test_guesses_are_the_oracles_on_the_features(self, data, finished):
        """The whole way once more, one image and one episode at a time."""
        read = read_episodes(finished.path / PREDICTIONS)
        source, model = data.open("test"), network().eval()
        with torch.no_grad():
            features = [
                model(model.preprocessing.normalise(torch.from_numpy(source[i].image)[None]))[0]
                .double().tolist()
                for i in range(len(source))
            ]  # fmt: skip
        assert read.names == tuple(source.name(i) for i in range(len(source)))
        for row in range(0, 30, 7):
            for shots in (1, 5):
                learned = [[features[i] for i in way[:shots]] for way in read.support[row]]
                expected = [
                    [oracle.centroid(learned, features[i]) for i in way]
                    for way in read.queries[row]
                ]
                assert read.guesses[shots][row].tolist() == expected

    def test_base_guesses_are_the_nearest_centroids_of_the_training_images(self, data, finished):
        train, model = data.open("train"), network().eval()

        def features(source):
            images = torch.stack([torch.from_numpy(source[i].image) for i in range(len(source))])
            with torch.no_grad():
                return model(model.preprocessing.normalise(images)).double().tolist()

        apart = train.kept_apart()
        learned = [[] for _ in train.classes]
        for index, feature in enumerate(features(train)):
            learned[train.label(index)].append(feature)
        read = read_classifications(finished.path / few_shot.BASE)
        expected = [oracle.centroid(learned, feature) for feature in features(apart)]
        assert read.topk[:, 0].tolist() == expected
        assert read.labels.tolist() == [apart.label(i) for i in range(len(apart))]
        assert read.topk.shape == (6, 5)

    def test_workers_and_the_seed_change_nothing_of_the_centroid_head(
        self, data, finished, tmp_path
    ):
        workers = QUIET.model_copy(update={"workers": 1})
        again = transfer(data, tmp_path, workers, seed=5)
        for name in (PREDICTIONS, few_shot.BASE):
            assert again.manifest["files"][name] == finished.manifest["files"][name]

    def test_the_fine_tuned_head_draws_from_the_runs_seed(self, data, tmp_path):
        guesses = []
        for seed in (0, 0, 1):
            task = few_shot.Task(
                configured(head="fine_tuned", fine_tuned={"epochs": 1}), network(),
                setting(data, seed=seed),
            )  # fmt: skip
            task.predict(tmp_path)
            guesses.append(read_episodes(tmp_path / PREDICTIONS).guesses[5].tolist())
        assert guesses[0] == guesses[1] != guesses[2]

    @pytest.mark.parametrize("head", ["centroid", "logistic", "fine_tuned"])
    def test_chunks_move_no_guess(self, data, head, monkeypatch):
        config = configured(head=head, fine_tuned={"epochs": 2})
        task = few_shot.Task(config, network(), setting(data))
        features = torch.from_numpy(Stream(0, "f").uniform(72 * 9).reshape(72, 9)).float()
        drawn = task._episodes
        whole = few_shot.guesses(features, drawn, 5, config, 0)
        small = dict.fromkeys(few_shot._CHUNK_BYTES, 10_000)
        monkeypatch.setattr(few_shot, "_CHUNK_BYTES", small)
        assert np.array_equal(few_shot.guesses(features, drawn, 5, config, 0), whole)

    def test_without_images_kept_apart_there_is_no_base_accuracy(self, data, tmp_path):
        task = few_shot.Task(configured(), network(), setting(data, kept_apart=None))
        task.predict(tmp_path)
        names = [m.name for m in few_shot.Task.score(tmp_path, configured())]
        assert "base_top1" not in names and names[0] == "5way_1shot"
        assert json.loads((tmp_path / PREDICTIONS).read_text())["base"] is None

    def test_validation_classes_take_the_place_of_the_novel_ones(self, data):
        spec = {"format": "mini_imagenet", "root": str(data.config.root), "novel": "val"}
        validation = from_spec(spec, None, "test")
        assert validation.fingerprint != data.fingerprint
        config = configured(episodes={"ways": 1, "queries": 2})
        task = few_shot.Task(config, network(), setting(validation))
        assert task.setting.test.classes == ("n90000006",)

    def test_open_settings_are_shown_as_assumed(self):
        found = {a.field for a in assumptions(few_shot.Config())}
        assert found == {"features.view", "num_episodes", "head", "logistic.c"}


class TestDraws:
    def test_episodes_and_images_are_drawn_by_themselves(self, finished):
        found = resample(finished, 100)
        assert list(found) == ["5way_1shot", "5way_5shot", "base_top1"]
        alone = draws(
            means({"x": read_episodes(finished.path / PREDICTIONS).accuracies()[1]}, "episodes"),
            100,
        )
        assert np.array_equal(found["5way_1shot"], alone["x"])

    def test_a_mean_under_weights_is_the_mean_of_what_was_drawn(self):
        values = np.array([0.2, 0.4, 1.0])
        measure = means({"x": values}, "episodes")
        weights = np.array([[3, 0, 0], [1, 1, 1], [0, 1, 2]])
        expected = [20.0, 100 * values.mean(), 80.0]
        assert measure.at(weights)["x"].tolist() == pytest.approx(expected)

    def test_what_stands_beside_keeps_its_own_number(self):
        beside = shares({"top": np.array([True, False, True, True])})
        both = means({"x": np.array([0.5, 1.0])}, "episodes")
        both = Measure(both.num_images, both.at, both.sampled, beside=(beside,))
        first, second = metrics(both, 50)
        assert (first.name, first.n, first.interval) == ("x", 2, "episodes")
        assert (second.name, second.n, second.interval) == ("top", 4, "images")
        assert second == metrics(beside, 50)[0]

    def test_a_comparison_says_that_episodes_were_drawn(self):
        stream = Stream(0, "scores")
        keys = [(arm, seed) for arm in ("a", "b") for seed in (0, 1, 2)]
        values = {key: 50 + stream.one() for key in keys}
        drawn = {key: values[key] + stream.uniform(40, -1, 1) for key in keys}
        scores = Scores("t", "m", "%", 600, values, drawn, sampled="episodes")
        found = compare(scores, "a", "b")
        assert (found.interval, found.sampled) == ("seeds then episodes", "episodes")
        few = {key: value for key, value in values.items() if key[1] == 0}
        found = compare(replace(scores, values=few), "a", "b")
        assert found.interval == "episodes (these fixed models)"


class TestRefusals:
    def test_data_without_new_classes(self, data, tmp_path):
        things.write(tmp_path / "t", things.Config(num_train=6, num_test=6, num_shapes=6), 0)
        same = from_spec({**things.DATASET, "root": str(tmp_path / "t")}, None, "test")
        with raises("imagefolder data", "6 of them the same: arrow", "new", "mini_imagenet"):
            transfer(same, tmp_path / "store")

    def test_other_tasks_on_new_classes(self, data, tmp_path):
        store = Store(tmp_path)
        config = resolve("linear_readout", {"training": {"batch_size": 4}}, "test")
        with raises("mini_imagenet data", "6 classes to train on, 6 to test on", "same class"):
            run(
                "linear_readout", backbone_in(store), data, config, seed=0, store=store,
                execution=QUIET,
            )  # fmt: skip

    def test_shots_larger_than_a_class(self, data):
        changed = {"episodes": {"shots": [1, 10], "queries": 4}}
        with raises(
            "episodes", "10 shots and 4 queries", "has 12 images", "lower shots or queries"
        ):
            few_shot.Task(configured(**changed), network(), setting(data))

    def test_a_limit_that_leaves_too_few(self, data, tmp_path):
        with raises("episodes", "in the test split", "raise limit where one is set"):
            transfer(data, tmp_path, limit=10)

    def test_fewer_classes_than_ways(self, data):
        with raises("episodes.ways", "7 ways", "has 6 classes", "lower it"):
            few_shot.Task(configured(episodes={"ways": 7, "queries": 1}), network(), setting(data))

    def test_images_without_labels(self, data):
        class Unlabelled:
            def __init__(self, source):
                self.source = source

            def __getattr__(self, name):
                return getattr(self.source, name)

            def __len__(self):
                return len(self.source)

            def label(self, index):
                return None if index == 3 else self.source.label(index)

        bare = Unlabelled(data.open("test"))
        with raises(bare.path(3), "the image has no label", "images that belong to a class"):
            few_shot.Task(configured(), network(), setting(data, test=bare))

    def test_features_that_are_not_finite(self, data, tmp_path):
        backbone = network()
        with torch.no_grad():
            backbone.net.layer4[0].bn1.running_mean[0] = torch.nan
        task = few_shot.Task(configured(), backbone, setting(data))
        with raises(data.open("test").path(0), "its features at layer4 are not finite"):
            task.predict(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_more_than_one_level(self, data, tmp_path):
        config = configured(features={**SMALL["features"], "levels": ["layer3", "layer4"]})
        with raises("features.levels", "layer3, layer4", "one level"):
            few_shot.Task(config, network(), setting(data)).predict(tmp_path)
