import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import views as oracle
from torchvision.transforms import RandomResizedCrop

from whytransfer.core.config import build
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.augmentation import (
    LADDER,
    MOCO_V1,
    Augmentation,
    CropFlip,
    ViewParameters,
    sample_view,
    view_stream,
)
from whytransfer.data.views import apply_view, center_view, resize

GOLDEN = (
    20,
    49,
    337,
    314,
    (
        ("hue", 0.015962003539596092),
        ("contrast", 0.7427866838954984),
        ("brightness", 0.719262827084699),
        ("saturation", 1.0930122609296964),
    ),
    True,
    0.8367621902496726,
    True,
    False,
)
PLAIN = Augmentation(jitter_p=0, grayscale_p=0, blur_p=0, flip_p=0)
ALL = Augmentation(jitter_p=1, blur_p=1)


def difference(one, two):
    return np.abs(one.astype(int) - two.astype(int))


def several(augmentation, image, count):
    height, width = image.shape[:2]
    for index in range(count):
        yield sample_view(augmentation, view_stream(0, 0, index, 0), height, width)


class TestParameters:
    def test_are_a_function_of_seed_epoch_index_and_view(self):
        def drawn(*place):
            return sample_view(Augmentation(), view_stream(*place), 375, 500)

        places = [(s, e, i, v) for s in (0, 1) for e in (0, 1) for i in (0, 1) for v in (0, 1)]
        assert len({drawn(*place) for place in places}) == len(places)
        assert [drawn(*p) for p in places] == [drawn(*p) for p in reversed(places)][::-1]

    def test_are_these_numbers_for_ever(self):
        parameters = sample_view(Augmentation(), view_stream(0, 3, 17, 1), 375, 500)
        assert dataclasses.astuple(parameters) == GOLDEN

    def test_do_not_shift_when_a_part_is_switched_off(self):
        for index in range(20):
            full = sample_view(ALL, view_stream(0, 0, index, 0), 300, 400)
            plain = sample_view(PLAIN, view_stream(0, 0, index, 0), 300, 400)
            assert plain == dataclasses.replace(
                full, jitter=(), grayscale=False, blur_sigma=0.0, flip=False
            )

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 1000))
    def test_crop_lies_inside_the_image(self, height, width, seed):
        p = sample_view(Augmentation(), Stream(seed, "t"), height, width)
        assert p.top >= 0 and p.left >= 0 and p.height >= 1 and p.width >= 1
        assert p.top + p.height <= height and p.left + p.width <= width

    def test_crops_are_distributed_as_torchvisions(self):
        import torch

        theirs, image = [], torch.zeros(3, 375, 500)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _ in range(3000):
                theirs.append(RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]))
        ours = [
            (p.top, p.left, p.height, p.width)
            for p in several(Augmentation(), np.zeros((375, 500, 3), np.uint8), 3000)
        ]
        ours, theirs = np.array(ours, float), np.array(theirs, float)
        for quantile in (0.1, 0.5, 0.9):
            apart = np.quantile(ours, quantile, axis=0) - np.quantile(theirs, quantile, axis=0)
            assert np.abs(apart).max() < 14
        share = ours[:, 2] * ours[:, 3] / (375 * 500)
        assert 0.19 < share.min() < 0.22 and share.max() <= 1

    @pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
    def test_takes_the_middle_where_no_crop_fits(self, height, width):
        import torch

        full = Augmentation(crop_scale=(1, 1))
        p = sample_view(full, Stream(0, "t"), height, width)
        theirs = RandomResizedCrop.get_params(
            torch.zeros(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3]
        )
        assert (p.top, p.left, p.height, p.width) == tuple(theirs)

    def test_frequencies_and_ranges_are_moco_v2s(self):
        drawn = list(several(Augmentation(), np.zeros((64, 64, 3), np.uint8), 4000))
        assert np.mean([bool(p.jitter) for p in drawn]) == pytest.approx(0.8, abs=0.03)
        assert np.mean([p.grayscale for p in drawn]) == pytest.approx(0.2, abs=0.03)
        assert np.mean([p.blur_sigma > 0 for p in drawn]) == pytest.approx(0.5, abs=0.03)
        assert np.mean([p.flip for p in drawn]) == pytest.approx(0.5, abs=0.03)
        factors = {
            name: [dict(p.jitter)[name] for p in drawn if p.jitter] for name in oracle.JITTER
        }
        for name, (low, high) in {
            "brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.6, 1.4),
            "hue": (-0.1, 0.1),
        }.items():  # fmt: skip
            assert (
                low <= min(factors[name]) < low + 0.01 and high - 0.01 < max(factors[name]) < high
            )
        orders = {tuple(name for name, _ in p.jitter) for p in drawn if p.jitter}
        assert len(orders) == 24
        sigmas = [p.blur_sigma for p in drawn if p.blur_sigma]
        assert 0.1 <= min(sigmas) < 0.11 and 1.99 < max(sigmas) < 2

    def test_crop_flip_only_crops_and_flips(self):
        drawn = list(several(CropFlip(), np.zeros((64, 64, 3), np.uint8), 200))
        assert all(not p.jitter and not p.grayscale and not p.blur_sigma for p in drawn)
        assert min(p.height * p.width for p in drawn) < 0.2 * 64 * 64
        assert {p.flip for p in drawn} == {True, False}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("crop_scale", [0, 1]),
            ("crop_ratio", [2, 1]),
            ("blur_sigma", [-1, 2]),
            ("jitter", [0.4, 0.4, 0.4, 0.6]),
            ("flip_p", 1.5),
        ],
    )
    def test_impossible_settings_are_refused_by_name(self, field, value):
        with pytest.raises(InputError, match=field):
            build(Augmentation, {field: value}, "here")


