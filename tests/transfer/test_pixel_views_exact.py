"""Training views of labelled images against plain loops, and as movements that can be undone."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.oracles import pixel_views as oracle
from tests.transfer import painted

from whytransfer.core.streams import Stream
from whytransfer.data.sample import IGNORED
from whytransfer.transfer.parts.pixels import (
    Photometry,
    PixelViews,
    TrainingPixels,
    collate,
    distort,
    sample_photometry,
    training_view,
)

NUM_DRAWS = 33
FIRST_CROP, PHOTOMETRY = 2, 24  # places in the draws


def drawn(seed):
    return Stream(seed, "view").uniform(NUM_DRAWS).tolist()


def plain(crop, **settings):
    """Views that neither scale, flip nor recolour unless told to."""
    still = {"scale": (1.0, 1.0), "flip_p": 0.0, "photometric": False, "max_class_share": 1.0}
    return PixelViews(crop_px=crop, **{**still, **settings})


def addressed(height, width):
    """An image whose every pixel says where it is, and labels that are a function of that."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, (rows * 7 + columns) % 251], axis=2).astype(np.uint8)
    return image, ((rows * 3 + columns * 5) % 19).astype(np.uint8)


def label_at(image):
    return (image[..., 0].astype(int) * 3 + image[..., 1].astype(int) * 5) % 19


sizes = st.integers(1, 40)


