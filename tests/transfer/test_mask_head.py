"""The mask head against slow plain code: targets, loss, pasting; and that masks follow pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import masks as oracle

from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.data.masks import Polygons, RunLengths
from whytransfer.data.sample import Objects, Sample
from whytransfer.ops.masks import decode, encode
from whytransfer.transfer.parts.mask_head import MaskConfig, MaskHead, pasted, targets
from whytransfer.transfer.parts.scenes import SceneViews, TrainingScenes, flipped

# pycocotools' own arrays know an older protocol of NumPy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 14


def outlines(stream, num_parts, reach=60.0):
    return Polygons(
        tuple(
            stream.uniform(2 * (3 + stream.integer(5)), 0, reach).reshape(-1, 2)
            for _ in range(num_parts)
        )
    )


def boxes_of(stream, count, reach=60.0):
    corners = stream.uniform(2 * count, 0, 0.6 * reach).reshape(-1, 2)
    sides = stream.uniform(2 * count, 2, 0.5 * reach).reshape(-1, 2)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float()


def blobs(stream, count, height, width):
    """Masks of pixels with smooth edges, as any annotation has."""
    y, x = np.mgrid[:height, :width] + 0.5
    rows = stream.uniform(4 * count).reshape(-1, 4)
    return np.stack(
        [
            ((x / width - a) / (0.2 + c)) ** 2 + ((y / height - b) / (0.2 + d)) ** 2 < 1
            for a, b, c, d in rows
        ]
    )


class TestTargets:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), side=st.sampled_from([4, 14, 28]))
    def test_of_polygons_are_the_references(self, seed, side):
        stream = Stream(seed, "targets")
        shapes = [outlines(stream, number % 4) for number in range(6)]
        boxes = boxes_of(stream, len(shapes))
        found = targets(shapes, boxes, side)
        assert found.dtype == torch.bool
        for shape, box, cells in zip(shapes, boxes, found, strict=True):
            parts = [part.ravel() for part in shape.parts]
            assert np.array_equal(cells, oracle.cropped_polygons(parts, box, side))

    def test_of_pixels_are_the_references(self):
        stream = Stream(0, "pixels")
        masks = blobs(stream, 5, 40, 50)
        shapes = [RunLengths((40, 50), counts) for counts in encode(masks).counts]
        boxes = boxes_of(stream, len(shapes), 40.0)
        for pixels, box, cells in zip(masks, boxes, targets(shapes, boxes, SIDE), strict=True):
            assert np.array_equal(cells, oracle.cropped_pixels(pixels, box.tolist(), SIDE))

    def test_both_kinds_in_one_call_keep_their_places(self):
        square = np.zeros((20, 20), dtype=bool)
        square[:, :10] = True
        pixels = RunLengths((20, 20), encode(square[None]).counts[0])
        drawn = Polygons((np.array([[0.0, 0.0], [20, 0], [20, 10], [0, 10]]),))
        whole = torch.tensor([[0.0, 0.0, 20.0, 20.0]]).repeat(4, 1)
        found = targets([drawn, pixels, Polygons(()), drawn], whole, 4)
        left, upper = torch.zeros(2, 4, 4, dtype=torch.bool)
        left[:, :2], upper[:2] = True, True
        nothing = torch.zeros(4, 4, dtype=torch.bool)
        assert torch.equal(found, torch.stack([upper, left, nothing, upper]))

    def test_a_box_without_a_side_is_no_division_by_zero(self):
        drawn = Polygons((np.array([[0.0, 0.0], [9, 0], [9, 9]]),))
        box = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
        expected = oracle.cropped_polygons([drawn.parts[0].ravel()], box[0], SIDE)
        assert np.array_equal(targets([drawn], box, SIDE)[0], expected)


class TestHead:
    def head(self, num_classes=3, channels=8):
        with seeded_torch(Stream(0, "head")):
            return MaskHead(channels, num_classes, MaskConfig(channels=6))

    def test_it_is_the_references(self):
        with seeded_torch(Stream(0, "head")):
            head = MaskHead(2048, 80, MaskConfig())
        assert tuple(head.up.weight.shape) == (2048, 256, 2, 2) and head.up.stride == (2, 2)
        assert tuple(head.masks.weight.shape) == (80, 256, 1, 1)
        assert head.masks.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert head.up.weight.std().item() == pytest.approx((2 / (2048 * 4)) ** 0.5, rel=0.02)
        assert not head.up.bias.any() and not head.masks.bias.any()
        read = torch.zeros(2, 2048, 7, 7)
        assert head(read, torch.tensor([3, 79])).shape == (2, SIDE, SIDE)

    def test_a_region_has_the_mask_of_its_own_class(self):
        head = self.head()
        read = torch.randn(4, 8, 7, 7, generator=torch.Generator().manual_seed(0))
        every = head.masks(head.up(read).relu())
        labels = torch.tensor([2, 0, 1, 2])
        for row, label in enumerate(labels):
            assert torch.equal(head(read, labels)[row], every[row, label])

    def test_the_loss_is_the_mean_over_cells_of_the_own_class(self):
        head, stream = self.head().double(), Stream(1, "loss")
        read = torch.from_numpy(stream.uniform(5 * 8 * 49, -3, 3).reshape(5, 8, 7, 7))
        labels = torch.tensor([0, 2, 1, 1, 0])
        shapes, boxes = [outlines(stream, 2) for _ in range(5)], boxes_of(stream, 5)
        with torch.no_grad():
            loss = head.loss(read, labels, shapes, boxes).item()
            logits = 1.0 * head.masks(head.up(read).relu())
        wanted = [
            oracle.cropped_polygons([part.ravel() for part in shape.parts], box, SIDE)
            for shape, box in zip(shapes, boxes, strict=True)
        ]
        assert loss == pytest.approx(oracle.mask_loss(logits, labels, wanted), rel=1e-6)

    def test_without_foreground_the_loss_is_0_and_all_have_a_gradient(self):
        head = self.head()
        loss = head.loss(torch.zeros(0, 8, 7, 7), torch.zeros(0).long(), [], torch.zeros(0, 4))
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


class TestPasting:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6), side=st.sampled_from([2, 5, 14]))
    def test_is_the_references_at_every_pixel(self, seed, side):
        stream = Stream(seed, "paste")
        squares = stream.uniform(3 * side * side).reshape(3, side, side)
        boxes = boxes_of(stream, 3, 24.0)
        boxes[0] -= torch.tensor([5.0, 5.0, 0.0, 0.0])  # beyond the image
        size = (20, 26)
        found = pasted(torch.from_numpy(squares), boxes, size, 0.5)
        for pixels, square, box in zip(found, squares, boxes, strict=True):
            expected, margin = oracle.pasted(square, box, *size, 0.5)
            assert np.array_equal(pixels[margin > 1e-5], expected[margin > 1e-5])

    def test_a_full_square_fills_its_box(self):
        full = torch.ones(1, SIDE, SIDE)
        found = pasted(full, torch.tensor([[3.0, 2.0, 11.0, 9.0]]), (12, 15), 0.5)[0]
        rows, columns = np.nonzero(found)
        assert found.sum() == 8 * 7
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 8, 3, 10)

    def test_nothing_found_is_no_mask(self):
        head = MaskHead(4, 2, MaskConfig(channels=4))
        masks = head.paste(torch.zeros(0, SIDE, SIDE), torch.zeros(0, 4), (12, 15))
        assert len(masks) == 0

    def test_cropping_and_pasting_gives_a_mask_back(self):
        """A mask cut to 14 cells and drawn again into its own box is nearly the same."""
        pixels = blobs(Stream(3, "again"), 6, 60, 60)
        for mask in pixels:
            rows, columns = np.nonzero(mask)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            box = torch.tensor([corners], dtype=torch.float32)
            shape = RunLengths((60, 60), encode(mask[None]).counts[0])
            again = pasted(targets([shape], box, SIDE).float(), box, (60, 60), 0.5)[0]
            assert (again & mask).sum() / (again | mask).sum() > 0.93


class Painted:
    """One picture in which exactly the pixels of each object have its colour."""

    classes = ("a",)

    def __init__(self, masks, shapes):
        self.image = np.zeros((*masks[0].shape, 3), dtype=np.uint8)
        for channel, mask in enumerate(masks):
            self.image[mask, channel] = 255
        boxes = []
        for mask in masks:
            rows, columns = np.nonzero(mask)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        flags = np.zeros(len(masks), dtype=bool)
        self._objects = Objects(
            np.array(boxes, dtype=float), np.zeros(len(masks), dtype=np.int64), flags, flags,
            np.ones(len(masks)), tuple(shapes),
        )  # fmt: skip

    def __getitem__(self, index):
        return Sample(self.image, "one", objects=self._objects)


def scenes(source, num_epochs=12, flip_p=0.5):
    views = SceneViews(short_sides_px=(60, 75, 90, 120), max_side_px=300, flip_p=flip_p)
    training = TrainingScenes(source, np.array([0]), views, True, 0, masks=True)
    return [training(epoch, 0) for epoch in range(num_epochs)]


@pytest.mark.parametrize("kind", ["polygons", "pixels"])
def test_a_mask_moves_with_the_pixels_of_its_object(kind):
    stream = Stream(5, kind)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    parts = [circle * stream.uniform(2, 9, 16) + stream.uniform(2, 18, 38) for _ in range(3)]
    masks = [oracle.covered([part.ravel()], 60, 80) for part in parts]
    shapes = [Polygons((part,)) for part in parts]
    if kind == "pixels":
        shapes = [RunLengths((60, 80), counts) for counts in encode(np.stack(masks)).counts]
    sizes, flips = set(), set()
    for scene in scenes(Painted(masks, shapes)):
        height, width = scene.image.shape[:2]
        sizes.add(height)
        for channel, shape in enumerate(scene.shapes):
            own = decode(_masks_of(shape, (height, width)))[0]
            painted = scene.image[..., channel].numpy() > 127
            shared = (own & painted).sum() / (own | painted).sum()
            assert shared > 0.9, (height, channel)
            assert (own & painted[:, ::-1]).sum() / (own | painted[:, ::-1]).sum() < 0.8
        flips.add(bool(scene.image[:, : width // 2].sum() > scene.image[:, width // 2 :].sum()))
    assert len(sizes) > 2 and flips == {True, False}


def _masks_of(shape, size):
    from whytransfer.ops.masks import of_counts

    return of_counts([shape.counts(size)], [size])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_flipping_twice_is_nothing(seed):
    stream = Stream(seed, "flip")
    size = (24, 31)
    drawn = outlines(stream, 2, 24.0)
    pixels = RunLengths(size, encode(blobs(stream, 1, *size)).counts[0])
    for part, again in zip(drawn.parts, drawn.flipped(size).flipped(size).parts, strict=True):
        np.testing.assert_allclose(part, again, atol=1e-12)
    once = pixels.flipped(size)
    assert np.array_equal(once.pixels(), pixels.pixels()[:, ::-1])
    assert once.flipped(size) == pixels


def test_flipping_a_scene_flips_its_masks_as_its_boxes():
    masks = blobs(Stream(2, "scene"), 2, 40, 50)
    shapes = [RunLengths((40, 50), counts) for counts in encode(masks).counts]
    views = SceneViews(short_sides_px=(40,), flip_p=0.0)
    scene = TrainingScenes(Painted(masks, shapes), np.array([0]), views, True, 0, masks=True)(0, 0)
    for box, shape in zip(flipped(scene).boxes_xyxy, flipped(scene).shapes, strict=True):
        _, columns = np.nonzero(shape.pixels())
        assert [columns.min(), columns.max() + 1] == box[[0, 2]].tolist()


def test_objects_without_a_mask_and_crowds_are_not_trained_on():
    masks = blobs(Stream(2, "none"), 3, 40, 50)
    shapes = [RunLengths((40, 50), counts) for counts in encode(masks).counts]
    source = Painted(masks, [shapes[0], Polygons(()), shapes[2]])
    source._objects.crowd[2] = True
    (scene,) = scenes(source, 1)
    assert len(scene.shapes) == len(scene.labels) == len(scene.boxes_xyxy) == 1


def test_where_no_masks_are_wanted_none_are_shown():
    masks = blobs(Stream(2, "none"), 2, 40, 50)
    source = Painted(masks, [Polygons(()), Polygons(())])
    scene = TrainingScenes(source, np.array([0]), SceneViews(), True, 0)(0, 0)
    assert scene.shapes == () and len(scene.labels) == 2
