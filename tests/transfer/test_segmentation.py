"""The segmenter: dilation and head against other people's, loss, views, files; it learns."""

import json
import pickle
from functools import partial

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.transfer import painted

from whytransfer.backbone import artifact
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import assumptions
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data import predictions, sample
from whytransfer.data.dataset import from_spec
from whytransfer.data.world import streets
from whytransfer.ops import mean_iou
from whytransfer.train.learner import Context
from whytransfer.train.norm import GroupedBatchNorm2d
from whytransfer.transfer.parts.deeplab import DeepLabConfig, PyramidHead, Segmenter
from whytransfer.transfer.parts.dilated import dilate
from whytransfer.transfer.parts.pixels import (
    Photometry,
    PixelScene,
    PixelViews,
    TestPixels,
    TrainingPixels,
    collate,
    distort,
    labels_of,
    sample_photometry,
    scaled_size,
    training_view,
)
from whytransfer.transfer.parts.segmentation_score import measure_folder
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Setting
from whytransfer.transfer.tasks.semantic_segmentation import Config, Task

SMALL = {
    "segmenter": {"channels": 16, "auxiliary_channels": 8, "rates": [1, 2], "output_stride": 8},
    "views": {"crop_px": [32, 48], "scale": [0.8, 1.25]},
    "test_batch_size": 4,
    "num_draws": 20,
}
TINY = Architecture(name="resnet10", width=8, stem_pool=False)


