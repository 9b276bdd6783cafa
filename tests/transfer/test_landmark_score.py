"""Landmarks in files: what they score, with intervals, and which files are refused."""

import json

import numpy as np
import pytest
from tests.oracles.landmarks import inter_ocular

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.landmark_files import Landmarks, read_landmarks, write_landmarks
from whytransfer.transfer.measure import draws, metrics
from whytransfer.transfer.parts.landmark_score import measure_folder
from whytransfer.transfer.task import PREDICTIONS, TRUTH

NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
TRUE = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])
# Off by 4, 0, 5, 13 and 2 pixels where the eyes are 40 apart: 10, 0, 12.5, 32.5 and 5 percent.
OFF = np.array([[4.0, 0], [0, 0], [3, 4], [-5, 12], [0, -2]])


def written(folder, predicted, true, images=None):
    images = images or tuple(f"{number:06d}.jpg" for number in range(len(true)))
    write_landmarks(folder / TRUTH, Landmarks(images, NAMES, np.array(true)))
    write_landmarks(folder / PREDICTIONS, Landmarks(images, NAMES, np.array(predicted)))


def scores(folder, failure=10.0, eyes=(0, 1)):
    return {m.name: m for m in metrics(measure_folder(folder, eyes, failure), 200)}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_worked_by_hand(tmp_path):
    """One image off as above (12 percent: a failure), one perfect, one off by a tenth as much."""
    written(tmp_path, [TRUE + OFF, TRUE, TRUE + OFF / 10], [TRUE] * 3)
    found = scores(tmp_path)
    assert list(found) == ["inter_ocular_error", "failure_rate", *(f"error[{n}]" for n in NAMES)]
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({
        "inter_ocular_error": (12 + 0 + 1.2) / 3, "failure_rate": 100 / 3,
        "error[left_eye]": 11 / 3, "error[right_eye]": 0.0, "error[nose]": 13.75 / 3,
        "error[left_mouth]": 35.75 / 3, "error[right_mouth]": 5.5 / 3,
    })  # fmt: skip
    for metric in found.values():
        assert (metric.unit, metric.n, metric.higher_is_better) == ("%", 3, False)
        assert metric.interval == "images" and metric.low <= metric.value <= metric.high
    assert scores(tmp_path, failure=13)["failure_rate"].value == 0.0
    other = scores(tmp_path, eyes=(3, 4))["error[nose]"].value
    assert other == pytest.approx(13.75 / 3 * 40 / 30)


def test_perfect_is_zero_and_draws_are_means_of_drawn_images(tmp_path):
    written(tmp_path, [TRUE, 2 * TRUE], [TRUE, 2 * TRUE])
    assert {m.value for m in scores(tmp_path).values()} == {0.0}
    written(tmp_path, [TRUE + OFF, TRUE, TRUE + OFF / 10], [TRUE] * 3)
    drawn = draws(measure_folder(tmp_path, (0, 1), 10.0), 100)["inter_ocular_error"]
    possible = {round((12 * a + 1.2 * b) / 3, 6) for a in range(4) for b in range(4 - a)}
    assert {round(float(value), 6) for value in drawn} <= possible and len(set(drawn)) > 3


def test_equals_the_oracle_in_whatever_order_the_images_stand(tmp_path):
    stream = Stream(0, "points")
    true = TRUE + stream.uniform(200, -9, 9).reshape(20, 5, 2)
    predicted = true + stream.uniform(200, -9, 9).reshape(20, 5, 2)
    written(tmp_path, predicted, true)
    before = scores(tmp_path)
    expected = inter_ocular(predicted, true, (0, 1))
    assert before["inter_ocular_error"].value == pytest.approx(np.mean(expected))
    assert before["failure_rate"].value == pytest.approx(100 * np.mean(np.array(expected) > 10))
    edit(tmp_path / PREDICTIONS, lambda content: content["rows"].reverse())
    assert scores(tmp_path) == before


def test_files_keep_every_bit(tmp_path):
    points = Stream(0, "points").uniform(40, -1e3, 1e3).reshape(4, 5, 2) / 3
    kept = Landmarks(("a", "b", "c", "d"), NAMES, points)
    write_landmarks(tmp_path / "x.json", kept)
    found = read_landmarks(tmp_path / "x.json")
    assert (found.images, found.landmarks) == (kept.images, kept.landmarks)
    assert np.array_equal(found.points_xy, points) and found.points_xy.dtype == np.float64


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_not_written(tmp_path, value):
    points = np.array([TRUE, TRUE, TRUE])
    points[1, 2, 0] = value
    with pytest.raises(InputError, match=r"1 of 3 images .* not finite, b the first.*diverged"):
        write_landmarks(tmp_path / "x.json", Landmarks(("a", "b", "c"), NAMES, points))
    assert not (tmp_path / "x.json").exists()


def first(content, **fields):
    content["rows"][0] |= fields


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: first(c, points_xy=[[1, 2]] * 4), r"rows\[0\]: points_xy .* 5 pairs of finite"),
        (lambda c: first(c, points_xy=[[1, float("nan")]] * 5), r"rows\[0\]: points_xy .* finite"),
        (lambda c: first(c, points_xy="far"), r"rows\[0\]: points_xy is far"),
        (lambda c: first(c, image=7), r"rows\[0\]: image is 7"),
        (lambda c: c["rows"].pop(), "the image '000001.jpg' has no prediction"),
        (lambda c: first(c, image="x.jpg"), "the image '000000.jpg' has no prediction"),
        (lambda c: c["rows"].append({**c["rows"][0], "image": "x"}), "'x' is not in the truth"),
        (lambda c: c["rows"].append(c["rows"][0]), "'000000.jpg' stands twice"),
        (lambda c: c.update(landmarks=list("abcde")), "has the landmarks a, b, .* those of the tr"),
        (lambda c: c.update(kind="detections"), "begins with"),
    ],
)
def test_other_files_are_refused(tmp_path, change, words):
    written(tmp_path, [TRUE, TRUE], [TRUE, TRUE])
    edit(tmp_path / PREDICTIONS, change)
    with pytest.raises(InputError, match=words):
        measure_folder(tmp_path, (0, 1), 10.0)


def test_a_truth_that_measures_nothing_is_refused(tmp_path):
    blind = TRUE.copy()
    blind[1] = blind[0]
    written(tmp_path, [TRUE, TRUE], [TRUE, blind])
    with pytest.raises(InputError, match=r"000001.jpg has both eyes at \[30.0, 40.0\].*two places"):
        measure_folder(tmp_path, (0, 1), 10.0)
    with pytest.raises(InputError, match=r"eyes: are the landmarks 0 and 5; .* has 5"):
        measure_folder(tmp_path, (0, 5), 10.0)
    edit(tmp_path / TRUTH, lambda content: content.update(rows=[]))
    with pytest.raises(InputError, match="holds no image"):
        measure_folder(tmp_path, (0, 1), 10.0)
