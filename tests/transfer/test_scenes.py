"""Images with boxes: resized, flipped and padded, image and boxes alike."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import detector as oracle

from whytransfer.data.sample import Objects, Sample
from whytransfer.transfer.parts.scenes import (
    Scene,
    SceneViews,
    TestScenes,
    TrainingScenes,
    collate,
    flipped,
    resized_size,
)

BOXES = np.array([[10.0, 20, 30, 50], [0, 0, 60, 40], [5, 5, 8, 9]])


class OneImage:
    """A source of a black image with white boxes: which pixels are an object is visible."""

    classes = ("a", "b")

    def __init__(self, height=60, width=80, boxes=BOXES, crowd=(False, False, False)):
        self.image = np.zeros((height, width, 3), dtype=np.uint8)
        x1, y1, x2, y2 = boxes[0].astype(int)
        self.image[y1:y2, x1:x2] = 255
        self._objects = Objects(
            boxes, np.array([1, 0, 1]), np.array([False, True, False]), np.array(crowd),
            np.ones(3),
        )  # fmt: skip

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return Sample(self.image, "one", objects=self._objects)

    def objects(self, index):
        return self._objects


def white(scene):
    """The rectangle that the white pixels fill."""
    rows, columns = np.nonzero(scene.image.numpy().mean(axis=2) > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 2000), width=st.integers(1, 2000), short=st.integers(16, 800),
    longest=st.integers(800, 1333),
)  # fmt: skip
def test_sizes_are_the_reference_resizers(height, width, short, longest):
    found = resized_size(height, width, short, longest)
    expected = oracle.resize_short_side(height, width, short, longest)
    assert found == expected
    assert max(found) <= longest


def test_boxes_follow_resizing_and_flipping():
    views = SceneViews(short_sides_px=(120, 150), max_side_px=1000, flip_p=0.5)
    scenes = [
        TrainingScenes(OneImage(), np.array([0]), views, True, 0)(epoch, 0) for epoch in range(20)
    ]
    assert {scene.image.shape[0] for scene in scenes} == {120, 150}
    flips = set()
    for scene in scenes:
        scale = scene.image.shape[0] / 60
        np.testing.assert_allclose(scene.boxes_xyxy[0], white(scene), atol=1)
        flips.add(round(scene.boxes_xyxy[0, 0].item() / scale))
        assert scene.labels.tolist() == [1, 0, 1]
        assert scene.original == (60, 80)
    assert flips == {10, 50}


def test_a_view_is_a_function_of_seed_epoch_and_image():
    def view(seed, epoch):
        return TrainingScenes(OneImage(), np.array([0]), SceneViews(), True, seed)(epoch, 0)

    assert torch.equal(view(3, 5).image, view(3, 5).image)
    sizes = {
        (view(3, epoch).image.shape, view(3, epoch).boxes_xyxy[0, 0].item()) for epoch in range(9)
    }
    assert len(sizes) > 3
    assert any(view(3, e).image.shape != view(4, e).image.shape for e in range(9))


@settings(max_examples=20, deadline=None)
@given(width=st.integers(4, 20), height=st.integers(3, 20), x=st.integers(0, 3))
def test_flipping_twice_is_nothing(width, height, x):
    scene = Scene(
        torch.arange(width * height * 3, dtype=torch.uint8).reshape(height, width, 3),
        torch.tensor([[float(x), 0.0, x + 1.0, 2.0]]), torch.tensor([0]), 0, (height, width),
    )  # fmt: skip
    twice = flipped(flipped(scene))
    assert torch.equal(twice.image, scene.image)
    assert torch.equal(twice.boxes_xyxy, scene.boxes_xyxy)
    once = flipped(scene)
    assert torch.equal(once.image[:, width - 1 - x], scene.image[:, x])
    assert once.boxes_xyxy[0, 2].item() == width - x


def test_test_view_keeps_the_order_of_objects_and_is_not_flipped():
    scene = TestScenes(OneImage(), SceneViews(test_short_side_px=60))(0, 0)
    assert scene.image.shape == (60, 80, 3)
    np.testing.assert_array_equal(scene.boxes_xyxy.numpy(), BOXES)


def test_crowds_are_never_trained_on_and_difficult_ones_by_choice():
    source = OneImage(crowd=(True, False, False))
    for keep, labels in ((True, [0, 1]), (False, [1])):
        scene = TrainingScenes(source, np.array([0]), SceneViews(), keep, 0)(0, 0)
        assert scene.labels.tolist() == labels


def test_boxes_are_clipped_to_the_image_and_empty_ones_left_out():
    outside = np.array([[-5.0, -5, 30, 30], [79.999999, 0, 90, 40], [70, 50, 95, 70]])
    scene = TestScenes(OneImage(boxes=np.abs(outside)), SceneViews(test_short_side_px=60))(0, 0)
    assert scene.boxes_xyxy[:, 2].max() <= 80
    assert scene.labels.tolist() == [1, 1]


def test_padding_is_at_the_right_and_the_bottom():
    scenes = [
        TestScenes(OneImage(height, width), SceneViews(test_short_side_px=60))(0, 0)
        for height, width in ((60, 80), (90, 60))
    ]
    batch = collate(scenes, multiple_px=32)
    assert batch.images.shape == (2, 96, 96, 3)
    assert batch.sizes_px == ((60, 80), (90, 60))
    assert torch.equal(batch.images[0, :60, :80], scenes[0].image)
    assert not batch.images[0, 60:].any()
    assert not batch.images[1, :, 60:].any()
    assert collate(scenes).images.shape == (2, 90, 80, 3)
    assert batch.originals == ((60, 80), (90, 60))


def test_resizing_is_pils():
    from PIL import Image

    image = (np.arange(60 * 80 * 3) % 251).astype(np.uint8).reshape(60, 80, 3)
    source = OneImage()
    source.image = image
    scene = TestScenes(source, SceneViews(test_short_side_px=90))(0, 0)
    expected = np.asarray(Image.fromarray(image).resize((120, 90), Image.Resampling.BILINEAR))
    assert scene.image.numpy().tolist() == expected.tolist()


def test_defaults_are_the_papers():
    views = SceneViews()
    assert views.short_sides_px == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert (views.max_side_px, views.test_short_side_px, views.flip_p) == (1333, 800, 0.5)
    assert resized_size(375, 500, 800, 1333) == (800, 1067)
    assert resized_size(200, 500, 800, 1333) == (533, 1333)
