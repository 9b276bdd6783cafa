"""Did pretraining see the test images: of planted copies, and of scores with and without them."""

from dataclasses import replace

import numpy as np
import pytest
from tests.diagnose.exposed import NUM_TEST, data_to_test, photograph, pretraining_data
from tests.diagnose.planted import leakage as planted
from tests.ops.detection_scenes import take
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core.errors import InputError
from whytransfer.diagnose.analyses.leakage import Config, answer
from whytransfer.diagnose.analysis import ExposedRun


def found(folder, planted_of, config=None):
    folder.mkdir(exist_ok=True)
    runs, data, settings = planted_of(folder)
    return answer(runs, data, config or settings, folder)


def named_as(data):
    source = data.open("test")
    return tuple(source.name(index) for index in range(len(source)))


def detector(arm, seed, on, data, leaked=(), boost=True):
    """A detector that finds everything in the leaked images, and little in the others."""
    truth = replace(planted_truth(NUM_TEST), images=named_as(data))
    right, wrong = perfect(truth), shifted(perfect(truth))
    knows = np.isin(right.image, leaked) if boost else np.zeros(len(right), dtype=bool)
    boxes = np.where(knows[:, None], right.boxes_xyxy, wrong.boxes_xyxy)
    detections = take(replace(right, boxes_xyxy=boxes), np.ones(len(right), dtype=bool))
    return ExposedRun(arm, seed, f"{arm}{seed}", on, truth, detections)


def test_copies_are_counted_by_what_is_the_same_with_the_exact_interval(tmp_path):
    finding = found(tmp_path, planted.cause)
    assert finding.headline.value == pytest.approx(100 * 3 / NUM_TEST)
    assert finding.headline.interval == "images (exact binomial)"
    assert (finding.headline.low, finding.headline.high) == pytest.approx((2.656, 32.361), abs=1e-3)
    (counts,) = finding.tables[0].rows
    assert (counts["pretraining"], counts["found"]) == ("a", 3)
    assert (counts["file"] + counts["pixels"], counts["near"]) == (1, 2)
    listed = {
        row["test image"].rpartition("/")[2]: row["found as"].rpartition("/")[2]
        for row in finding.tables[-1].rows
    }
    assert listed == {
        "000.png": "copy_0.png", "001.png": "copy_1.jpg", "002.png": "copy_2.jpg",
    }  # fmt: skip


def test_pairs_of_pictures_show_what_was_called_the_same(tmp_path):
    finding = found(tmp_path, planted.cause)
    assert len(finding.pictures) == 6
    for picture in finding.pictures:
        assert (tmp_path / picture.file).is_file() and picture.tags["arm"] == "a"
    pairs = {(picture.tags["pair"], picture.tags["of"]) for picture in finding.pictures}
    assert pairs == {(str(n), side) for n in range(3) for side in ("test", "pretraining")}
    assert not found(tmp_path, planted.cause, Config(num_pictures=0)).pictures


def test_images_of_the_test_alone_count_and_only_what_was_trained_on(tmp_path):
    """A copy in the other data's test split, or of a training image, is no leak."""
    data = data_to_test(tmp_path / "test")
    on = pretraining_data(tmp_path / "on", [("x.png", photograph(900), 0)])
    finding = answer([ExposedRun("a", 0, "a", (on,))], data, Config(), tmp_path)
    assert finding.headline.value == 0
    backwards = answer([ExposedRun("a", 0, "a", (data,))], on, Config(), tmp_path)
    assert backwards.headline.value == 0


