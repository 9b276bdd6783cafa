"""What features are invariant to: planted causes, exact changes, and what is refused."""

import numpy as np
import pytest
import torch
from tests.diagnose.networks import (
    collapsed,
    colour_blind,
    colour_only,
    network,
    seen,
    tinted,
    world,
)
from tests.diagnose.planted import invariance as planted

from whytransfer.backbone.features import Centre
from whytransfer.core.errors import InputError
from whytransfer.data.augmentation import Augmentation
from whytransfer.data.dataset import subset
from whytransfer.data.factors import factors
from whytransfer.diagnose.analyses import invariance
from whytransfer.diagnose.analyses.invariance import found_among_class
from whytransfer.diagnose.changes import Changes, Magnitudes
from whytransfer.ops import similarity

QUICK = planted.QUICK
SENSITIVITIES = ("flip", "crop", "colour_jitter", "greyscale", "blur", "position", "scale",
                 "rotation")  # fmt: skip


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    return world(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def tints(tmp_path_factory):
    return tinted(tmp_path_factory.mktemp("tints"))


def answer(runs, data, tmp_path, **changes):
    return invariance.answer(runs, data, QUICK.model_copy(update=changes), tmp_path)


def values_of(finding):
    return {m.name: m.value for m in (finding.headline, *finding.metrics)}


def shown(finding):
    tables = [table for table in finding.tables if table.title.startswith("Differences")]
    return {
        (row["measure"], row["level"]): row["difference"]
        for table in tables
        for row in table.rows
        if row["shown"] == "yes"
    }


def test_a_network_trained_until_it_collapsed_is_found(tints, tmp_path):
    finding = answer([seen("a", network()), seen("b", collapsed())], tints, tmp_path)
    assert "b has a higher share of variance between categories at layer4" in finding.answer
    found, values = shown(finding), values_of(finding)
    assert found["category_share", "layer2"] > 0.2 and found["category_share", "layer4"] > 0.3
    assert found["within_over_between", "layer4"] < 0
    assert values["within_over_between.layer4[b]"] < 0.1
    assert values["retrieval.layer4[b - a]"] < 0


def test_a_network_that_sees_colour_alone_is_found(tints, tmp_path):
    runs = [seen("a", network()), seen("b", colour_only(network()))]
    finding = answer(runs, tints, tmp_path)
    assert "b has a higher share of variance between categories" in finding.answer
    found = shown(finding)
    for level in ("layer2", "layer4"):
        assert found["category_share", level] > 0.2
        assert found["retrieval", level] < 0
    values = values_of(finding)
    assert values["within_over_between.layer4[b]"] < values["within_over_between.layer4[a]"] / 2


def test_a_colour_blind_network_is_found_and_its_position_is_not(things, tmp_path):
    runs = [seen("a", network()), seen("b", colour_blind(network()))]
    # Saturation alone, which leaves the brightness of every pixel as it is.
    saturation = Augmentation(jitter=(0, 0, 0.4, 0))
    finding = answer(runs, things, tmp_path, augmentation=saturation)
    values, found = values_of(finding), shown(finding)
    for level in QUICK.levels:
        assert found["sensitivity_greyscale", level] < 0
        assert found["sensitivity_colour_jitter", level] < 0
        assert values[f"sensitivity_greyscale.{level}[a]"] > 0.05
        assert values[f"sensitivity_greyscale.{level}[b]"] < 0.002
        position = [values[f"sensitivity_position.{level}[{arm}]"] for arm in "ab"]
        assert position[1] > 0.5 * position[0]


def test_numbers_are_those_of_the_views(tints, tmp_path):
    """Against features of views made one by one, and the functions that have oracles."""
    backbone, view = network(), Centre(resize_px=32, crop_px=28)
    finding = answer([seen("a", backbone)], tints, tmp_path, levels=("layer4",))
    source = tints.open("test")
    changes = Changes(source, view, Augmentation(), Magnitudes(), 0)

    def read(views):
        pixels = torch.from_numpy(np.stack([views[i].image for i in range(len(views))]))
        with torch.no_grad():
            found = backbone(backbone.preprocessing.normalise(pixels))
        return found.double().numpy()

    plain = read(changes.plain())
    apart = similarity.squared_distances(similarity.gram(plain))
    ones = np.ones((1, len(plain)))
    values = values_of(finding)
    for name, views in (changes.augmentations() | changes.poses()[1]).items():
        moved = ((read(views) - plain) ** 2).sum(axis=1)
        expected = similarity.sensitivity(ones, moved, apart)[0]
        found = values[f"sensitivity_{name}.layer4[a]"]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), name
    first, second = (similarity.unit(read(changes.augmented(k))) for k in range(2))
    expected = similarity.alignment(first, second).mean()
    assert values["alignment.layer4[a]"] == pytest.approx(expected, rel=1e-3)
    expected = similarity.uniformity(ones, similarity.unit(plain))[0]
    assert values["uniformity.layer4[a]"] == pytest.approx(expected, rel=1e-3)
    labels = np.array([source.label(i) for i in range(len(source))])
    hits = [
        max((j for j in range(len(labels)) if labels[j] == labels[i]),
            key=lambda j: first[i] @ similarity.unit(plain)[j]) == i
        for i in range(len(labels))
    ]  # fmt: skip
    assert values["retrieval.layer4[a]"] == pytest.approx(np.mean(hits))


