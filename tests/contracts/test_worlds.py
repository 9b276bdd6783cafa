"""What every maker must do; a new file in ``data/world`` is tested as it is."""

import hashlib

import pytest

from whytransfer.core import plugins
from whytransfer.data.checks import check
from whytransfer.data.dataset import look, made
from whytransfer.data.make import configure, make

# Small, so that a test takes a second; a maker without these fields is made as it is.
SMALL = {
    "things": {"num_train": 16, "num_test": 16},
    "crowds": {"num_train": 8, "num_test": 8},
    "photos": {"stride_px": 64},
}


def written(name, folder, seed=0):
    make(name, folder, configure(name, SMALL.get(name, {}), "test"), seed)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", plugins.names("world"))
def test_a_world_is_a_whole_dataset_of_its_format_and_the_same_each_time(name, tmp_path):
    module = plugins.find("world", name)
    first, again = written(name, tmp_path / "a"), written(name, tmp_path / "b")
    assert first == again
    report = check(str(tmp_path / "a"), {k: v for k, v in module.DATASET.items() if k != "format"})
    assert (
        report.format == module.FORMAT == module.DATASET["format"] == look(tmp_path / "a")["format"]
    )
    assert report.problems == ()
    dataset = made(tmp_path / "a", module.DATASET, "0" * 64)
    train, test = dataset.open("train"), dataset.open("test")
    assert len(train) and len(test) and train.classes == test.classes
    for source in (train, test):
        assert len({source.name(i) for i in range(len(source))}) == len(source)
    assert train[0].image.dtype == "uint8" and train[0].image.ndim == 3
