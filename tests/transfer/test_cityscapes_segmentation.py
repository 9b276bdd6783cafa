"""Segmentation as on Cityscapes: its settings, runs on the world's cities, scores, refusals."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch
from tests.oracles import mean_iou as oracle
from tests.transfer import painted

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.model import Level
from whytransfer.core.config import assumptions
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.predictions import LabelMaps, read_label_maps, write_label_maps
from whytransfer.data.sample import IGNORED
from whytransfer.data.world import streets
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.pixels import PixelViews, require_crop
from whytransfer.transfer.parts.segmentation_score import measure_folder
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Setting
from whytransfer.transfer.tasks import semantic_segmentation
from whytransfer.transfer.tasks.cityscapes_segmentation import Config, Task

NETWORK = Architecture(name="resnet10", width=8, stem_pool=False)
SMALL = {
    "segmenter": {"channels": 8, "auxiliary_channels": 8, "rates": [1, 2], "output_stride": 8},
    "views": {"crop_px": [32, 64]},
    "test_batch_size": 2,
    "num_draws": 20,
    "training": {"batch_size": 4, "steps": 2},
}


@pytest.fixture(scope="module")
def cities(tmp_path_factory):
    root = tmp_path_factory.mktemp("cities")
    made = streets.Config(layout="cityscapes", num_images=8, num_val=4, width_px=96, height_px=48)
    streets.write(root, made, 0)
    data = from_spec({**streets.dataset(made), "root": str(root)}, None, "test")
    return data.open("train"), data.open("test")


def backbone(architecture=NETWORK):
    return build(architecture, Stream(0, "b"))


def make(cities, workers=0, **values):
    config = resolve("cityscapes_segmentation", {**SMALL, **values}, "test")
    return Task(config, backbone(), Setting(*cities, seed=0, workers=workers))


def context(step=0):
    return Context(step=step, seed=0, gather=lambda x: x)


class TestSettings:
    def test_what_the_paper_fixes_is_fixed_and_all_else_is_assumed(self):
        config, open_fields = Config(), {a.field: a.value for a in assumptions(Config())}
        fixed = {
            "training.steps": 40000, "training.batch_size": 8, "training.sgd.lr": 0.01,
            "training.schedule.kind": "poly", "views.crop_px": (512, 1024),
            "segmenter.bn_group_size": None,
        }  # fmt: skip
        for path, value in fixed.items():
            found = config
            for name in path.split("."):
                found = getattr(found, name)
            assert found == value and path not in open_fields
        assert open_fields == {
            "training.sgd.momentum": 0.9, "training.sgd.weight_decay": 5e-4,
            "training.schedule.power": 0.9, "training.schedule.floor": 0.01,
            "training.schedule.warmup_steps": 0, "segmenter.output_stride": 8,
            "segmenter.rates": [12, 24, 36], "segmenter.channels": 512,
            "segmenter.fusion": "3x3", "segmenter.dropout_p": 0.1,
            "segmenter.auxiliary_weight": 0.4, "segmenter.auxiliary_channels": 256,
            "views.base_px": None, "views.scale": [0.5, 2.0], "views.max_class_share": 0.75,
            "views.flip_p": 0.5, "views.photometric": True, "views.test_scales": [1.0],
            "views.test_flip": False,
        }  # fmt: skip

    def test_nothing_but_what_is_assumed_differs_from_the_generic_task(self):
        assert Task is semantic_segmentation.Task
        assert Config().model_dump() == semantic_segmentation.Config().model_dump()

    @pytest.mark.parametrize("stride", [8, 16])
    def test_the_output_stride_is_a_field(self, cities, stride):
        task = make(cities, segmenter={**SMALL["segmenter"], "output_stride": stride})
        assert task.model.backbone.levels[-1].stride == stride
        batch = next(task.batches(0))
        middle, last = task.model._maps(batch)
        assert last.shape[2:] == (32 // stride, 64 // stride)
        assert middle.shape[2:] == (4, 8)


class TestRun:
    def test_it_trains_on_the_worlds_cities_and_absent_classes_are_undefined(
        self, cities, tmp_path
    ):
        task = make(cities)
        losses = []
        optimiser = torch.optim.SGD(task.model.parameters(), lr=0.01)
        for step, batch in enumerate(task.batches(0)):
            scalars = task.model.loss(batch, context(step))
            optimiser.zero_grad()
            scalars["loss"].backward()
            optimiser.step()
            losses.append(scalars["loss"].item())
        assert len(losses) == 2 and np.isfinite(losses).all()
        task.predict(tmp_path)
        metrics = {m.name: m for m in Task.score(tmp_path, task.config)}
        maps = [read_label_maps(tmp_path / file) for file in (PREDICTIONS, TRUTH)]
        pairs = [[m.read(i) for i in range(len(m.names))] for m in maps]
        iou = oracle.class_iou(oracle.confusion(*pairs, 19))
        assert any(np.isnan(iou))
        for name, value in zip(cities[1].classes, iou, strict=True):
            metric = metrics[f"IoU[{name}]"]
            if np.isnan(value):
                assert metric.value is None and metric.interval == "none: undefined"
            else:
                assert metric.value == pytest.approx(100 * value)
        assert metrics["mIoU"].value == pytest.approx(100 * np.nanmean(iou))
        assert next(iter(metrics)) == "mIoU" and metrics["mIoU"].n == 4

    def test_workers_and_the_size_of_test_batches_change_nothing(self, cities, tmp_path):
        alone, helped = make(cities), make(cities, workers=2, test_batch_size=1)
        for one, other in zip(alone.batches(0), helped.batches(0), strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        for name, task in (("a", alone), ("b", helped)):
            (tmp_path / name).mkdir()
            task.predict(tmp_path / name)
        for file in (PREDICTIONS, TRUTH):
            one, other = (read_label_maps(tmp_path / name / file) for name in ("a", "b"))
            assert one.names == other.names
            same = [np.mean(one.read(i) == other.read(i)) for i in range(len(one.names))]
            assert min(same) == 1.0 if file == TRUTH else min(same) > 0.999

    def test_predictions_are_made_image_by_image(self, cities, tmp_path):
        """Of two halves of the images, each half's maps are those of the whole."""
        task = make(cities, test_batch_size=1)
        task.predict(tmp_path)
        whole = read_label_maps(tmp_path / PREDICTIONS)

        class Half(type(cities[1])):
            pass

        part = cities[1]
        half = Half(part._root, part._part, part._frames[2:], part._with_instances)
        task.setting = dataclasses.replace(task.setting, test=half)
        (tmp_path / "half").mkdir()
        task.predict(tmp_path / "half")
        found = read_label_maps(tmp_path / "half" / PREDICTIONS)
        assert found.names == whole.names[2:]
        for number in range(2):
            assert np.array_equal(found.read(number), whole.read(number + 2))


