"""Streets: masks are exactly what was painted, and a drive meets the same things again."""

import cv2
import numpy as np
import pytest

from whytransfer.data.formats.synthia import RAND_CLASSES, SEQUENCE_CLASSES
from whytransfer.data.world import streets

CONFIG = streets.Config(width_px=160, height_px=96)


def test_numbers_are_those_of_the_published_classes():
    for name, number in streets.CLASSES.items():
        assert RAND_CLASSES[number] == name
    renamed = {"motorcycle": "cyclist", "rider": "cyclist", "bicycle": "cyclist", "bus": "car",
               "wall": "fence"}  # fmt: skip
    for name, number in (streets.CLASSES | streets.SEQUENCE_CLASSES).items():
        assert SEQUENCE_CLASSES[number] == renamed.get(name, name)


def test_every_pixel_has_a_class_and_most_classes_occur():
    seen = set()
    for street in range(25):
        rendered = streets.render(CONFIG, 0, street)
        assert rendered.labels.min() > 0
        seen |= set(np.unique(rendered.labels).tolist())
        share = np.mean(rendered.labels == streets.CLASSES["road"])
        assert 0.1 < share < 0.6
    assert seen == set(streets.CLASSES.values())


@pytest.mark.parametrize("street", [1, 3, 4])
def test_taking_an_object_away_changes_only_what_its_mask_covers(street, monkeypatch):
    """Painted colours reach half a pixel beyond the mask, and a little more at sharp corners."""
    whole = streets.render(CONFIG, 0, street)
    placed = streets._placed
    candidates = [seen for seen in whole.objects if seen.num_pixels > 150]
    assert candidates
    for seen in candidates[:4]:
        moves = seen.instance < 64  # vehicles have odd numbers, riders the next ones
        owner = seen.instance - (moves and seen.instance % 2 == 0)

        def without(*args, owner=owner):
            return [pair for pair in placed(*args) if pair[0].instance != owner]

        monkeypatch.setattr(streets, "_placed", without)
        rest = streets.render(CONFIG, 0, street)
        monkeypatch.setattr(streets, "_placed", placed)
        mask = np.isin(whole.instances, [owner, owner + 1] if moves else [owner])
        differs = np.any(whole.image != rest.image, axis=2)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (differs & ~near).sum() <= 0.05 * mask.sum()
        assert differs[mask].mean() > 0.6
        assert np.array_equal(whole.labels[~mask], rest.labels[~mask])
        assert not (rest.instances == seen.instance).any()


def test_objects_are_what_the_masks_show():
    for street in range(6):
        rendered = streets.render(CONFIG, 1, street)
        numbers = set(np.unique(rendered.instances).tolist()) - {0}
        assert {seen.instance for seen in rendered.objects} == numbers
        for seen in rendered.objects:
            mask = rendered.instances == seen.instance
            assert set(rendered.labels[mask]) == {streets.CLASSES[seen.category]}
            left, top, right, bottom = (int(edge) for edge in seen.box_xyxy)
            assert mask[top:bottom, left:right].sum() == mask.sum() == seen.num_pixels
            assert mask[top].any() and mask[bottom - 1].any()
            assert mask[:, left].any() and mask[:, right - 1].any()
        moving = {streets.CLASSES[name] for name in ("car", "pedestrian", "rider", "bicycle",
                                                     "motorcycle", "bus")}  # fmt: skip
        assert set(np.unique(rendered.labels[rendered.instances > 0])) <= moving
        assert not np.isin(rendered.labels[rendered.instances == 0], list(moving)).any()


def test_a_drive_meets_the_same_things_nearer():
    first, later = (streets.render(CONFIG, 0, 3, frame) for frame in (0, 4))
    parked = {seen.instance: seen for seen in first.objects if seen.instance >= 64}
    met = [(parked[seen.instance], seen) for seen in later.objects if seen.instance in parked]
    assert len(met) >= 2
    for before, after in met:
        assert after.category == before.category
        assert before.place_m[0] == after.place_m[0]
        assert before.place_m[1] - after.place_m[1] == pytest.approx(4.0)


def test_the_right_camera_sees_things_further_left():
    left, right = (streets.render(CONFIG, 0, 5, 2, eye) for eye in (-0.4, 0.4))
    pairs = {seen.instance: seen for seen in left.objects if seen.num_pixels > 40}
    moved = [
        pairs[seen.instance].box_xyxy[2] - seen.box_xyxy[2]
        for seen in right.objects
        if seen.instance in pairs and seen.box_xyxy[2] < 159 and seen.num_pixels > 40
    ]
    assert moved and min(moved) >= 0 and max(moved) > 1


def test_order_does_not_matter():
    forward = [streets.render(CONFIG, 2, street).image for street in range(3)]
    backward = [streets.render(CONFIG, 2, street).image for street in (2, 1, 0)][::-1]
    assert all(np.array_equal(*pair) for pair in zip(forward, backward, strict=True))
    assert len({image.tobytes() for image in forward}) == 3
