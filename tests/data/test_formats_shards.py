import io
import json
import os
import pickle
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.range_server import serve

from whytransfer.core.errors import InputError
from whytransfer.data import make
from whytransfer.data.augmentation import Augmentation
from whytransfer.data.checks import check
from whytransfer.data.dataset import from_spec, look, parse_reference
from whytransfer.data.formats import _folders, _shard_index, imagefolder, shards
from whytransfer.data.formats._folders import LocalFolder, Stamp
from whytransfer.data.formats._shard_index import Index, build, read_index
from whytransfer.data.formats._texts import Texts
from whytransfer.data.formats.shards import Config
from whytransfer.data.loader import EpochOrder, load

THINGS = {"num_train": 23, "num_test": 16, "size_px": 40, "num_shapes": 4}


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_folders, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One dataset as files and as shards."""
    root = tmp_path_factory.mktemp("both")
    config = make.configure("things", THINGS, "test")
    make.make("things", root / "files", config, seed=1)
    make.make("things", root / "shards", config, seed=1, images_per_shard=5)
    return root


@pytest.fixture
def copy(both, tmp_path):
    """The shards, to be damaged."""
    return shutil.copytree(both / "shards", tmp_path / "copy")


@pytest.fixture(scope="module")
def jpegs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 24, 32, 3), dtype=np.uint8)
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in images]


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    settle(path)


def settle(*paths):
    for path in paths:
        os.utime(path, (path.stat().st_mtime - 100,) * 2)


def foreign(root, jpegs, labels=("3", "11", "3", "7", "11", "7"), per_shard=3, prefix="train"):
    """Shards of somebody else's: other keys, other members, no index."""
    for start in range(0, len(labels), per_shard):
        members = [("README", b"hello"), ("sub", b"")]
        for number in range(start, min(start + per_shard, len(labels))):
            members.append((f"sub/{number:04d}.cls", labels[number].encode()))
            members.append((f"sub/{number:04d}.jpg", jpegs[number]))
            members.append((f"sub/{number:04d}.seg.png", b"no matter"))
        write_tar(root / f"{prefix}-{start // per_shard:03d}.tar", members)
    return root


def assert_same(one, other):
    assert len(one) == len(other) and one.classes == other.classes
    for index in range(len(one)):
        a, b = one[index], other[index]
        assert (a.name, a.label) == (b.name, b.label) == (other.name(index), other.label(index))
        assert np.array_equal(a.image, b.image)
        assert one.size(index) == other.size(index) == a.image.shape[:2]


class TestSameAsFiles:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_names_labels_classes_and_pixels_in_the_same_order(self, both, split):
        files = imagefolder.open(imagefolder.Config(root=both / "files"), split)
        inside = shards.open(Config(root=str(both / "shards")), split)
        assert_same(files, inside)
        assert inside.objects(0) is None and inside.landmarks(0) is None

    def test_the_bytes_are_those_of_the_files(self, both):
        files = imagefolder.open(imagefolder.Config(root=both / "files"), "train")
        inside = shards.open(Config(root=str(both / "shards")), "train")
        for index in range(len(files)):
            assert inside.encoded(index) == files.path(index).read_bytes()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_training_batches_are_the_same_bits(self, both, workers):
        from whytransfer.pretrain.views import Views, collate

        files = imagefolder.open(imagefolder.Config(root=both / "files"), "train")
        inside = shards.open(Config(root=str(both / "shards")), "train")
        order = EpochOrder(len(files), 4, seed=5)
        augmentation = Augmentation(crop_px=32)

        def batches(source, workers):
            views = Views(source, augmentation, 2, 5, 0)
            return list(load(views, order, collate, first_step=3, num_steps=6, workers=workers))

        for a, b in zip(batches(files, 0), batches(inside, workers), strict=True):
            assert all((x == y).all() for x, y in zip(a.views, b.views, strict=True))
            assert (a.labels == b.labels).all() and (a.indices == b.indices).all()

    def test_reading_does_not_depend_on_the_process_or_the_thread(self, both):
        source = shards.open(Config(root=str(both / "shards")), "train")
        plain = [source[index].image for index in range(len(source))]
        sent = pickle.loads(pickle.dumps(source))
        order = list(range(len(source))) * 4
        with ThreadPoolExecutor(4) as pool:
            for index, image in zip(order, pool.map(lambda i: sent[i].image, order), strict=True):
                assert np.array_equal(image, plain[index])
        assert len(pickle.dumps(source)) < 20_000