class TestLadder:
    """Table 1: each rung switches on one thing more, and sees the draws of all others."""

    def test_each_rung_adds_one_part_to_the_one_before(self):
        rungs = list(LADDER.values())
        assert list(LADDER) == ["f", "fr", "frc", "frcg", "frcgb"]
        plain = [rung.model_dump() for rung in rungs]
        added = [
            {name for name in low if low[name] != high[name]}
            for low, high in itertools.pairwise(plain)
        ]
        assert added == [{"crop"}, {"jitter_p"}, {"grayscale_p"}, {"blur_p"}]
        assert rungs[-1] == Augmentation()

    def test_rungs_see_the_same_draws(self):
        for index in range(40):
            drawn = [
                sample_view(rung, view_stream(0, 0, index, 0), 300, 400) for rung in LADDER.values()
            ]
            whole = drawn[-1]
            for p in drawn:
                assert p.flip == whole.flip
                assert p.jitter in ((), whole.jitter)
                assert p.blur_sigma in (0.0, whole.blur_sigma)
                assert p.grayscale in (False, whole.grayscale)
            boxes = {(p.top, p.left, p.height, p.width) for p in drawn[1:]}
            assert len(boxes) == 1
            assert (drawn[0].top, drawn[0].left) == (19, 69)
            assert drawn[0].height == drawn[0].width == 262  # 300 x 224/256 = 262.5, to even

    def test_centre_crop_shows_what_resize_and_center_crop_show(self, photographs):
        for image in photographs.values():
            p = sample_view(LADDER["f"], Stream(0, "t"), *image.shape[:2])
            ours = apply_view(image, dataclasses.replace(p, flip=False), 224)
            theirs = oracle.center_view(image, 256, 224)
            # The box has whole pixels of the image, torchvision's of the resized image: up to half
            # a pixel apart. One that is off by four pixels is told from it.
            apart = [difference(ours, np.roll(theirs, s, axis=(0, 1))).mean() for s in (0, 4)]
            assert apart[0] < 9 and apart[0] < 0.6 * apart[1]

    def test_a_one_pixel_image_has_a_centre(self):
        p = sample_view(LADDER["f"], Stream(0, "t"), 1, 9)
        assert (p.top, p.left, p.height, p.width) == (0, 4, 1, 1)

    def test_v1_removes_colour_before_the_jitter_which_is_always_there(self, photographs):
        image = photographs["coffee"]
        drawn = list(several(MOCO_V1, image, 200))
        assert all(len(p.jitter) == 4 and not p.blur_sigma and p.grayscale_first for p in drawn)
        assert 0.3 < max(dict(p.jitter)["hue"] for p in drawn) < 0.4
        grey = next(p for p in drawn if p.grayscale)
        late = dataclasses.replace(grey, grayscale_first=False)
        ours = apply_view(image, grey, 64)
        assert difference(ours, oracle.view(image, grey, 64)).mean() <= 2
        assert difference(ours, apply_view(image, late, 64)).mean() > 2