def test_several_datasets_of_one_arm_are_all_looked_through(tmp_path):
    data = data_to_test(tmp_path / "test")
    clean = pretraining_data(tmp_path / "clean")
    leaky = pretraining_data(tmp_path / "leaky", [("x.png", photograph(5), 0)], others=3)
    runs = [
        ExposedRun("both", 0, "a", (clean, leaky)),
        ExposedRun("one", 0, "b", (clean,)),
        ExposedRun("other", 0, "c", (clean,)),
    ]
    finding = answer(runs, data, Config(), tmp_path)
    counts = {row["pretraining"]: row["found"] for row in finding.tables[0].rows}
    assert counts == {"both": 1, "one, other": 0}
    assert finding.headline.name == "leaked[both]"
    assert finding.tables[-1].rows[0]["found as"] == "train2/all/x.png"


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_ap_without_the_leaked_images_stands_beside_that_with_them(tmp_path, seeds):
    data = data_to_test(tmp_path / "test")
    leaked = list(range(8))
    copies = [(f"c{index}.png", photograph(index), 0) for index in leaked]
    on = (pretraining_data(tmp_path / "on", copies),)
    runs = [detector("a", seed, on, data, leaked) for seed in seeds]
    runs += [detector("b", seed, on, data, leaked, boost=False) for seed in seeds]
    runs += [detector("random_init", seed, (), data, leaked, boost=False) for seed in seeds]
    finding = answer(runs, data, Config(precision="AP50"), tmp_path)
    rows = {row["arm"]: row for row in finding.tables[1].rows}
    assert set(rows) == {"a", "b"}
    assert rows["a"]["without"] < 1 < rows["a"]["with"] and rows["a"]["high"] < 0
    # Three seeds are too few for a p-value of an effect that 24 images bound so loosely.
    assert (rows["a"]["shown"] == "yes") == (len(seeds) == 1)
    assert rows["b"]["difference"] == pytest.approx(0, abs=1e-9) and rows["b"]["shown"] == "no"
    assert "8 of 24 test images" in finding.answer
    assert "b +0.0 AP points [+0.0, +0.0] (no difference shown)" in finding.answer
    said = "With one seed there is no interval over seeds" in finding.caveat
    assert said == (len(seeds) == 1)


def test_what_cannot_be_answered_is_refused(tmp_path):
    data = data_to_test(tmp_path / "test")
    clean = (pretraining_data(tmp_path / "clean"),)
    with pytest.raises(InputError, match="nobody said what a was pretrained on"):
        answer([ExposedRun("a", 0, "a", None)], data, Config(), tmp_path)
    with pytest.raises(InputError, match="no arm was pretrained on anything"):
        answer([ExposedRun("a", 0, "a", ())], data, Config(), tmp_path)
    with pytest.raises(InputError, match="no data given"):
        answer([ExposedRun("a", 0, "a", clean)], None, Config(), tmp_path)
    one = detector("a", 0, clean, data)
    other = replace(one, arm="b", truth=replace(one.truth, images=one.truth.images[::-1]))
    with pytest.raises(InputError, match=r"b \(seed 0\) was tested on other images than a"):
        answer([one, other], data, Config(), tmp_path)
    with pytest.raises(InputError, match=r"24 images of the test, such as .* are not in the data"):
        answer([one], clean[0], Config(), tmp_path)


def test_the_command_line_takes_the_pretraining_data_and_needs_no_run(tmp_path):
    from typer.testing import CliRunner

    from whytransfer.cli import app

    planted.cause(tmp_path)
    words = ["diagnose", "leakage", "--data", f"imagefolder:{tmp_path / 'test'}"]
    against = ["--against", f"imagefolder:{tmp_path / 'leaky'}"]
    store = ["--store", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*words, *against, *store])
    assert done.exit_code == 0, done.output
    assert "3 of 24 test images" in done.output
    for missing in ([*words, *store], ["diagnose", "convergence", *against, *store]):
        failed = CliRunner().invoke(app, missing)
        assert isinstance(failed.exception, InputError), failed.output


def test_the_finding_is_named_by_the_content_of_what_it_read(tmp_path):
    from whytransfer import diagnose

    runs, data, _ = planted.cause(tmp_path)
    on = runs[0].pretrained_on[0]
    one = diagnose.run("leakage", {}, data, against=on, store=tmp_path / "runs")
    again = diagnose.run("leakage", {}, data, against=on, store=tmp_path / "runs")
    other = diagnose.run(
        "leakage", {}, data, against=pretraining_data(tmp_path / "c"), store=tmp_path / "runs"
    )
    assert one.path == again.path != other.path