class TestForeignShards:
    def test_labels_are_sorted_as_numbers(self, tmp_path, jpegs):
        foreign(tmp_path, jpegs)
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source.classes == ("3", "7", "11")
        assert [source.label(index) for index in range(6)] == [0, 2, 0, 1, 2, 1]
        assert source.name(4) == "train-001.tar:sub/0004.jpg"
        assert source.path(4) == tmp_path / "train-001.tar"
        assert source.encoded(4) == jpegs[4] and source[4].image.shape == (24, 32, 3)

    def test_labels_as_text_and_in_json(self, tmp_path, jpegs):
        members = []
        for number, label in enumerate(["dog", "cat", "dog"]):
            members.append((f"{number}.jpeg", jpegs[number]))
            members.append((f"{number}.json", json.dumps({"label": label, "x": [1]}).encode()))
        write_tar(tmp_path / "train-0.tar", members)
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source.classes == ("cat", "dog")
        assert [source.label(index) for index in range(3)] == [1, 0, 1]

    def test_names_of_the_classes(self, tmp_path, jpegs):
        foreign(tmp_path, jpegs, ("1", "0", "b"))
        (tmp_path / "classes.txt").write_text("a\nb\n")
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source.classes == ("a", "b")
        assert [source.label(index) for index in range(3)] == [1, 0, 1]

    def test_test_images_are_numbered_by_the_training_labels(self, tmp_path, jpegs):
        foreign(tmp_path, jpegs)
        foreign(tmp_path, jpegs, ("11", "7"), prefix="val")
        source = shards.open(Config(root=str(tmp_path)), "test")
        assert source.classes == ("3", "7", "11") and [source.label(0), source.label(1)] == [2, 1]
        foreign(tmp_path, jpegs, ("11", "5"), prefix="val")
        with raises("val-000.tar:sub/0001.jpg", "the label '5' is unknown"):
            shards.open(Config(root=str(tmp_path)), "test")

    def test_without_labels(self, tmp_path, jpegs):
        write_tar(tmp_path / "train-0.tar", [(f"{n}.jpg", jpegs[n]) for n in range(3)])
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source.classes == () and source.label(0) is None and source[2].label is None

    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names(self, tmp_path, jpegs, form):
        name = "/".join(["folder" * 10] * 4) + "/0.jpg"
        with tarfile.open(tmp_path / "train-0.tar", "w", format=form) as tar:
            info = tarfile.TarInfo(name)
            info.size = len(jpegs[0])
            tar.addfile(info, io.BytesIO(jpegs[0]))
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source.name(0) == f"train-0.tar:{name}" and source.encoded(0) == jpegs[0]

    def test_ranges_and_lists_of_names(self, tmp_path, jpegs):
        foreign(tmp_path, jpegs, per_shard=1)
        config = Config(root=str(tmp_path), train="train-{001..003}.tar", test=["train-000.tar"])
        assert [len(shards.open(config, split)) for split in ("train", "test")] == [3, 1]
        with raises("train-006.tar", "no such file"):
            shards.open(Config(root=str(tmp_path), train="train-{004..006}.tar"), "train")

    def test_which_shards_are_which_is_recognised(self, tmp_path, jpegs):
        for name, train, test in (
            ("a", "train-0.tar", "val-0.tar"),
            ("b", "imagenet-train-00.tar", "imagenet-validation-00.tar"),
            ("c", "train/00.tar", "test/00.tar"),
            ("d", "part-00.tar", None),
        ):
            for place in filter(None, (train, test)):
                write_tar(tmp_path / name / place, [("0.jpg", jpegs[0])])
            spec = look(tmp_path / name)
            assert spec["format"] == "shards" and (spec["test"] is None) == (test is None)
            dataset = from_spec(spec, None, "here")
            assert all(len(dataset.open(split)) == 1 for split in dataset.config.splits)

    def test_the_tars_that_a_dataset_was_unpacked_from_are_no_shards(self, both, tmp_path, jpegs):
        root = shutil.copytree(both / "files", tmp_path / "files")
        write_tar(root / "ILSVRC2012_img_val.tar", [("a.JPEG", jpegs[0])])
        write_tar(root / "devkit-2012.tar", [("a.xml", b"<a/>")])
        assert look(root)["format"] == "imagefolder"


