"""What ``data make`` writes, and that it writes all or nothing."""

import json
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from whytransfer.cli import datasets
from whytransfer.core import plugins
from whytransfer.core.errors import InputError
from whytransfer.data import make
from whytransfer.data.checks import check
from whytransfer.data.world import crowds, things

THINGS = {"num_train": 40, "num_test": 20, "size_px": 48}
CROWDS = {"num_train": 9, "num_test": 10, "size_px": 64}


@pytest.fixture(scope="module")
def written_things(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "things"
    make.make("things", root, make.configure("things", THINGS, "test"), seed=3)
    return root


@pytest.fixture(scope="module")
def written_crowds(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "crowds"
    make.make("crowds", root, make.configure("crowds", CROWDS, "test"), seed=3)
    return root


def sidecar(root):
    return [json.loads(line) for line in (root / "factors.jsonl").read_text().splitlines()]


def as_plain(factors):
    plain = {name: value for name, value in vars(factors).items() if name != "visible"}
    return json.loads(json.dumps(plain))


def assert_sidecar_is_exact(maker, config, root):
    for line in sidecar(root):
        rendered = maker.render(config, 3, line["index"])
        assert line["objects"] == [as_plain(factors) for factors in rendered.objects]
        assert line["background"]["light"] == rendered.background.light
        decoded = cv2.imread(str(root / line["file"]))[:, :, ::-1].astype(int)
        assert np.abs(decoded - rendered.image).mean() < 5


def test_things_have_the_imagenet_layout(written_things):
    for split, count in (("train", 40), ("val", 20)):
        folders = sorted(path.name for path in (written_things / split).iterdir())
        assert folders == list(things.classes(things.Config(**THINGS)))
        files = list((written_things / split).glob("*/*.JPEG"))
        assert len(files) == count
    assert len(sidecar(written_things)) == 60


def test_things_sidecar_holds_the_exact_factors(written_things):
    assert_sidecar_is_exact(things, things.Config(**THINGS), written_things)
    for line in sidecar(written_things):
        assert Path(line["file"]).parts[1] == line["objects"][0]["category"]


def test_crowds_sidecar_holds_the_exact_factors(written_crowds):
    assert_sidecar_is_exact(crowds, crowds.Config(**CROWDS), written_crowds)


def test_world_json_suffices_to_render_again(written_crowds):
    world = json.loads((written_crowds / "world.json").read_text())
    assert world["maker"] == "crowds" and world["seed"] == 3
    assert plugins.find("world", world["maker"]).Config(**world["config"]) == crowds.Config(
        **CROWDS
    )


def test_crowds_have_the_voc_layout(written_crowds):
    devkit = written_crowds / "VOC2007"
    sets = {
        path.stem: path.read_text().split()
        for path in (devkit / "ImageSets" / "Main").glob("*.txt")
    }
    assert set(sets) == {"train", "val", "trainval", "test"}
    assert sets["trainval"] == [f"{number:06d}" for number in range(1, 10)]
    assert sets["train"] + sets["val"] == sets["trainval"]
    assert sets["test"] == [f"{number:06d}" for number in range(10, 20)]
    names = sets["trainval"] + sets["test"]
    assert sorted(path.stem for path in (devkit / "JPEGImages").glob("*.jpg")) == names
    assert sorted(path.stem for path in (devkit / "Annotations").glob("*.xml")) == names


def test_annotated_boxes_are_one_based_and_inclusive(written_crowds):
    edges = set()
    for line in sidecar(written_crowds):
        name = Path(line["file"]).stem
        root = ElementTree.parse(written_crowds / "VOC2007" / "Annotations" / f"{name}.xml")
        assert root.findtext("filename") == f"{name}.jpg"
        assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == [
            "64",
            "64",
            "3",
        ]
        nodes = root.findall("object")
        for node, factors in zip(nodes, line["objects"], strict=True):
            corners = [
                int(node.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")
            ]
            left, top, right, bottom = factors["box_xyxy"]
            assert corners == [left + 1, top + 1, right, bottom]
            assert node.findtext("name") == factors["category"] == factors["shape"]
            assert node.findtext("pose") == "Unspecified"
            assert node.findtext("truncated") == str(int(factors["truncated"]))
            assert node.findtext("difficult") == str(int(factors["difficult"]))
            edges |= set(corners)
    assert min(edges) == 1 and max(edges) == 64


def test_more_training_pictures_leave_the_test_pictures_alone(tmp_path, written_things):
    more = make.configure("things", {**THINGS, "num_train": 41}, "test")
    make.make("things", tmp_path / "more", more, seed=3)
    for path in written_things.rglob("*.JPEG"):
        again = tmp_path / "more" / path.relative_to(written_things)
        assert again.read_bytes() == path.read_bytes()


def test_every_maker_says_what_it_writes():
    assert {"crowds", "photos", "things"} <= set(plugins.names("world"))
    for name in plugins.names("world"):
        module = plugins.find("world", name)
        assert module.DATASET["format"] == module.FORMAT
        assert module.FORMAT in plugins.names("format")
        make.configure(name, {}, "test")


def test_a_folder_with_files_is_never_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="holds files; expected a new or empty folder"):
        make.make("things", tmp_path, make.configure("things", THINGS, "test"), seed=0)
    with pytest.raises(InputError, match="is a file"):
        make.make("things", tmp_path / "mine.txt", make.configure("things", THINGS, "test"), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    root = tmp_path / "empty"
    root.mkdir()
    make.make("crowds", root, make.configure("crowds", CROWDS, "test"), seed=0)
    assert (root / "VOC2007").is_dir()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match=r"can't be written \(No space left on device\)"):
        make.make("things", tmp_path / "out", make.configure("things", THINGS, "test"), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_get_a_hint():
    with pytest.raises(InputError, match="did you mean 'things'"):
        make.configure("thing", {}, "test")
    with pytest.raises(InputError, match="did you mean 'num_train'"):
        make.configure("things", {"num_trains": 3}, "test")


@pytest.fixture(scope="module")
def written_shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "shards"
    config = make.configure("things", THINGS, "test")
    make.make("things", root, config, seed=3, images_per_shard=16)
    return root


def contents(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


class TestShards:
    def test_names_and_sidecars(self, written_shards, written_things):
        assert sorted(contents(written_shards)) == [
            "classes.txt", "factors.jsonl", "index.npz",
            "train-000000.tar", "train-000001.tar", "train-000002.tar",
            "val-000000.tar", "val-000001.tar", "world.json",
        ]  # fmt: skip
        assert (written_shards / "classes.txt").read_text().split() == list(
            things.classes(things.Config(**THINGS))
        )
        for name in ("factors.jsonl", "world.json"):
            assert (written_shards / name).read_bytes() == (written_things / name).read_bytes()

    def test_members_are_those_that_webdataset_reads(self, written_shards, written_things):
        with tarfile.open(written_shards / "train-000001.tar") as tar:
            infos = tar.getmembers()
            found = {info.name: tar.extractfile(info).read() for info in infos}
        assert [info.name for info in infos][:4] == [
            "000000016.jpeg", "000000016.cls", "000000016.json", "000000017.jpeg",
        ]  # fmt: skip
        assert len(infos) == 3 * 16 and {info.mtime for info in infos} == {0}
        classes = (written_shards / "classes.txt").read_text().split()
        for key in ("000000016", "000000031"):
            content = json.loads(found[f"{key}.json"])
            path = written_things / "train" / content["name"]
            assert found[f"{key}.jpeg"] == path.read_bytes()
            assert int(found[f"{key}.cls"]) == content["label"]
            assert classes[content["label"]] == path.parent.name

    def test_any_dataset_becomes_the_same_shards(self, written_things, written_shards, tmp_path):
        make.convert(f"imagefolder:{written_things}", tmp_path / "a", {}, 16)
        expected = contents(written_shards)
        found = contents(tmp_path / "a")
        assert found == {name: expected[name] for name in found} and len(found) == 7
        make.convert(f"shards:{tmp_path / 'a'}", tmp_path / "b", {}, 16)
        assert contents(tmp_path / "b") == found
        make.convert(str(tmp_path / "a"), tmp_path / "c", {"test": None}, 100)
        assert sorted(contents(tmp_path / "c")) == ["classes.txt", "index.npz", "train-000000.tar"]
        report = check(str(tmp_path / "c"))
        assert report.problems == () and report.counts["train images"] == 40

    def test_images_without_labels(self, written_crowds, tmp_path):
        make.convert(f"images:{written_crowds / 'VOC2007/JPEGImages'}", tmp_path / "a", {}, 10)
        report = check(str(tmp_path / "a"))
        assert report.problems == ()
        assert report.counts == {"classes": 0, "train shards": 2, "train images": 19}

    def test_annotations_are_never_dropped_unseen(self, written_crowds, tmp_path):
        with pytest.raises(InputError, match=r"has boxes, which shards can't hold.*images:FOLDER"):
            make.convert(f"voc:{written_crowds}", tmp_path / "a", {}, 10)
        config = make.configure("crowds", CROWDS, "test")
        with pytest.raises(InputError, match="has boxes"):
            make.make("crowds", tmp_path / "a", config, seed=0, images_per_shard=10)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_with_files_is_never_touched(self, written_things, tmp_path):
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(InputError, match="holds files; expected a new or empty folder"):
            make.convert(f"imagefolder:{written_things}", tmp_path, {}, 10)

    def test_unknown_fields(self, written_things, tmp_path):
        with pytest.raises(InputError, match=r"data make .*field tset: unknown field"):
            make.convert(f"imagefolder:{written_things}", tmp_path / "a", {"tset": None}, 10)

    def test_on_the_command_line(self, tmp_path, written_things, written_shards):
        run = CliRunner().invoke
        files, whole = f"imagefolder:{written_things}", str(tmp_path / "whole")
        done = run(datasets.app, ["make", files, whole, "--shards", "--images-per-shard", "16"])
        assert done.exit_code == 0 and done.stdout.strip() == whole
        assert contents(tmp_path / "whole").items() <= contents(written_shards).items()
        done = run(datasets.app, ["make", files, str(tmp_path / "no")])
        assert isinstance(done.exception, InputError) and "add --shards" in str(done.exception)
        done = run(
            datasets.app,
            ["make", "things", str(tmp_path / "made"), "num_train=16", "num_test=16", "--shards"],
        )
        assert done.exit_code == 0 and (tmp_path / "made/train-000000.tar").is_file()