def backbone(architecture=TINY, seed=0):
    return build(architecture, Stream(seed, "b"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("painted")
    painted.write(root, {"train": 16, "test": 6})
    return tuple(painted.open(painted.Config(root=root), split) for split in ("train", "test"))


def context(step=0):
    return Context(step=step, seed=0, gather=lambda x: x)


class TestDilation:
    @pytest.mark.parametrize("stride", [8, 16])
    @pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
    def test_is_timms(self, name, stride):
        """The same weights in a network that timm itself builds with that stride."""
        from timm.models import resnet

        own = backbone(Architecture(name=name))
        block = resnet.Bottleneck if own.architecture.bottleneck else resnet.BasicBlock
        depths = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
        other = resnet.ResNet(block, depths[name], num_classes=0, output_stride=stride)
        missing, unknown = other.load_state_dict(own.net.state_dict(), strict=True)
        assert not missing and not unknown
        dilate(own, stride)
        own.eval(), other.eval()
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, expected = own.features(images), other.forward_features(images)
        assert found.shape[-2:] == (64 // stride, 96 // stride)
        assert torch.equal(found, expected)
        assert own.levels[-1].stride == stride

    def test_is_torchvisions(self):
        from torchvision.models import resnet50

        own = backbone(Architecture(name="resnet50"))
        other = resnet50(replace_stride_with_dilation=[False, True, True])
        other.fc = torch.nn.Identity()
        other.load_state_dict(own.net.state_dict())
        dilate(own, 8)
        own.eval(), other.eval()
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(own(images), other(images))

    def test_keeps_names_shapes_and_weights_so_that_it_is_saved_as_any_backbone(self, tmp_path):
        dilated, plain = backbone(), backbone()
        dilate(dilated, 8)
        artifact.save(tmp_path, dilated, {})
        read = artifact.load(tmp_path)
        images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        read.eval(), plain.eval()
        with torch.no_grad():
            assert torch.equal(read(images), plain(images))
        assert read.levels == plain.levels

    def test_of_its_own_stride_changes_nothing(self):
        own = backbone()
        before = str(own.net), own.levels
        dilate(own, own.levels[-1].stride)
        assert (str(own.net), own.levels) == before

    def test_an_unknown_stride_is_refused(self):
        with pytest.raises(ValueError, match=r"no level has stride 5: there are \[2, 4, 8, 16\]"):
            dilate(backbone(), 5)


class TestHead:
    def test_is_torchvisions(self):
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        config = DeepLabConfig(rates=(2, 4, 6), channels=256, fusion="1x1-3x3")
        own = PyramidHead(24, 5, config).eval()
        other = DeepLabHead(24, 5, (2, 4, 6)).eval()
        aspp = other[0]
        parts = [*zip(own.branches, aspp.convs[:4], strict=True), (own.fuse[0], aspp.project)]
        for mine, theirs in parts:
            theirs[0].load_state_dict(mine[0].state_dict())
            mine[1].running_mean.uniform_(-0.1, 0.1)
            theirs[1].load_state_dict(mine[1].state_dict())
        aspp.convs[4][1].load_state_dict(own.pooled[0].state_dict())
        aspp.convs[4][2].load_state_dict(own.pooled[1].state_dict())
        other[1].load_state_dict(own.fuse[1][0].state_dict())
        other[2].load_state_dict(own.fuse[1][1].state_dict())
        other[4].load_state_dict(own.classify.state_dict())
        features = torch.randn(2, 24, 9, 13, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(own(features), other(features))

    def test_three_by_three_fusion_is_one_convolution_of_the_joined_branches(self):
        config = DeepLabConfig(rates=(2,), channels=6)
        head = PyramidHead(4, 3, config).eval()
        features = torch.randn(2, 4, 7, 5, generator=torch.Generator().manual_seed(0))

        def unit(part, x, **how):
            return F.relu(part[1](F.conv2d(x, part[0].weight, **how)))

        mean = unit(head.pooled, F.adaptive_avg_pool2d(features, 1))
        branches = [
            unit(head.branches[0], features),
            unit(head.branches[1], features, padding=2, dilation=2),
            F.interpolate(mean, size=(7, 5), mode="bilinear", align_corners=False),
        ]
        fused = unit(head.fuse, torch.cat(branches, dim=1), padding=1)
        expected = F.conv2d(fused, head.classify.weight, head.classify.bias)
        with torch.no_grad():
            torch.testing.assert_close(head(features), expected)

    def test_a_dropped_channel_does_not_count(self):
        torch.manual_seed(0)  # other weights can leave the channel at 0 everywhere
        head = PyramidHead(4, 3, DeepLabConfig(rates=(2,), channels=6)).eval()
        features = torch.randn(2, 4, 7, 5, generator=torch.Generator().manual_seed(0))
        kept = torch.ones(2, 6)
        kept[1, 2] = 0
        with torch.no_grad():
            dropped, whole = head(features, kept), head(features, torch.ones(2, 6))
            assert torch.equal(whole, head(features))
            assert torch.equal(dropped[0], whole[0]) and not torch.equal(dropped[1], whole[1])
            head.classify.weight[:, 2] = 0
            torch.testing.assert_close(head(features, kept), head(features))


class TestSegmenter:
    def make(self, **settings):
        config = DeepLabConfig(
            **{"channels": 8, "auxiliary_channels": 4, "rates": (1, 2), "dropout_p": 0.0} | settings
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Segmenter(backbone(), len(painted.CLASSES), config)

    def batch(self, sources, rows=range(4)):
        views = PixelViews(crop_px=(32, 48), scale=(0.5, 0.7))  # smaller than a crop: padded
        item = TrainingPixels(sources[0], views, 0)
        return collate([item(0, row) for row in rows], views.crop_px)

    def test_the_loss_is_the_plain_sum_over_pixels_that_count(self, sources):
        model, batch = self.make(auxiliary_weight=0.4).double().eval(), self.batch(sources)
        scalars = model.loss(batch, context())
        middle, last = model._maps(batch)
        labels = batch.labels.numpy()
        expected = []
        for logits in (model.head(last), model.auxiliary(middle)):
            shown = F.interpolate(logits, size=(32, 48), mode="bilinear")
            logp = shown.log_softmax(dim=1).detach().numpy()
            total = -sum(
                logp[n, labels[n, y, x], y, x]
                for n, y, x in np.ndindex(labels.shape) if labels[n, y, x] != sample.IGNORED
            )  # fmt: skip
            expected.append(total / labels.size)
        assert (labels == sample.IGNORED).any()
        assert scalars["loss_pixels"].item() == pytest.approx(expected[0], rel=1e-12)
        assert scalars["loss_auxiliary"].item() == pytest.approx(expected[1], rel=1e-12)
        assert scalars["loss"].item() == pytest.approx(expected[0] + 0.4 * expected[1], rel=1e-12)

    def test_the_mean_over_the_parts_of_a_batch_is_the_loss_of_the_batch(self, sources):
        model = self.make(dropout_p=0.3).eval()
        whole = model.loss(self.batch(sources), context())["loss"].item()
        parts = [model.loss(self.batch(sources, rows), context()) for rows in ((0, 1), (2, 3))]
        assert np.mean([part["loss"].item() for part in parts]) == pytest.approx(whole, rel=1e-5)

    def test_without_weight_there_is_no_auxiliary_classifier(self, sources):
        model = self.make(auxiliary_weight=0.0)
        assert model.auxiliary is None
        scalars = model.loss(self.batch(sources), context())
        assert torch.equal(scalars["loss"], scalars["loss_pixels"])

    def test_padding_moves_no_pixel_of_the_prediction_far_from_it(self, sources):
        """What is outside the image enters as zeros whatever the file has there."""
        model = self.make(rates=(1,)).eval()
        scene = TestPixels(sources[1], PixelViews())(0, 0)
        one = collate([scene], (64, 96))
        other = one._replace(images=one.images.clone())
        other.images[:, 48:] = 255
        other.images[:, :, 64:] = 255
        assert all(
            np.array_equal(a, b) for a, b in zip(*map(model.predict, (one, other)), strict=True)
        )
        assert model.predict(one)[0].shape == (48, 64)

    def test_groups_are_of_images_in_backbone_and_heads(self):
        model = self.make(bn_group_size=2)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert all(isinstance(n, GroupedBatchNorm2d) and n.group_size == 2 for n in norms)
        assert len(norms) > 12

    def test_dropout_depends_on_step_and_image_alone(self, sources):
        model, batch = self.make(dropout_p=0.5), self.batch(sources)
        kept = partial(model._kept, "dropout", 64)
        first = kept(batch, context(3), batch.images.float())
        part = kept(self.batch(sources, (2, 3)), context(3), batch.images.float())
        assert torch.equal(first[2:], part)
        assert set(first.unique().tolist()) == {0.0, 2.0}
        assert not torch.equal(first, kept(batch, context(4), batch.images.float()))


PALETTE = np.array([[200, 10, 30], [20, 220, 70], [60, 40, 180], [140, 130, 250]], dtype=np.uint8)


@st.composite
def drawn_views(draw):
    side = st.integers(4, 40)
    low = draw(st.floats(0.3, 1.5))
    views = PixelViews(
        crop_px=(draw(side), draw(side)),
        base_px=draw(st.none() | st.tuples(side, side)),
        scale=(low, low + draw(st.floats(0, 1))),
        max_class_share=draw(st.sampled_from([0.6, 0.75, 1.0])),
        photometric=False,
    )
    stream = Stream(draw(st.integers(0, 10**6)), "labels")
    coarse = stream.integers(9, 4).reshape(3, 3).astype(np.uint8)
    labels = np.kron(coarse, np.ones((draw(st.integers(3, 12)), draw(st.integers(3, 12)))))
    return views, labels.astype(np.uint8), stream.uniform(33).tolist()


class TestViews:
    @settings(max_examples=150, deadline=None)
    @given(drawn_views())
    def test_labels_move_with_their_image(self, case):
        """A pixel that has exactly the colour of a class must have its label."""
        views, labels, draws = case
        image, moved = training_view(PALETTE[labels], labels, views, draws)
        assert image.shape == (*moved.shape, 3)
        pure = (image[:, :, None] == PALETTE).all(axis=-1)
        rows, columns, classes = np.nonzero(pure)
        assert len(rows) > 0
        np.testing.assert_array_equal(moved[rows, columns], classes)

    @settings(max_examples=100, deadline=None)
    @given(drawn_views())
    def test_sizes_follow_from_base_scale_and_crop(self, case):
        views, labels, draws = case
        low, high = views.scale
        size = scaled_size(labels.shape, views.base_px, low + draws[0] * (high - low))
        _, moved = training_view(PALETTE[labels], labels, views, draws)
        assert moved.shape == tuple(min(a, b) for a, b in zip(size, views.crop_px, strict=True))
        if views.base_px:
            fitted = scaled_size(labels.shape, views.base_px, 1.0)
            assert max(fitted) <= max(views.base_px) and min(fitted) <= min(views.base_px)

    def test_a_crop_of_one_class_is_drawn_again(self):
        labels = np.zeros((40, 40), dtype=np.uint8)
        labels[:, 32:] = 1
        image = PALETTE[labels]
        views = PixelViews(crop_px=(16, 16), scale=(1.0, 1.0), flip_p=0.0, photometric=False)
        free = views.model_copy(update={"max_class_share": 1.0})
        shares = {0.75: [], 1.0: []}
        for seed in range(60):
            draws = Stream(seed, "v").uniform(33).tolist()
            for chosen in (views, free):
                _, crop = training_view(image, labels, chosen, draws)
                shares[chosen.max_class_share].append(max(crop.mean(), 1 - crop.mean()))
        # 4 of 25 places will do: one try in six, and five times in six one of eleven.
        assert np.mean(np.array(shares[0.75]) < 0.75) > 0.7
        assert np.mean(np.array(shares[1.0]) < 0.75) < 0.4

    def test_is_a_function_of_seed_epoch_and_index(self, sources):
        views = PixelViews(crop_px=(32, 32))
        item, other = (TrainingPixels(sources[0], views, seed) for seed in (0, 1))
        first = item(2, 3)
        np.testing.assert_array_equal(first.image, item(2, 3).image)
        np.testing.assert_array_equal(first.labels, item(2, 3).labels)
        assert not np.array_equal(first.image, item(3, 3).image)
        assert not np.array_equal(first.image, other(2, 3).image)
        assert first.original == (48, 64) and first.index == 3

    def test_the_test_view_is_the_whole_image(self, sources):
        scene = TestPixels(sources[1], PixelViews())(0, 1)
        np.testing.assert_array_equal(scene.image, sources[1][1].image)
        scaled = TestPixels(sources[1], PixelViews(base_px=(24, 100)))(0, 1)
        assert scaled.image.shape == (24, 32, 3) and scaled.original == (48, 64)

    def test_a_batch_is_padded_with_what_does_not_count(self):
        small = PixelScene(np.full((2, 3, 3), 7, np.uint8), np.ones((2, 3), np.uint8), 5, (9, 9))
        batch = collate([small], (4, 4))
        assert batch.images.shape == (1, 4, 4, 3) and batch.sizes_px == ((2, 3),)
        assert (batch.labels[0, :2, :3] == 1).all()
        assert (batch.labels[0, 2:] == sample.IGNORED).all()
        assert (batch.labels[0, :, 3:] == sample.IGNORED).all()

    def test_masks_of_another_size_or_none_are_refused(self, sources):
        class Odd(type(sources[0])):
            def segmentation(self, index):
                return sample.Segmentation(np.zeros((3, 3), np.uint8)) if index else None

        odd = Odd(sources[0].folder, sources[0].names)
        item = TrainingPixels(odd, PixelViews(), 0)
        with pytest.raises(InputError, match="its pixels have no labels"):
            item(0, 0)
        with pytest.raises(InputError, match=r"is \(48, 64\), its labels \(3, 3\)"):
            item(0, 1)


class TestColours:
    def image(self):
        return Stream(0, "image").integers(6 * 5 * 3, 256).reshape(6, 5, 3).astype(np.uint8)

    def test_brightness_and_contrast_are_cut_off_sums_and_products(self):
        image = self.image()
        for change, expected in (
            (Photometry(brightness=20.5), image + 20.5),
            (Photometry(contrast=1.4), image * 1.4),
            (Photometry(contrast=0.6, contrast_first=False), image * 0.6),
        ):
            difference = distort(image, change) - np.clip(expected, 0, 255)
            assert (difference <= 1e-4).all() and (difference > -1).all()

    def test_saturation_and_hue_are_those_of_hsv(self):
        image = self.image()
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float64)
        hsv[..., 1] = np.floor(np.clip(hsv[..., 1] * 1.3, 0, 255))
        hsv[..., 0] = (hsv[..., 0] - 12) % 180
        expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
        found = distort(image, Photometry(saturation=1.3, hue=-12))
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert np.array_equal(distort(image, Photometry()), image)

    def test_each_property_changes_half_the_time_within_its_range(self):
        drawn = [sample_photometry(Stream(s, "p").uniform(9).tolist()) for s in range(400)]
        for name, low, high in (
            ("brightness", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5),
            ("hue", -18, 18),
        ):  # fmt: skip
            values = [getattr(p, name) for p in drawn if getattr(p, name) is not None]
            assert 150 < len(values) < 250
            assert low <= min(values) and max(values) <= high
            assert max(values) - min(values) > 0.8 * (high - low)
        assert 150 < sum(p.contrast_first for p in drawn) < 250


class TestFiles:
    def test_come_back_as_they_were_whatever_the_size(self, tmp_path):
        stream = Stream(0, "maps")
        sizes = [(3, 4), (1, 1), (20, 7)]
        maps = [
            np.array([0, 1, 2, 255], np.uint8)[stream.integers(h * w, 4).reshape(h, w)]
            for h, w in sizes
        ]
        path = tmp_path / "predictions.json"
        predictions.write_label_maps(path, ["a", "b/1", "ü"], ["x", "y", "z"], iter(maps))
        read = predictions.read_label_maps(path)
        assert read.names == ("a", "b/1", "ü") and read.classes == ("x", "y", "z")
        for number, expected in enumerate(maps):
            np.testing.assert_array_equal(read.read(number), expected)

    def folder(self, tmp_path):
        maps = [np.zeros((2, 2), np.uint8), np.ones((2, 3), np.uint8)]
        for file in (PREDICTIONS, TRUTH):
            predictions.write_label_maps(tmp_path / file, ["a", "b"], ["x", "y"], maps)
        return tmp_path

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c["rows"].pop(), "the image 'b' has no prediction"),
            (lambda c: c["rows"].append(c["rows"][0]), "the image 'a' stands twice"),
            (
                lambda c: c["rows"].append({**c["rows"][0], "image": "c"}),
                "the image 'c' is not in the truth",
            ),
            (lambda c: c["classes"].reverse(), "has the classes y, x; expected those of the truth"),
            (lambda c: c["rows"][0].update(map="no.png"), "no.png: no such file"),
            (lambda c: c["rows"][0].update(map=TRUTH), "can't be read as a label map"),
            (lambda c: c["rows"][0].update(map="truth/000001.png"), r"is \(2, 3\), the truth"),
            (lambda c: c.update(kind="other"), "begins with"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, change, message):
        path = self.folder(tmp_path) / PREDICTIONS
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            measure_folder(tmp_path)

    def test_a_value_that_is_no_class_is_named(self, tmp_path):
        folder = self.folder(tmp_path)
        cv2.imencode(".png", np.full((2, 2), 9, np.uint8))[1].tofile(folder / "truth/000000.png")
        with pytest.raises(InputError, match="has a pixel of value 9; expected numbers of the 2"):
            measure_folder(folder)

    def test_the_two_names_of_what_does_not_count_are_one(self):
        assert mean_iou.IGNORED == sample.IGNORED


class TestTask:
    def make(self, sources, **values):
        config = resolve("semantic_segmentation", {**SMALL, **values}, "test")
        return Task(config, backbone(), Setting(*sources, seed=0))

    def test_learns_and_its_files_score_far_above_chance(self, sources, tmp_path):
        training = {"batch_size": 4, "steps": 60, "sgd": {"lr": 0.05}}
        task = self.make(sources, training=training)
        optimiser = torch.optim.SGD(task.model.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for step, batch in zip(range(60), task.batches(0), strict=True):
            scalars = task.model.loss(batch, context(step))
            optimiser.zero_grad()
            scalars["loss"].backward()
            optimiser.step()
            losses.append(scalars["loss"].item())
        assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
        task.finish()
        task.predict(tmp_path)
        scores = {m.name: m for m in Task.score(tmp_path, task.config)}
        assert [*scores] == ["mIoU", "pixel_accuracy", *(f"IoU[{c}]" for c in painted.CLASSES)]
        assert scores["mIoU"].value > 45 and scores["mIoU"].n == 6
        assert scores["mIoU"].low < scores["mIoU"].value < scores["mIoU"].high
        # The score reads the files alone.
        assert {p.name for p in tmp_path.iterdir()} == {
            "predictions", "predictions.json", "truth", "truth.json",
        }  # fmt: skip

    def test_batches_from_a_later_step_are_those_of_the_whole_run(self, sources):
        task = self.make(sources, training={"batch_size": 4, "steps": 7})
        whole = list(task.batches(0))
        assert len(whole) == 7
        for late, batch in zip(task.batches(5), whole[5:], strict=True):
            assert torch.equal(late.images, batch.images)
            assert torch.equal(late.labels, batch.labels)
        assert whole[0].images.shape == (4, 32, 48, 3)

    def test_what_reads_an_image_can_be_sent_to_another_process(self, sources):
        item = TrainingPixels(sources[0], PixelViews(crop_px=(32, 48)), 0)
        here, apart = item(1, 2), pickle.loads(pickle.dumps(item))(1, 2)
        np.testing.assert_array_equal(here.image, apart.image)
        np.testing.assert_array_equal(here.labels, apart.labels)

    def test_runs_on_synthias_streets_where_absent_classes_have_no_value(self, tmp_path):
        made = streets.Config(num_images=20, width_px=96, height_px=57)
        streets.write(tmp_path / "files", made, 0)
        spec = {**streets.dataset(made), "root": str(tmp_path / "files")}
        data = from_spec(spec, None, "test")
        split = data.open("train"), data.open("test")
        task = self.make(split, training={"batch_size": 4, "steps": 1})
        loss = task.model.loss(next(task.batches(0)), context())["loss"]
        assert loss.item() == pytest.approx(1.4 * np.log(len(split[0].classes)), rel=0.2)
        task.predict(tmp_path)
        scores = {m.name: m.value for m in Task.score(tmp_path, task.config)}
        shown = {int(c) for i in range(len(split[1])) for c in np.unique(labels_of(split[1], i))}
        absent = [c for n, c in enumerate(split[1].classes) if n not in shown]
        assert absent and scores["mIoU"] is not None
        assert all(scores[f"IoU[{c}]"] in (None, 0.0) for c in absent)

    def test_test_batches_of_equal_images_do_not_move_predictions(self, sources, tmp_path):
        maps = []
        for size in (1, 4):
            task = self.make(sources, training={"batch_size": 4}, test_batch_size=size)
            folder = tmp_path / str(size)
            folder.mkdir()
            task.predict(folder)
            read = predictions.read_label_maps(folder / PREDICTIONS)
            maps.append([read.read(i) for i in range(6)])
        same = [np.mean(a == b) for a, b in zip(*maps, strict=True)]
        assert min(same) > 0.99

    def test_bad_settings_and_data_are_refused(self, sources):
        for values, message in (
            ({"training": {"batch_size": 1}}, "needs two images"),
            ({"training": {"batch_size": 6}, "segmenter": {"bn_group_size": 4}}, "multiple of"),
            ({"segmenter": {"bn_group_size": 1}}, "needs two images"),
            ({"views": {"scale": [2.0, 1.0]}}, "the smaller factor first"),
        ):
            with pytest.raises((ValidationError, InputError), match=message):
                resolve("semantic_segmentation", values, "test")
        with pytest.raises(InputError, match="99 is more than the 16 training images"):
            self.make(sources, training={"batch_size": 99})

    def test_of_other_data_than_cityscapes_the_whole_recipe_is_assumed(self):
        open_fields = {a.field for a in assumptions(Config())}
        assert {
            "training.steps", "training.batch_size", "training.sgd.lr", "training.schedule.power",
            "training.sgd.weight_decay", "views.crop_px", "views.scale",
        } < open_fields  # fmt: skip