class TestCache:
    @pytest.fixture
    def scans(self, monkeypatch):
        seen = []
        original = _shard_index.scan_shard
        monkeypatch.setattr(
            _shard_index, "scan_shard", lambda *args: seen.append(args[1]) or original(*args)
        )
        return seen

    def test_headers_are_read_once(self, tmp_path, jpegs, scans):
        foreign(tmp_path / "set", jpegs)
        config = Config(root=str(tmp_path / "set"), test=None)
        first = shards.open(config, "train")
        assert sorted(scans) == ["train-000.tar", "train-001.tar"]
        scans.clear()
        assert_same(first, shards.open(config, "train"))
        assert scans == []
        foreign(tmp_path / "set", jpegs, ("3", "11", "3", "7", "11", "3"))
        os.utime(tmp_path / "set/train-001.tar", (1000, 1000))
        assert shards.open(config, "train").label(5) == 0
        assert scans

    def test_what_was_written_just_now_is_not_kept(self, tmp_path, jpegs, scans):
        foreign(tmp_path / "set", jpegs)
        for path in (tmp_path / "set").iterdir():
            os.utime(path)
        for _ in range(2):
            shards.open(Config(root=str(tmp_path / "set"), test=None), "train")
        assert len(scans) == 4

    def test_a_damaged_cache_and_one_that_can_not_be_written(self, tmp_path, jpegs, scans):
        foreign(tmp_path / "set", jpegs)
        config = Config(root=str(tmp_path / "set"), test=None)
        shards.open(config, "train")
        (kept,) = (tmp_path / "cache").rglob("*.npz")
        kept.write_bytes(b"damage")
        assert len(shards.open(config, "train")) == 6
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").write_text("a file")
        assert len(shards.open(config, "train")) == 6
        assert len(scans) == 6

    def test_an_index_beside_the_shards_spares_the_pass(self, both, scans):
        assert len(shards.open(Config(root=str(both / "shards")), "train")) == 23
        assert scans == []


class TestFingerprint:
    def fingerprint(self, root, **fields):
        return from_spec({"format": "shards", "root": str(root), **fields}, None, "x").fingerprint

    def test_is_of_the_content_and_not_of_the_place_or_the_index(self, both, copy):
        first = self.fingerprint(both / "shards")
        assert self.fingerprint(copy) == first
        (copy / "index.npz").unlink()
        assert self.fingerprint(copy) == first
        (copy / "classes.txt").write_text((copy / "classes.txt").read_text().swapcase())
        assert self.fingerprint(copy) != first

    def test_the_same_over_http(self, both):
        with serve(both / "shards") as served:
            assert self.fingerprint(served.url) == self.fingerprint(both / "shards")
            assert self.fingerprint(served.url + "/") == self.fingerprint(both / "shards")

    def test_a_shard_that_is_not_as_indexed(self, copy):
        path = copy / "train-000002.tar"
        data = bytearray(path.read_bytes())
        data[3000] ^= 1
        path.write_bytes(data)
        with raises(path, "its SHA-256 is", "recorded is"):
            self.fingerprint(copy)

    def test_over_http_without_an_index(self, tmp_path, jpegs):
        root = foreign(tmp_path / "set", jpegs)
        with serve(root) as served:
            fields = {"train": "train-{000..001}.tar", "test": None}
            first = self.fingerprint(served.url, **fields)
            assert self.fingerprint(served.url, **fields) == first
            foreign(root, jpegs[::-1])
            tagged = self.fingerprint(served.url, **fields)
            assert tagged != first
            served.tags = "dates"
            assert self.fingerprint(served.url, **fields) != tagged
            served.tags = ""
            with raises("train-000.tar", "neither ETag nor Last-Modified", "write an index"):
                self.fingerprint(served.url, **fields)


