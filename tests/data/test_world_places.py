"""Scenes: categories take turns, differ by layout and not by colour, and Places365's files."""

import json

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from whytransfer.data.formats import imagefolder, places365
from whytransfer.data.world import places

SMALL = {"num_train": 17, "num_test": 15, "size_px": 32}


def test_categories_take_turns():
    config = places.Config(num_categories=4)
    found = [places.render(config, 0, index).factors.category for index in range(8)]
    assert found == [*places.CATEGORIES[:4]] * 2
    assert tuple(sorted(places.CATEGORIES)) == places.CATEGORIES and len(places.CATEGORIES) >= 12


def nearest_class_share(features, labels):
    """How often a picture's nearest other picture has its category."""
    apart = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return np.mean(labels[apart.argmin(axis=1)] == labels)


def test_colour_alone_says_less_than_layout():
    count = len(places.CATEGORIES)
    images = [places.render(places.Config(), 0, index).image for index in range(20 * count)]
    labels = np.arange(20 * count) % count
    colours = np.array([image.mean(axis=(0, 1)) for image in images])
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    grey = [(g - g.mean()) / (g.std() + 1) for g in (g.astype(float) for g in grey)]
    layout = np.array([cv2.resize(g, (8, 8), interpolation=cv2.INTER_AREA).ravel() for g in grey])
    assert nearest_class_share(colours, labels) < 0.35
    assert nearest_class_share(layout, labels) > 0.6


def test_a_mirrored_picture_is_said_to_be():
    seen = {places.render(places.Config(), 0, index).factors.mirrored for index in range(20)}
    assert seen == {True, False}


@pytest.mark.parametrize("layout", ["torchvision", "easy"])
def test_both_layouts_hold_the_same_pictures(tmp_path, layout):
    config = places.Config(**SMALL, layout=layout)
    places.write(tmp_path, config, seed=4)
    lines = [json.loads(x) for x in (tmp_path / "factors.jsonl").read_text().splitlines()]
    assert len(lines) == 32
    if layout == "torchvision":
        opened = [places365.open(places365.Config(root=tmp_path), s) for s in ("train", "test")]
        prefixes = ("data_256_standard/", "val_256/")
        names = [f"{name[0]}/{name}" for name in places.CATEGORIES]
        first = (tmp_path / "places365_train_standard.txt").read_text().splitlines()[0]
        assert first == "/b/beach/00000001.jpg 0"
    else:
        opened = [imagefolder.open(imagefolder.Config(root=tmp_path), s) for s in ("train", "test")]
        prefixes, names = ("train/", "val/"), list(places.CATEGORIES)
    truth = {line["file"]: line for line in lines}
    for source, prefix in zip(opened, prefixes, strict=True):
        assert list(source.classes) == names
        for index in range(len(source)):
            line = truth[prefix + source.name(index)]
            assert source.classes[source.label(index)].rpartition("/")[2] == line["category"]
            rendered = places.render(config, 4, line["index"])
            assert np.abs(source[index].image.astype(int) - rendered.image).mean() < 5


def test_too_few_pictures_are_refused():
    with pytest.raises(ValidationError, match="15 categories need at least"):
        places.Config(num_test=3)