def test_equally_near_images_share_the_find():
    same, labels = np.tile([[1.0, 0.0]], (5, 1)), np.array([0, 0, 0, 1, 1])
    expected = [1 / 3] * 3 + [1 / 2] * 2
    np.testing.assert_allclose(found_among_class(same, same, labels), expected)
    apart = np.eye(5)
    assert found_among_class(apart, apart, labels).tolist() == [1.0] * 5
    assert found_among_class(np.roll(apart, 1, axis=0), apart, labels)[1] == 0


class TestTheChanges:
    def changes(self, data, drawn=True, **magnitudes):
        source = data.open("test")
        known = factors(data, source) if drawn else None
        view = Centre(resize_px=32, crop_px=32)
        return Changes(source, view, Augmentation(), Magnitudes(**magnitudes), 0, known)

    def test_a_rendered_object_moves_and_nothing_else_does(self, things):
        changes = self.changes(things, shift=0.2)
        still, moved = changes.poses()
        assert np.array_equal(still[3].image, changes.poses()[0][3].image)
        for name, views in moved.items():
            differs = np.abs(views[3].image.astype(int) - still[3].image).max(axis=2) > 0
            assert differs.any(), name
            # Background that no object reaches stays the same to the bit.
            assert not differs.all(), name
        figure = changes.drawn[3].figures[0]
        shift = np.hypot(*changes._move("position", 3)[0])
        assert shift == pytest.approx(0.2)
        assert changes._move("scale", 3)[1] in (1.25, 1 / 1.25)
        assert abs(changes._move("rotation", 3)[2]) == 30
        assert figure == changes.drawn[3].figures[0]

    def test_both_ways_of_moving_go_the_same_way(self, things):
        """A single bright object on dark: its centre of mass after a shift, a zoom and a turn."""
        blob = np.zeros((33, 33, 3), np.uint8)
        blob[14:19, 20:25] = 255

        class One:
            classes = ("a",)

            def __len__(self):
                return 1

            def __getitem__(self, index):
                return type("Sample", (), {"image": blob})

            def name(self, index):
                return "blob"

        changes = Changes(One(), Centre(resize_px=33, crop_px=33), Augmentation(), Magnitudes(), 0)

        def centre(image):
            mass = image[..., 0].astype(float)
            y, x = np.mgrid[:33, :33]
            return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum() - 16

        plain = centre(changes.plain()[0].image)
        found = {name: centre(views[0].image) for name, views in changes.poses()[1].items()}
        (x, y), _, _ = changes._move("position", 0)
        np.testing.assert_allclose(found["position"], plain + np.array([x, y]) * 33, atol=0.1)
        np.testing.assert_allclose(found["scale"], plain * changes._move("scale", 0)[1], atol=0.1)
        turn = np.deg2rad(changes._move("rotation", 0)[2])
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        np.testing.assert_allclose(found["rotation"], matrix @ plain, atol=0.1)

    def test_each_part_of_the_augmentation_changes_what_it_says(self, things):
        changes = self.changes(things)
        plain, parts = changes.plain()[0].image, changes.augmentations()
        assert np.array_equal(parts["flip"][0].image, plain[:, ::-1])
        grey = parts["greyscale"][0].image
        assert (grey == grey[..., :1]).all()
        assert parts["crop"][0].image.shape == plain.shape
        assert parts["blur"][0].image.std() <= plain.std()
        for name, views in parts.items():
            assert not np.array_equal(views[0].image, plain), name
            assert np.array_equal(views[0].image, changes.augmentations()[name][0].image)

    def test_other_data_than_single_objects_are_moved_as_a_whole(self, things, tints, tmp_path):
        exact = answer([seen("a", network())], things, tmp_path, num_draws=100)
        whole = answer([seen("a", network())], tints, tmp_path, num_draws=100)
        assert "of the rendered object alone" in exact.caveat
        assert "of the whole view" in whole.caveat