class TestTestViews:
    def predict(self, task, cities, **views):
        task.config = task.config.model_copy(
            update={"views": task.config.views.model_copy(update=views)}
        )
        batch = next(iter_test(task))
        return batch, task.model.predict(batch, task.config.views.test_scales, views["test_flip"])

    def test_probabilities_are_averaged_over_scales_and_mirrored_images(self, cities):
        task = make(cities)
        task.model.eval()
        batch, found = self.predict(task, cities, test_scales=(1.0, 1.5), test_flip=True)
        for row in range(len(batch.images)):
            total = 0
            for scale in (1.0, 1.5):
                size = (round(48 * scale), round(96 * scale))
                pixels = batch.images[row : row + 1].permute(0, 3, 1, 2).double()
                image = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear")
                for flip in (False, True):
                    shown = image.flip(3) if flip else image
                    total = total + probabilities(task.model, shown, flip, (48, 96))
            expected = total.argmax(dim=0).numpy()
            assert (found[row] == expected).mean() > 0.995

    def test_one_scale_without_mirroring_is_the_plain_test(self, cities):
        task = make(cities)
        task.model.eval()
        batch, plain = self.predict(task, cities, test_scales=(1.0,), test_flip=False)
        again = task.model.predict(batch)
        assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))
        _, mirrored = self.predict(task, cities, test_scales=(1.0,), test_flip=True)
        flipped = batch._replace(images=batch.images.flip(2))
        for a, b in zip(mirrored, task.model.predict(flipped, (1.0,), True), strict=True):
            assert (a == b[:, ::-1]).mean() > 0.999  # a mirrored test sees no difference


def iter_test(task):
    from whytransfer.data.loader import in_order
    from whytransfer.transfer.parts.pixels import TestPixels, collate

    test = task.setting.test
    return in_order(TestPixels(test, task.config.views), len(test), 2, collate, 0)


def probabilities(model, images, flip, size):
    """Of one image, at its original size and the right way round."""
    normalised = model.backbone.preprocessing.normalise(images.permute(0, 2, 3, 1).float())
    with torch.no_grad():
        logits = model.head(model.backbone.features(normalised))
    logits = logits.flip(3) if flip else logits
    for to in (images.shape[-2:], size):
        logits = torch.nn.functional.interpolate(logits, size=to, mode="bilinear")
    return logits[0].softmax(dim=0)