class TestHttp:
    def test_the_same_samples_with_a_request_each(self, both):
        with serve(both / "shards") as served:
            local = shards.open(Config(root=str(both / "shards")), "train")
            far = from_spec(parse_reference(f"shards:{served.url}"), None, "here").open("train")
            assert {name for name, first, _ in served.asked if first is None} == {
                "index.npz", "classes.txt",
            }  # fmt: skip
            served.asked.clear()
            for index in (17, 3, 22):
                assert np.array_equal(far[index].image, local[index].image)
            row = local.index
            assert served.asked == [
                (row.shards[row.shard[i]], int(row.start[i]), int(row.size[i])) for i in (17, 3, 22)
            ]
            assert_same(local, far)

    def test_workers_read_it(self, both):
        from whytransfer.pretrain.views import Views, collate

        with serve(both / "shards") as served:
            views = [
                Views(shards.open(Config(root=root), "train"), Augmentation(crop_px=32), 1, 0, 0)
                for root in (str(both / "shards"), served.url)
            ]
            order = EpochOrder(23, 4, seed=0)
            here = list(load(views[0], order, collate, 0, 3, workers=0))
            there = list(load(views[1], order, collate, 0, 3, workers=2))
            for a, b in zip(here, there, strict=True):
                assert (a.views[0] == b.views[0]).all() and (a.labels == b.labels).all()

    def test_without_an_index_headers_are_asked_for_and_kept(self, tmp_path, jpegs):
        big = [(f"{n}.jpg", jpegs[n] + bytes(200_000)) for n in range(4)]
        write_tar(tmp_path / "set/train-0.tar", big)
        with serve(tmp_path / "set") as served:
            config = Config(root=served.url, train="train-{0..0}.tar", test=None)
            source = shards.open(config, "train")
            assert sum(size for *_, size in served.asked) < 200_000
            assert [source.encoded(n) for n in range(4)] == [data for _, data in big]
            served.asked.clear()
            shards.open(config, "train")
            assert [size for name, _, size in served.asked if name == "train-0.tar"] == [1]
            with raises(served.url, "a server can't be asked which files fit train-*.tar"):
                shards.open(Config(root=served.url), "train")

    @pytest.mark.parametrize("failures", [[503], [500, 429, 0], [0]])
    def test_failures_that_pass(self, both, failures):
        with serve(both / "shards") as served:
            source = shards.open(Config(root=served.url), "train")
            plain = source[4].image
            served.failures = list(failures)
            assert np.array_equal(source[4].image, plain) and served.failures == []

    def test_failures_that_stay(self, both):
        with serve(both / "shards") as served:
            source = shards.open(Config(root=served.url), "train")
            served.failures, served.asked[:] = [503] * 9, []
            with raises("train-000000.tar", "can't be read (503", "can be resumed"):
                source[4]
            assert len(served.asked) == 4
            served.failures, served.asked[:] = [403], []
            with raises("train-000000.tar", "can't be read (403"):
                source[4]
            assert len(served.asked) == 1
        with raises("train-000000.tar", "can't be read (", "refused"):
            source[4]

    def test_a_server_without_ranges(self, both):
        with serve(both / "shards") as served:
            source = shards.open(Config(root=served.url), "train")
            served.ranges = False
            with raises("train-000000.tar", "the server ignores ranges (answered 200)", "206"):
                source[0]

    def test_a_shard_that_changed_or_is_cut(self, copy):
        path = copy / "train-000000.tar"
        with serve(copy) as served:
            source = shards.open(Config(root=served.url), "train")
            whole = path.read_bytes()
            path.write_bytes(whole + bytes(512))
            with raises(served.url, "train-000000.tar", f"{len(whole) + 512} bytes", "indexed"):
                source[0]
            path.write_bytes(whole[: int(source.index.start[1]) + 10])
            with raises("train-000000.tar:000000001.jpeg", "the shard ends at byte"):
                source[1]
            with raises("train-000000.tar:000000003.jpeg", "the shard ends at byte"):
                source[3]
            path.unlink()
            with raises("train-000000.tar", "no such file on the server"):
                source[1]

    def test_addresses(self, both, tmp_path):
        with raises("http://host/set", "an address without a format", "give shards:http://"):
            parse_reference("http://host/set")
        with raises("imagefolder:http://host/set", "imagefolder reads no addresses"):
            parse_reference("imagefolder:http://host/set")
        for address in ("ftp://host/set", "http://host/set?key=1"):
            with raises("field root"):
                from_spec({"format": "shards", "root": address}, None, "here")
        with serve(tmp_path) as served:
            spec = parse_reference(f"shards:{served.url}")
            assert spec == {"format": "shards", "root": served.url}

    def test_check(self, both):
        with serve(both / "shards") as served:
            report = check(f"shards:{served.url}")
            assert report.problems == () and report.counts["train images"] == 23


