"""Run lengths against pycocotools, and the overlap and AP of masks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco
from tests.ops.detection_scenes import (
    choose_images,
    random_scene,
    take,
    take_objects,
    with_masks,
)

from whytransfer.ops.average_precision import (
    average_precision,
    coco_family,
    coco_matches,
    coco_summary,
)
from whytransfer.ops.detections import Detections
from whytransfer.ops.masks import (
    areas,
    boxes_xyxy,
    decode,
    empty_counts,
    encode,
    joined,
    malformed,
    of_counts,
    plain_counts,
    polygon_counts,
)
from whytransfer.ops.matching import mask_overlaps

# pycocotools' own arrays know an older protocol of NumPy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PIXELS = arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9))


class TestRunLengths:
    @settings(deadline=None)
    @given(pixels=PIXELS)
    def test_encoding_is_pycocotools_and_comes_back(self, pixels):
        masks = encode(pixels)
        columns = np.asfortranarray(pixels.transpose(1, 2, 0).astype(np.uint8))
        assert masks.counts.tolist() == [rle["counts"] for rle in coco.encode(columns)]
        assert np.array_equal(decode(masks), pixels)
        assert areas(masks).tolist() == pixels.sum(axis=(1, 2)).tolist()
        assert not malformed(masks).any()

    def test_long_runs_and_many_runs(self):
        generator = np.random.default_rng(0)
        pixels = np.zeros((4, 900, 1200), dtype=bool)
        pixels[1] = True
        pixels[2, 100:800, 50:1100] = True
        pixels[3] = generator.random((900, 1200)) < 0.5
        masks = encode(pixels)
        assert areas(masks).tolist() == pixels.sum(axis=(1, 2)).tolist()
        assert not malformed(masks).any()
        assert boxes_xyxy(masks)[2].tolist() == [50, 100, 1100, 800]

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_polygons_are_pycocotools(self, seed):
        generator = np.random.default_rng(seed)
        parts = [generator.uniform(-10, 50, (k, 2)) for k in (3, 4, 7)]
        plain = [part.ravel().tolist() for part in parts]
        expected = coco.merge(coco.frPyObjects(plain, 30, 40))["counts"]
        assert polygon_counts(parts, 30, 40) == expected

    def test_polygons_without_three_points_cover_nothing(self):
        assert polygon_counts([np.zeros((2, 2))], 5, 4) == empty_counts(5, 4)
        assert areas(of_counts([empty_counts(5, 4)], [(5, 4)])).tolist() == [0]

    def test_plain_run_lengths(self):
        assert (
            plain_counts([0, 3, 3], 2, 3)
            == encode(np.array([[[1, 1, 0], [1, 0, 0]]]) > 0).counts[0]
        )

    def test_rows_are_taken_and_joined(self):
        pixels = np.random.default_rng(0).random((5, 6, 7)) < 0.5
        masks = encode(pixels)
        assert joined([masks[:2], masks[np.array([2, 3, 4])]]) == masks
        assert masks[::-1] != masks and len(joined([])) == 0
        assert np.array_equal(decode(masks[pixels[:, 0, 0]]), pixels[pixels[:, 0, 0]])

    @pytest.mark.parametrize(
        "text",
        [b"", b"0", b"12", b"1 3", b"\x7f", b"o", b"QQQ", b"oooooooooo1", b"13222", b"3N7", b"Z0"],
    )
    def test_what_is_no_mask_is_found(self, text):
        """2 x 2 pixels: too few, too many, no such character, unfinished, endless, negative."""
        good = encode(np.ones((1, 2, 2), dtype=bool))
        rows = joined([good, of_counts([text], [(2, 2)]), good])
        assert malformed(rows).tolist() == [False, True, False]

    @settings(deadline=None)
    @given(texts=st.lists(st.binary(max_size=12), max_size=6))
    def test_any_bytes_are_judged_without_a_crash(self, texts):
        found = malformed(of_counts(texts, [(3, 4)] * len(texts)))
        for text, bad in zip(texts, found, strict=True):
            if not bad:
                assert decode(of_counts([text], [(3, 4)])).shape == (1, 3, 4)


class TestOverlaps:
    def test_equal_those_of_the_pixels(self):
        for seed in range(8):
            found, truth = with_masks(seed, *random_scene(seed))
            pairs = mask_overlaps(found, truth, minimum=0.0)
            one, two = decode(found.masks), decode(truth.masks)
            expected = {
                (d, g): _overlap(one[d], two[g], truth.crowd[g])
                for d in range(len(found))
                for g in range(len(truth))
                if found.image[d] == truth.image[g] and found.label[d] == truth.label[g]
            }
            rows = zip(pairs.detection.tolist(), pairs.truth.tolist(), strict=True)
            assert dict(zip(rows, pairs.iou.tolist(), strict=True)) == pytest.approx(expected)
            some = mask_overlaps(found, truth, minimum=0.5)
            assert len(some.iou) == (pairs.iou >= 0.5).sum()


def _overlap(one, two, crowd):
    whole = one.sum() if crowd else (one | two).sum()
    return (one & two).sum() / whole if whole else 0.0


class TestAveragePrecision:
    def test_the_area_of_a_detection_is_its_masks(self):
        """A mask of 900 pixels in a box of 3600: small as a mask, medium as a box."""
        _, truth = random_scene(0, num_images=1, num_classes=1)
        pixels = np.zeros((1, 200, 200), dtype=bool)
        pixels[0, :30, :30] = True
        found = Detections(
            np.zeros(1, int), np.zeros(1, int), np.ones(1), np.array([[0.0, 0, 60, 60]]),
            encode(pixels),
        )  # fmt: skip
        nothing = take_objects(truth, slice(0, 0))
        nothing = replace(nothing, masks=encode(pixels[:0]))
        for by, ignored in (("boxes", [True, False, True]), ("masks", [False, True, True])):
            family = coco_family(found, nothing, ("small", "medium", "large"), by=by)
            assert [m.ignored[0, 0] for m in family.values()] == ignored

    def test_the_truth_itself_scores_100(self):
        _, truth = random_scene(3, num_images=6, crowds=False, difficult=False)
        _, truth = with_masks(0, truth, truth)
        truth = take_objects(truth, areas(truth.masks) > 0)
        found = Detections(
            truth.image, truth.label, np.ones(len(truth)), truth.boxes_xyxy, truth.masks
        )
        family = coco_family(found, truth, by="masks")
        values = coco_summary(family)
        assert list(values) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        defined = [value for value in values.values() if not np.isnan(value)]
        assert len(defined) >= 5 and np.allclose(defined, 100.0)

    def test_order_changes_nothing_and_weights_repeat_images(self):
        generator = np.random.default_rng(2)
        for seed in range(6):
            found, truth = random_scene(seed, num_images=5, decimals=9)
            distinct = (1 + generator.permutation(len(found))) / 500
            found, truth = with_masks(seed, replace(found, score=distinct), truth)
            plain = average_precision(coco_matches(found, truth, by="masks"), metric="coco101")
            rows = take(found, generator.permutation(len(found)))
            objects = take_objects(truth, generator.permutation(len(truth)))
            again = average_precision(coco_matches(rows, objects, by="masks"), metric="coco101")
            np.testing.assert_array_equal(plain, again)
            weights = generator.multinomial(5, np.ones(5) / 5, 3)
            family = coco_family(found, truth, by="masks")
            fast = coco_summary(family, weights)
            for draw, number in zip(weights, range(3), strict=True):
                repeated = choose_images(found, truth, np.repeat(np.arange(5), draw))
                slow = coco_summary(coco_family(*repeated, by="masks"))
                own = [values[number] for values in fast.values()]
                np.testing.assert_allclose(own, list(slow.values()), rtol=0, atol=1e-12)