class TestScore:
    def write(self, folder, true, found, classes):
        names = [str(number) for number in range(len(true))]
        write_label_maps(folder / TRUTH, names, classes, true)
        write_label_maps(folder / PREDICTIONS, names, classes, found)
        return measure_folder(folder).at(None)

    def test_the_truth_itself_scores_100(self, cities, tmp_path):
        test = cities[1]
        true = [test.segmentation(i).labels for i in range(len(test))]
        # Where nothing counts, a prediction may say anything.
        found = [np.where(labels == IGNORED, 5, labels).astype(np.uint8) for labels in true]
        values = self.write(tmp_path, true, found, test.classes)
        assert values["mIoU"] == 100 and values["pixel_accuracy"] == 100
        shown = {int(label) for labels in true for label in np.unique(labels)} - {IGNORED}
        for number, name in enumerate(test.classes):
            value = values[f"IoU[{name}]"]
            assert value == 100 if number in shown else np.isnan(value)

    def test_random_labels_are_at_chance(self, cities, tmp_path):
        """A class of share s, as which one pixel in C is taken, has IoU s / (1 + (C − 1) s)."""
        test = cities[1]
        true = [test.segmentation(i).labels for i in range(len(test))]
        stream = Stream(0, "random")
        found = [stream.integers(t.size, 19).reshape(t.shape).astype(np.uint8) for t in true]
        values = self.write(tmp_path, true, found, test.classes)
        counts = np.bincount(np.concatenate([t.ravel() for t in true]), minlength=256)[:19]
        share = counts / counts.sum()
        expected = 100 * np.mean(share / (1 + 18 * share))
        assert values["mIoU"] == pytest.approx(expected, rel=0.1)
        assert values["pixel_accuracy"] == pytest.approx(100 / 19, abs=0.6)

    def test_one_pair_of_maps_is_in_memory_at_a_time(self, tmp_path, monkeypatch):
        maps = [np.zeros((8, 9), np.uint8) for _ in range(12)]
        alive, most, read = [], [], LabelMaps.read

        def watched(self, number):
            labels = read(self, number)
            alive.append(weakref.ref(labels))
            most.append(sum(reference() is not None for reference in alive))
            return labels

        monkeypatch.setattr(LabelMaps, "read", watched)
        self.write(tmp_path, maps, maps, ("a", "b"))
        assert len(most) == 24 and max(most) <= 4


class TestRefusals:
    def test_a_crop_that_no_image_fills(self, cities):
        with pytest.raises(InputError) as caught:
            make(cities, views={})
        assert str(caught.value) == (
            "views.crop_px: is 512 by 1024 (height by width), and no training image is as large: "
            "the largest is 96 by 192 at scale 2; expected at most the size of an image; make "
            "crop_px smaller, or set views.base_px"
        )
        require_crop(cities[0], PixelViews(crop_px=(96, 192)))
        require_crop(cities[0], PixelViews(crop_px=(512, 1024), base_px=(1024, 2048)))
        for crop in ((97, 10), (10, 193)):
            with pytest.raises(InputError, match=r"views\.crop_px"):
                require_crop(cities[0], PixelViews(crop_px=crop))

    def test_a_backbone_without_stages_names_what_it_can_do(self, cities):
        like = backbone()
        like.levels = (Level("patches", 384, 16), Level("block12", 384, 16))
        config = resolve("cityscapes_segmentation", SMALL, "test")
        with pytest.raises(InputError, match=r"its levels are patches, block12.*linear_readout"):
            Task(config, like, Setting(*cities))

    def test_a_small_stem_and_a_deep_one(self, cities):
        config = resolve("cityscapes_segmentation", SMALL, "test")
        for stem, found in (
            (torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), "3×3"),
            (torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), "several convolutions"),
        ):
            other = backbone()
            other.net.conv1 = stem
            with pytest.raises(InputError, match=f"a stem of {found}.*one 7×7 convolution"):
                Task(config, other, Setting(*cities))

    def test_a_stride_that_no_stage_has(self, cities):
        odd = backbone()
        odd.levels = tuple(
            dataclasses.replace(level, stride=3 * level.stride) for level in odd.levels
        )
        config = resolve("cityscapes_segmentation", SMALL, "test")
        with pytest.raises(InputError, match=r"output_stride: is 8.*\[6, 12, 24, 48\]"):
            Task(config, odd, Setting(*cities))

    def test_scores_that_are_not_finite(self, cities, tmp_path):
        task = make(cities)
        with torch.no_grad():
            task.model.head.classify.bias[3] = float("nan")
        with pytest.raises(InputError, match=r"test image 0: .*not finite.*diverged"):
            task.predict(tmp_path)
        assert not (tmp_path / PREDICTIONS).exists()

    def test_data_without_labels(self, cities):
        class Bare(type(cities[0])):
            def segmentation(self, index):
                return None

        part = cities[0]
        bare = Bare(part._root, part._part, part._frames, False)
        config = resolve("cityscapes_segmentation", SMALL, "test")
        with pytest.raises(InputError, match="its pixels have no labels"):
            Task(config, backbone(), Setting(bare, cities[1]))


def test_it_learns_what_it_is_shown(tmp_path):
    """A few pictures by heart, through the whole recipe but its length."""
    painted.write(tmp_path / "files", {"train": 4})
    source = painted.open(painted.Config(root=tmp_path / "files"), "train")
    values = {
        "segmenter": {**SMALL["segmenter"], "channels": 16},
        "views": {"crop_px": [48, 64], "scale": [1.0, 1.0], "photometric": False},
        "training": {"batch_size": 4, "steps": 120},
    }
    task = make((source, source), **values)
    optimiser = torch.optim.SGD(task.model.parameters(), lr=0.05, momentum=0.9)
    for step, batch in enumerate(task.batches(0)):
        optimiser.zero_grad()
        task.model.loss(batch, context(step))["loss"].backward()
        optimiser.step()
    task.predict(tmp_path)
    assert measure_folder(tmp_path).at(None)["mIoU"] > 75