class TestRefusals:
    def test_truncated_with_an_index(self, copy):
        path = copy / "train-000001.tar"
        source = shards.open(Config(root=str(copy)), "train")
        first = int(np.flatnonzero(source.index.shard == 1)[0])
        size = int(source.index.start[first + 2]) + 100
        path.write_bytes(path.read_bytes()[:size])
        with raises(f"{path}:{source.member(first + 2)}", f"ends at byte {size}", "copy it again"):
            shards.open(Config(root=str(copy)), "train")
        for behind in (2, 3):
            with raises(f"{path}:{source.member(first + behind)}", f"ends at byte {size}"):
                source[first + behind]
        report = check(str(copy))
        assert {p.where.rpartition("/")[2].partition(":")[0] for p in report.problems} == {
            "train-000001.tar"
        }

    @pytest.mark.parametrize("where", ["data", "header", "end", "nothing"])
    def test_truncated_without_an_index(self, tmp_path, jpegs, where):
        path = foreign(tmp_path, jpegs, per_shard=6) / "train-000.tar"
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        cut, last = {
            "data": (members[-2].offset_data + 50, members[-2].name),
            "header": (members[-2].offset + 100, members[-3].name),
            "end": (members[-1].offset_data + 512, members[-1].name),
            "nothing": (0, ""),
        }[where]
        path.write_bytes(path.read_bytes()[:cut])
        expected = (f"{path}:{last}", f"byte {cut}") if cut else (path, "is no tar")
        with raises(*expected):
            shards.open(Config(root=str(tmp_path), test=None), "train")

    def test_a_damaged_header(self, tmp_path, jpegs):
        path = foreign(tmp_path, jpegs, per_shard=6) / "train-000.tar"
        with tarfile.open(path) as tar:
            member, before = tar.getmembers()[6], tar.getmembers()[5].name
        data = bytearray(path.read_bytes())
        data[member.offset + 150] ^= 0xFF
        path.write_bytes(data)
        with raises(f"{path}:{before}", f"no tar header at byte {member.offset}"):
            shards.open(Config(root=str(tmp_path), test=None), "train")

    def test_no_tar_and_a_compressed_one(self, tmp_path, jpegs):
        (tmp_path / "train-0.tar").write_bytes(b"text" * 1000)
        with raises("train-0.tar", "is no tar", "uncompressed"):
            shards.open(Config(root=str(tmp_path), test=None), "train")
        with tarfile.open(tmp_path / "train-0.tar", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("a.jpg"))
        with raises("train-0.tar", "is no tar", "not compressed ones"):
            shards.open(Config(root=str(tmp_path), test=None), "train")

    def test_a_member_that_is_no_image(self, tmp_path, jpegs):
        bad = [jpegs[0], b"no image", b"", jpegs[1][:300]]
        write_tar(tmp_path / "train-0.tar", [(f"{n}.jpg", data) for n, data in enumerate(bad)])
        source = shards.open(Config(root=str(tmp_path), test=None), "train")
        assert source[0].image.shape == (24, 32, 3)
        with raises(tmp_path / "train-0.tar:1.jpg", "can't be decoded", "data check"):
            source[1]
        with raises(tmp_path / "train-0.tar:1.jpg", "can't be decoded"):
            source.size(1)
        with raises(tmp_path / "train-0.tar:2.jpg", "empty (0 bytes)"):
            source[2]
        report = shards.check(Config(root=str(tmp_path), test=None))
        assert report.counts == {"classes": 0, "train shards": 1, "train images": 4}
        assert [p.where.rpartition(":")[2] for p in report.problems] == ["1.jpg", "2.jpg", "3.jpg"]

    @pytest.mark.parametrize(
        ("members", "parts"),
        [
            (["0.jpg", "0.cls=1", "1.jpg", "2.jpg"], ["train-0.tar:1.jpg", "has no label", "(2"]),
            (["0.jpg", "0.png"], ["train-0.tar:0", "2 images among its files (0.jpg, 0.png)"]),
            (["0.cls=1"], ["train-0.tar:0", "no images among its files (0.cls)"]),
            (["0.v1.jpg"], ["train-0.tar:0", "no images among its files (0.v1.jpg)"]),
            (["0.jpg", "1.jpg", "0.cls=1"], ["train-0.tar:0", "no images among its files (0.cls)"]),
            (["0.jpg", "1.jpg", "0.jpg"], ["train-0.tar:0", "the key stands twice"]),
            (["0.jpg", "0.json={"], ["train-0.tar:0", "its label can't be read"]),
            (["0.jpg", "0.json=[]"], ["train-0.tar:0", "json holds list"]),
            (["0.jpg", '0.json={"label": 1.5}'], ["train-0.tar:0", "json has label 1.5"]),
            (["0.jpg", "0.cls=1", '0.json={"label": 2}'], ["cls says '1', json '2'"]),
            (["notes=1"], ["train-0.tar", "holds no image"]),
            ([], ["train-0.tar", "holds no"]),
            (
                ["0.jpg", '0.json={"name": "a"}', "1.jpg", '1.json={"name": "a"}'],
                ["the name 'a' stands twice"],
            ),
        ],
    )  # fmt: skip
    def test_samples_that_make_no_sense(self, tmp_path, jpegs, members, parts):
        content = []
        for member in members:
            name, _, text = member.partition("=")
            content.append((name, text.encode() or jpegs[0]))
        write_tar(tmp_path / "train-0.tar", content)
        with raises(*parts):
            shards.open(Config(root=str(tmp_path), test=None), "train")

    def test_missing_and_unknown_shards(self, copy, jpegs):
        with raises(copy, "no shard fits test-*.tar", "set test:"):
            shards.open(Config(root=str(copy), test="test-*.tar"), "test")
        write_tar(copy / "train-000099.tar", [("0.jpg", jpegs[0])])
        with raises("index.npz", "does not know train-000099.tar"):
            shards.open(Config(root=str(copy)), "train")
        (copy / "train-000099.tar").unlink()
        (copy / "train-000001.tar").unlink()
        with raises("train-000001.tar", "no such file"):
            shards.open(Config(root=str(copy)), "train")
        with raises(copy.parent / "no", "no such folder"):
            shards.open(Config(root=str(copy.parent / "no")), "train")
        with raises("has no test images"):
            shards.open(Config(root=str(copy), test=None), "test")

    @pytest.mark.parametrize("damage", [b"", b"text", "version"])
    def test_a_damaged_index(self, copy, monkeypatch, damage):
        path = copy / "index.npz"
        if damage == "version":
            index = read_index(path.read_bytes(), "here")
            monkeypatch.setattr(_shard_index, "_VERSION", 2)
            damage = index.to_bytes()
            monkeypatch.undo()
        path.write_bytes(damage)
        with raises(path, "is no index of shards", "remove it"):
            shards.open(Config(root=str(copy)), "train")

    def test_bad_class_names(self, copy):
        for text in ("a\n\nb\n", "a\na\n", ""):
            (copy / "classes.txt").write_text(text)
            with raises("classes.txt", "one class per line"):
                shards.open(Config(root=str(copy)), "train")
        (copy / "classes.txt").write_text("only\n")
        with raises("train-000001.tar", "the label '1' is unknown (6 such", "classes.txt"):
            shards.open(Config(root=str(copy)), "train")


