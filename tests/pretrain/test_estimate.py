"""The dry run: what it says, what it leaves behind, and what it says where memory is short."""

import itertools
import json
import logging

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from whytransfer.cli import app
from whytransfer.core.errors import InputError
from whytransfer.pretrain import estimate as module
from whytransfer.pretrain.estimate import Estimate, estimate, lines

SETTINGS = {
    "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
    "augmentation": {"crop_px": 16},
    "num_keys": 16,
    "bn_group_size": 4,
    "training": {"epochs": 5, "batch_size": 8, "precision": "32-true"},
}
IMAGE_BYTES = 20 * 24 * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ImageNet folder of two classes of 20 noisy images in all."""
    root = tmp_path_factory.mktemp("estimated")
    generator = np.random.default_rng(0)
    for split, name, count in (("train", "a", 10), ("train", "b", 10), ("val", "a", 1)):
        (root / split / name).mkdir(parents=True)
        for number in range(count):
            noise = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / name / f"{number}.png"), noise)
    (root / "val" / "b").mkdir()
    cv2.imwrite(str(root / "val" / "b" / "0.png"), noise)
    return root


def test_the_real_path_is_measured_and_nothing_is_kept(folder, tmp_path):
    found = estimate("moco_v2", f"imagefolder:{folder}", store=tmp_path / "runs", **SETTINGS)
    assert found.steps == 5 * (20 // 8)
    assert found.seconds == pytest.approx(found.steps * 8 / found.images_per_second)
    assert 0 < found.loader_share < 1
    assert found.fits and found.fitting_batch_size == found.measured_batch_size == 8
    assert found.cache_mb == pytest.approx(20 * IMAGE_BYTES / 2**20)
    assert 50 < found.memory_mb < found.available_mb
    assert found.settled == {
        "device": "cpu", "precision": "32-true", "memory format": "channels_last",
        "convolution": "product", "compile": "never", "applier": "cpu",
    }  # fmt: skip
    assert not (tmp_path / "runs").exists()
    assert not any("does not fit" in line for line in lines(found))


def test_a_doubtful_setting_is_warned_of_once(folder, caplog):
    with caplog.at_level(logging.WARNING):
        estimate("moco_v2", f"imagefolder:{folder}", **SETTINGS | {"num_keys": 64})
        assert [text.partition(" keys is longer")[0] for text in caplog.messages] == [
            "pretrain moco_v2, field num_keys: a queue of 64"
        ]
        logging.getLogger("whytransfer").warning("heard again")
    assert caplog.messages[1:] == ["heard again"]


def test_a_batch_that_would_not_fit_is_never_run(folder, monkeypatch):
    """By the line through batches of 2 and 4: 1000 MiB and 100 more per image; 16 is too many."""
    run = []

    def pace(trial, batch_size, steps):
        run.append((batch_size, steps))
        return module._Pace(0.5, 0.1, 1000.0 + 100.0 * batch_size)

    monkeypatch.setattr(module._Trial, "run", pace)
    monkeypatch.setattr(module, "_available_mb", lambda gpu: 2000.0)
    settings = SETTINGS | {"training": SETTINGS["training"] | {"batch_size": 16}}
    found = estimate("moco_v2", f"imagefolder:{folder}", **settings)
    assert run == [(2, 2), (4, 2), (8, 10)]
    assert not found.fits and found.fitting_batch_size == found.measured_batch_size == 8
    assert found.memory_mb == pytest.approx(2600.0)
    assert found.seconds == pytest.approx(5 * 0.5 * 16 / 8)
    assert "training.batch_size=8 fits" in lines(found)[-1]
    monkeypatch.setattr(module, "_available_mb", lambda gpu: 1000.0)
    found = estimate("moco_v2", f"imagefolder:{folder}", **settings)
    assert found.fitting_batch_size == 0 and found.measured_batch_size == 2
    assert "lower bn_group_size or crop_px" in lines(found)[-1]


def test_the_warm_up_and_the_last_step_are_not_measured(monkeypatch):
    """Steps of 1 s, waits of 0.25 s in them; the first two take 100 s."""
    clock = module._Clock()
    ticks = itertools.accumulate([0, 100, 100, 100, 100, *[0.25, 0.75] * 3, 50])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    assert list(clock.timed(iter("abcde"))) == list("abcde")
    pace = clock.pace(7.0)
    assert (pace.seconds, pace.waited, pace.peak_mb) == (1.0, 0.25, 7.0)


def test_the_command_prints_json(monkeypatch):
    given = []
    settled = {"device": "cpu"}
    found = Estimate(10, 60.0, 5.0, 0.2, 900.0, 3.0, 8000.0, 8, 8, 8, settled)
    monkeypatch.setattr(module, "estimate", lambda *a, **k: given.append((a, k)) or found)
    command = ["pretrain", "moco_v2", "--data", "world:things", "--dry-run", "num_keys=64"]
    printed = CliRunner().invoke(app, [*command, "--json", "--limit", "9"])
    assert json.loads(printed.stdout)["seconds"] == 60.0 and json.loads(printed.stdout)["fits"]
    assert given[0][1]["num_keys"] == 64 and given[0][1]["limit"] == 9
    text = CliRunner().invoke(app, command).stdout
    assert "5 images/s" in text and "900 MiB" in text


def test_what_does_not_train_is_refused(folder):
    with pytest.raises(InputError, match="does not train"):
        estimate("random_init", f"imagefolder:{folder}")