def test_fewer_than_three_seeds_say_so_and_three_have_an_interval(tints, tmp_path):
    def runs(num_seeds):
        return [
            seen(arm, network(10 * shift + seed), seed)
            for shift, arm in enumerate("ab")
            for seed in range(num_seeds)
        ]

    two = answer(runs(2), tints, tmp_path, levels=("layer4",))
    assert "Fewer than three seeds of a, b" in two.caveat
    assert two.headline.interval == "images (these fixed models)"
    three = answer(runs(3), tints, tmp_path, levels=("layer4",))
    assert three.headline.interval == "seeds then images"
    assert "No difference shown to a" in three.answer
    mixed = answer([*runs(3)[:3], seen("b", network(5))], tints, tmp_path, levels=("layer4",))
    assert "Fewer than three seeds of b:" in mixed.caveat
    assert mixed.headline.interval == "images (these fixed models)"


def test_figures_have_the_generic_form_and_one_arm_an_answer(tints, tmp_path):
    finding = answer([seen("a", network())], tints, tmp_path)
    assert finding.answer.startswith("a separates categories most at layer")
    names = [f"sensitivity_{name}" for name in SENSITIVITIES]
    assert set(names) <= set(finding.figures)
    for name in (*names, "category_share", "retrieval", "alignment", "uniformity"):
        for row in finding.figures[name]:
            assert set(row) == {"arm", "level", "value", "low", "high", "seed"}
            assert row["low"] <= row["value"] <= row["high"]


class Relabelled:
    """A dataset whose images have other labels, or fewer of them."""

    def __init__(self, data, label=None, chosen=None):
        self.data, self.given, self.chosen = data, label, chosen
        self.config = data.config

    def open(self, split):
        source = self.data.open(split)
        if self.chosen is not None:
            return subset(source, np.array(self.chosen))
        given = self.given

        class Other(type(source)):
            def label(self, index):
                return given

        return Other(source.folder, source.classes, source.names, source.labels)


def test_labels_that_tell_nothing_are_refused(tints, tmp_path):
    runs = [seen("a", network())]
    with pytest.raises(InputError, match=r"blue/00\.png has no label; expected one class per"):
        answer(runs, Relabelled(tints), tmp_path)
    with pytest.raises(InputError, match="all 48 images are of the class grey"):
        answer(runs, Relabelled(tints, label=1), tmp_path)
    with pytest.raises(InputError, match="no two classes have two"):
        answer(runs, Relabelled(tints, chosen=[0, 1, 2, 17, 40]), tmp_path)
    with pytest.raises(InputError, match="the test split has 3 images; expected at least 4"):
        answer(runs, Relabelled(tints, chosen=[0, 1, 17]), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": ("layer9",)}, "no level 'layer9'"),
        ({"reference": "c"}, "field reference: found 'c'; expected one of a"),
        ({"view": invariance.View(crop_px=8)}, "smaller than the stride of layer4, 16 px"),
    ],
)
def test_what_is_refused(change, message, tints, tmp_path):
    with pytest.raises(InputError, match=message):
        answer([seen("a", network())], tints, tmp_path, **change)
    with pytest.raises(InputError, match="no data given"):
        answer([seen("a", network())], None, tmp_path)