class TestPixels:
    """Against PIL, on real photographs."""

    def test_photographs_pass_through_all_views(self, photographs):
        for index, image in enumerate(photographs.values()):
            before = image.copy()
            views = [
                apply_view(
                    image, sample_view(ALL, view_stream(0, 0, index, v), *image.shape[:2]), 96
                )
                for v in (0, 1)
            ]
            assert np.array_equal(image, before)
            for view in views:
                assert view.shape == (96, 96, 3) and view.dtype == np.uint8
                assert view.std() > 5
            assert difference(*views).mean() > 3

    def test_geometry_is_pils(self, photographs):
        for image in photographs.values():
            for p in several(CropFlip(), image, 3):
                for crop_px in (64, 224):
                    ours, theirs = apply_view(image, p, crop_px), oracle.view(image, p, crop_px)
                    assert difference(ours, theirs).max() <= 1

    @pytest.mark.parametrize(
        ("jitter", "largest_mean"),
        [
            ((("brightness", 0.61),), 0),
            ((("brightness", 1.37),), 0),
            ((("contrast", 0.64),), 0.1),
            ((("contrast", 1.39),), 0.1),
            ((("saturation", 0.6),), 1),
            ((("saturation", 1.4),), 1),
            ((("hue", 0.09),), 1),
            ((("hue", -0.1),), 1),
            ((("hue", 0.3),), 1),
        ],
    )
    def test_jitter_is_near_pils(self, photographs, jitter, largest_mean):
        for image in photographs.values():
            whole = ViewParameters(0, 0, 224, 224, jitter)
            square = np.ascontiguousarray(image[:224, 100:324])
            ours, theirs = apply_view(square, whole, 224), oracle.view(square, whole, 224)
            assert difference(ours, theirs).mean() <= largest_mean

    def test_greyscale_is_near_pils(self, photographs):
        for image in photographs.values():
            whole = ViewParameters(0, 0, 224, 224, grayscale=True)
            square = np.ascontiguousarray(image[:224, 100:324])
            ours = apply_view(square, whole, 224)
            assert difference(ours, oracle.view(square, whole, 224)).max() <= 1
            assert (ours[..., 0] == ours[..., 2]).all()

    @pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
    def test_blur_is_near_pils(self, photographs, sigma):
        for image in photographs.values():
            whole = ViewParameters(0, 0, 224, 224, blur_sigma=sigma)
            square = np.ascontiguousarray(image[:224, 100:324])
            ours, theirs = apply_view(square, whole, 224), oracle.view(square, whole, 224)
            assert difference(ours, theirs).mean() <= 1

    def test_whole_views_are_near_pils(self, photographs):
        apart = [
            difference(apply_view(image, p, 96), oracle.view(image, p, 96)).mean()
            for image in photographs.values()
            for p in several(ALL, image, 4)
        ]
        assert np.mean(apart) <= 1 and max(apart) <= 2

    def test_flip_mirrors_left_and_right(self, photographs):
        image = photographs["coffee"]
        p = ViewParameters(10, 20, 200, 200)
        mirrored = apply_view(image, dataclasses.replace(p, flip=True), 64)
        assert np.array_equal(mirrored, apply_view(image, p, 64)[:, ::-1])

    def test_read_only_and_strided_images_work(self, photographs):
        image = photographs["rocket"][::2, ::-1]
        image.setflags(write=False)
        view = apply_view(image, ViewParameters(0, 0, 100, 100), 50)
        copied = apply_view(np.array(image), ViewParameters(0, 0, 100, 100), 50)
        assert np.array_equal(view, copied)

    @pytest.mark.parametrize(("resize_px", "crop_px"), [(256, 224), (64, 48), (75, 64), (32, 40)])
    def test_centre_is_torchvisions(self, photographs, resize_px, crop_px):
        for image in photographs.values():
            for turned in (image, image.transpose(1, 0, 2)):
                ours = center_view(turned, resize_px, crop_px)
                assert ours.shape == (crop_px, crop_px, 3)
                theirs = oracle.center_view(np.ascontiguousarray(turned), resize_px, crop_px)
                assert difference(ours, theirs).max() <= 1

    def test_resize_to_the_same_size_is_a_copy(self, noise):
        same = resize(noise, 40, 60)
        assert np.array_equal(same, noise) and not np.shares_memory(same, noise)
