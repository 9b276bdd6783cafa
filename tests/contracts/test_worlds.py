"""What every maker must do; a new file in ``data/world`` is tested as it is."""

import hashlib
import typing

import pytest

from whytransfer.core import plugins
from whytransfer.data.checks import check
from whytransfer.data.dataset import look, made
from whytransfer.data.make import configure, make, reading

# Small, so that a test takes a second; a maker without these fields is made as it is.
SMALL = {
    "things": {"num_train": 16, "num_test": 16},
    "crowds": {"num_train": 8, "num_test": 8},
    "photos": {"stride_px": 64},
    "faces": {"num_train": 6, "num_val": 2, "num_test": 2, "num_identities": 3},
    "places": {"num_train": 15, "num_test": 15, "size_px": 32},
    "novelties": {
        "num_base": 3, "num_validation": 2, "num_novel": 2, "per_kind": 4, "apart": 1,
        "size_px": 32,
    },
    "streets": {"num_images": 4, "frames": 2, "width_px": 64, "height_px": 48},
}  # fmt: skip


def written(name, folder, seed=0, **fields):
    make(name, folder, configure(name, SMALL.get(name, {}) | fields, "test"), seed)
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
    assert len(train) and len(test)
    if dataset.config.NEW_CLASSES:
        assert train.classes and test.classes and not set(train.classes) & set(test.classes)
    else:
        assert train.classes == test.classes
    for source in (train, test):
        assert len({source.name(i) for i in range(len(source))}) == len(source)
    assert train[0].image.dtype == "uint8" and train[0].image.ndim == 3


def layouts():
    for name in plugins.names("world"):
        field = plugins.find("world", name).Config.model_fields.get("layout")
        yield from (
            (name, layout) for layout in (typing.get_args(field.annotation) if field else ())
        )


@pytest.mark.parametrize(("name", "layout"), list(layouts()))
def test_every_layout_of_a_world_is_read_by_the_fields_that_it_names(name, layout, tmp_path):
    written(name, tmp_path / "a", layout=layout)
    config = configure(name, SMALL[name] | {"layout": layout}, "test")
    fields = reading(name, config)
    found = look(tmp_path / "a")
    assert fields.items() <= found.items()
    assert check(str(tmp_path / "a")).problems == ()
    dataset = made(tmp_path / "a", fields, "0" * 64)
    assert len(dataset.open("train")) and len(dataset.open("test"))
    if layout == plugins.find("world", name).Config.model_fields["layout"].default:
        assert fields["format"] == plugins.find("world", name).FORMAT