class TestGeometry:
    @settings(max_examples=100, deadline=None)
    @given(sizes, sizes, sizes, sizes, st.integers(0, 10**6), st.booleans())
    def test_a_crop_is_a_window_that_can_be_pasted_back(self, h, w, ch, cw, seed, flip):
        image, labels = addressed(h, w)
        views = plain((ch, cw), flip_p=float(flip))
        cut, cut_labels = training_view(image, labels, views, drawn(seed))
        assert cut_labels.shape == (min(h, ch), min(w, cw)) == cut.shape[:2]
        unflipped, unflipped_labels = (x[:, ::-1] if flip else x for x in (cut, cut_labels))
        top, left = unflipped[0, 0, :2].tolist()
        window = np.s_[top : top + cut.shape[0], left : left + cut.shape[1]]
        pasted, pasted_labels = image.copy(), labels.copy()
        pasted[window], pasted_labels[window] = unflipped, unflipped_labels
        assert np.array_equal(pasted, image) and np.array_equal(pasted_labels, labels)

    @given(sizes, sizes, st.integers(0, 10**6))
    def test_flipping_twice_gives_the_image_and_its_labels(self, h, w, seed):
        image, labels = addressed(h, w)
        views = plain((h, w), flip_p=1.0)
        once = training_view(image, labels, views, drawn(seed))
        assert np.array_equal(once[0], image[:, ::-1]) and np.array_equal(once[1], labels[:, ::-1])
        twice = training_view(*once, views, drawn(seed))
        assert np.array_equal(twice[0], image) and np.array_equal(twice[1], labels)

    @settings(max_examples=150, deadline=None)
    @given(st.floats(0.3, 3.0), st.integers(0, 10**6), st.booleans(), st.booleans(), sizes, sizes)
    def test_a_painted_pattern_moves_with_its_labels_at_every_scale(
        self, scale, seed, flip, across, ch, cw
    ):
        """A ramp says where in the source a pixel came from, to a third of a pixel; the label
        there must be the one of the stripe that this place lies in."""
        ramp = np.broadcast_to(4 * np.arange(48, dtype=np.uint8), (20, 48))
        ramp = ramp if across else np.ascontiguousarray(ramp.T)
        image, labels = np.stack([ramp] * 3, axis=2).copy(), (ramp // 32).astype(np.uint8)
        views = plain((ch, cw), scale=(scale, scale), flip_p=float(flip))
        seen, moved = training_view(image, labels, views, drawn(seed))
        place = seen[..., 0] / 4 + 0.5
        clear = np.abs(place - 8 * np.round(place / 8)) > 0.35
        # Beyond the centres of the outermost pixels the ramp is flat.
        clear &= (seen[..., 0] > 0) & (seen[..., 0] < 188)
        assume(clear.any())
        np.testing.assert_array_equal(moved[clear], (place // 8).astype(np.uint8)[clear])

    @given(st.integers(0, 10**6))
    def test_colours_move_no_label(self, seed):
        image, labels = addressed(12, 17)
        still, coloured = plain((9, 9)), plain((9, 9), photometric=True)
        same = [training_view(image, labels, views, drawn(seed))[1] for views in (still, coloured)]
        assert np.array_equal(*same)

    def test_a_smaller_image_is_padded_with_what_does_not_count(self, tmp_path):
        painted.write(tmp_path, {"train": 1})
        source = painted.open(painted.Config(root=tmp_path), "train")
        views = plain((60, 80))
        batch = collate([TrainingPixels(source, views, 0)(0, 0)], views.crop_px)
        assert batch.images.shape == (1, 60, 80, 3) and batch.sizes_px == ((48, 64),)
        assert (batch.labels[0, 48:] == IGNORED).all() and (batch.labels[0, :, 64:] == 255).all()
        assert np.array_equal(batch.labels[0, :48, :64], source.segmentation(0).labels)
        assert np.array_equal(batch.images[0, :48, :64], source[0].image)


class TestCropByShare:
    @settings(max_examples=200, deadline=None)
    @given(
        st.integers(0, 10**6), sizes, sizes, sizes, sizes,
        st.sampled_from([0.5, 0.75, 0.9, 1.0]), st.integers(1, 3),
    )  # fmt: skip
    def test_it_is_the_first_mixed_one_of_those_drawn(self, seed, h, w, ch, cw, share, classes):
        """Three sides of stripes and blocks, with pixels that do not count among them."""
        rows, columns = np.mgrid[:h, :w]
        labels = ((rows // 9 + columns // 13) % (classes + 1)).astype(np.uint8)
        labels[labels == classes] = IGNORED
        image = addressed(h, w)[0]
        draws = drawn(seed)
        pairs = draws[FIRST_CROP:PHOTOMETRY]
        places = list(zip(pairs[::2], pairs[1::2], strict=True))
        assert len(places) == 11
        expected = oracle.chosen_crop(labels.tolist(), (ch, cw), share, places)
        seen, _ = training_view(image, labels, plain((ch, cw), max_class_share=share), draws)
        assert tuple(seen[0, 0, :2].tolist()) == expected


class TestColours:
    def pixels(self, seed=0, count=300):
        return Stream(seed, "pixels").integers(count * 3, 256).reshape(1, count, 3).astype(np.uint8)

    @pytest.mark.parametrize("first", [True, False])
    def test_each_step_is_the_one_described(self, first):
        """Hue and saturation go through whole numbers, which OpenCV rounds in its own way."""
        image = self.pixels()
        for change in (
            Photometry(brightness=-20.25),
            Photometry(contrast=1.37, contrast_first=first),
            Photometry(saturation=0.6),
            Photometry(hue=13),
            Photometry(brightness=31.5, contrast=0.55, contrast_first=first),
            Photometry(brightness=9.75, contrast=1.2, contrast_first=first, saturation=1.4),
        ):
            found = distort(image, change).reshape(-1, 3).astype(int)
            expected = np.array([oracle.distorted(p, **vars(change)) for p in image[0].tolist()])
            apart = np.abs(found - expected)
            turned = change.saturation is not None or change.hue is not None
            assert (apart.mean() < 0.6 and apart.max() <= 9) if turned else not apart.any(), change

    def test_contrast_before_and_after_differ_where_values_are_cut_off(self):
        image = self.pixels()
        before, after = (
            distort(image, Photometry(contrast=1.5, contrast_first=first, saturation=0.5))
            for first in (True, False)
        )
        assert (before != after).any()

    def test_what_is_drawn_is_what_the_protocol_says(self):
        """Each with probability one half and apart from the others; ±32, 0.5 to 1.5, ±18 units."""
        found = [sample_photometry(Stream(s, "p").uniform(9).tolist()) for s in range(2000)]
        chosen = np.array(
            [
                [v is not None for v in (p.brightness, p.contrast, p.saturation, p.hue)]
                + [p.contrast_first]
                for p in found
            ]
        ).astype(float)
        # Four standard errors of a share, and of a correlation, of 2000.
        assert (np.abs(chosen.mean(axis=0) - 0.5) < 4 * 0.5 / 2000**0.5).all()
        together = np.corrcoef(chosen.T) - np.eye(5)
        assert np.abs(together).max() < 4 / 2000**0.5
        for name, low, high in (
            ("brightness", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5),
        ):  # fmt: skip
            values = np.array([getattr(p, name) for p in found if getattr(p, name) is not None])
            assert low <= values.min() < values.max() <= high
            middle, spread = (low + high) / 2, (high - low) / 12**0.5
            assert abs(values.mean() - middle) < 4 * spread / len(values) ** 0.5
        hues = [p.hue for p in found if p.hue is not None]
        assert set(hues) == {*range(-18, 18)} and all(type(hue) is int for hue in hues)