def test_check_compares_with_the_index(both, copy):
    report = check(str(both / "shards"))
    assert report.problems == ()
    assert report.counts == {
        "classes": 4, "train shards": 5, "train images": 23, "test shards": 4, "test images": 16,
    }  # fmt: skip
    path = copy / "val-000001.tar"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # behind the end of the tar: nothing but the hash can tell
    path.write_bytes(data)
    report = check(str(copy))
    assert [p.where for p in report.problems] == [str(path)]
    assert "SHA-256" in report.problems[0].found


class TestIndex:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(max_size=8)), st.data())
    def test_texts_are_a_list(self, items, data):
        texts = Texts.of(items)
        assert list(texts) == items and len(texts) == len(items)
        assert [texts[index] for index in range(len(items))] == items
        first = data.draw(st.integers(0, len(items)))
        stop = data.draw(st.integers(first, len(items)))
        assert list(texts.part(first, stop)) == items[first:stop]
        parts = [texts.part(0, first), texts.part(first, stop), texts.part(stop, len(items))]
        assert list(Texts.joined(parts)) == items

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.lists(st.text(max_size=5), max_size=4), min_size=1, max_size=5), st.data())
    def test_round_trip_and_selection(self, names, data):
        rows = [(shard, name) for shard, found in enumerate(names) for name in found]
        whole = Index(
            tuple(f"s{shard}" for shard in range(len(names))),
            np.arange(len(names)) * 7,
            tuple(f"m{shard}" for shard in range(len(names))),
            np.array([shard for shard, _ in rows], dtype=np.int32),
            np.arange(len(rows)) * 3,
            np.arange(len(rows)) + 1,
            *(Texts.of(f"{kind}{name}" for _, name in rows) for kind in "mnl"),
        )
        again = read_index(whole.to_bytes(), "here")
        assert again.to_bytes() == whole.to_bytes()
        chosen = data.draw(st.permutations(range(len(names))))
        chosen = chosen[: data.draw(st.integers(1, len(names)))]
        part = again.select([f"s{shard}" for shard in chosen])
        expected = [(shard, row) for shard in chosen for row, r in enumerate(rows) if r[0] == shard]
        assert part.marks == tuple(f"m{shard}" for shard in chosen)
        assert part.sizes.tolist() == [7 * shard for shard in chosen]
        assert part.start.tolist() == [3 * row for _, row in expected]
        assert list(part.names) == [f"n{rows[row][1]}" for _, row in expected]
        assert [chosen[number] for number in part.shard.tolist()] == [s for s, _ in expected]

    def test_offsets_are_those_that_tarfile_says(self, tmp_path, jpegs):
        foreign(tmp_path, jpegs, per_shard=6)
        size = (tmp_path / "train-000.tar").stat().st_size
        index, problems = build(LocalFolder(tmp_path), ["train-000.tar"], [Stamp(size, "m")])
        assert problems == []
        with tarfile.open(tmp_path / "train-000.tar") as tar:
            images = [info for info in tar if info.name.endswith(".jpg")]
        assert list(index.members) == [info.name for info in images]
        assert index.start.tolist() == [info.offset_data for info in images]
        assert index.size.tolist() == [info.size for info in images]
