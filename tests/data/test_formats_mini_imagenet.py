"""mini-ImageNet in its three forms: what the world wrote is read again, what is broken is named."""

import os
import pickle
import re
import shutil

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec, look, made, parse_reference
from whytransfer.data.formats import imagefolder, mini_imagenet
from whytransfer.data.formats._safe_pickle import read_arrays
from whytransfer.data.formats.mini_imagenet import PICKLE, Config
from whytransfer.data.sample import KeepsApart
from whytransfer.data.sharding import write_shards
from whytransfer.data.world import novelties

FORMS = ("csv", "pickle", "folders")
SMALL = {"num_base": 3, "num_validation": 2, "num_novel": 2, "per_kind": 5, "apart": 2}
WORLD = novelties.Config(**SMALL, size_px=32)


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every form, whole; not to be changed."""
    root = tmp_path_factory.mktemp("mini")
    for form in FORMS:
        novelties.write(root / form, WORLD.model_copy(update={"layout": form}), 7)
    return root


@pytest.fixture
def broken(written, tmp_path):
    """Copies one form, to be damaged."""
    return lambda form: shutil.copytree(written / form, tmp_path / form)


def config(root, **fields):
    return Config(root=root, form=root.name, **fields)


def both(source):
    apart = source.kept_apart()
    return source, apart


def names(source):
    return [source.name(index) for index in range(len(source))]


def problems(config):
    return [str(problem) for problem in mini_imagenet.check(config).problems]


class TestReading:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(("split", "part"), [("train", "train"), ("test", "test")])
    def test_what_the_world_wrote(self, written, form, split, part):
        source = mini_imagenet.open(config(written / form), split)
        kinds = [kind for kind in novelties.kinds(WORLD) if kind.set == part]
        label = (lambda kind: str(kind.number)) if form == "pickle" else (lambda kind: kind.label)
        assert source.classes == tuple(label(kind) for kind in kinds)
        sources = [source]
        if split == "train":
            sources.append(source.kept_apart())
            assert source.kept_apart().classes == source.classes
        seen = set()
        for found in sources:
            for index in range(len(found)):
                sample = found[index]
                kind = kinds[sample.label]
                rendered = [novelties.render(WORLD, kind, 7, n).image for n in range(5)]
                apart = [np.abs(sample.image.astype(int) - image).mean() for image in rendered]
                assert min(apart) < (0.01 if form == "pickle" else 3)
                seen.add((sample.label, int(np.argmin(apart))))
                assert found.size(index) == sample.image.shape[:2] == (32, 32)
                assert found.label(index) == sample.label and found.name(index) == sample.name
                assert found.path(index).is_file()
        assert seen == {(label, n) for label in range(len(kinds)) for n in range(5)}
        assert sum(map(len, sources)) == len(seen)

    @pytest.mark.parametrize("form", FORMS)
    def test_validation_classes_in_the_place_of_the_novel_ones(self, written, form):
        novel = mini_imagenet.open(config(written / form), "test")
        validation = mini_imagenet.open(config(written / form, novel="val"), "test")
        base = mini_imagenet.open(config(written / form), "train")
        assert len(validation.classes) == 2 and len(validation) == 10
        everything = novel.classes + validation.classes + base.classes
        assert len(set(everything)) == 7

    def test_the_order_of_a_list_does_not_matter(self, broken):
        root = broken("csv")
        before = [names(found) for found in both(mini_imagenet.open(config(root), "train"))]
        head, *lines = (root / "train.csv").read_text().splitlines()
        (root / "train.csv").write_text("\n".join([head, *reversed(lines)]))
        assert [names(found) for found in both(mini_imagenet.open(config(root), "train"))] == before

    def test_images_from_full_size_imagenet_by_their_numbers(self, broken, tmp_path):
        """The rule of 1-based places, on names whose text and number are in different orders."""
        root = broken("csv")
        expected = {
            source.name(i): source[i].image
            for source in both(mini_imagenet.open(config(root), "train"))
            for i in range(len(source))
        }
        numbers = (3, 20, 100, 1000, 9)
        for path in (root / "images").iterdir():
            label, place = path.stem[:9], int(path.stem[-5:])
            number = sorted(numbers)[place - 1]
            target = tmp_path / "ILSVRC/train" / label / f"{label}_{number}.JPEG"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        given = config(root, imagenet=str(tmp_path / "ILSVRC/train"))
        for source in both(mini_imagenet.open(given, "train")):
            for index in range(len(source)):
                assert np.array_equal(source[index].image, expected[source.name(index)])
        assert problems(given) == []
        shutil.rmtree(tmp_path / "ILSVRC/train/n90000000")
        with raises("ILSVRC/train/n90000000", "no such folder", "complete ImageNet") as caught:
            mini_imagenet.open(given, "train")
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("form", FORMS)
    def test_nothing_else_is_in_the_fingerprint(self, written, form, tmp_path):
        first = from_spec(look(written / form), None, "test")
        shutil.copytree(written / form, tmp_path / "elsewhere")
        again = from_spec(look(tmp_path / "elsewhere"), None, "test")
        assert first.fingerprint == again.fingerprint
        files = set(first.open("train").files())
        apart = first.open("train").kept_apart()
        assert {apart.path(i) for i in range(len(apart))} <= files

    def test_what_is_kept_apart_enters_the_fingerprint(self, broken):
        root = broken("csv")
        before = from_spec(look(root), None, "test").fingerprint
        apart = mini_imagenet.open(config(root), "train").kept_apart()
        shutil.copyfile(apart.path(1), apart.path(0))
        assert from_spec(look(root), None, "test").fingerprint != before


class TestBaseValidation:
    def test_a_share_of_each_class_is_kept_apart(self, written):
        for share, count in ((0.1, 1), (0.4, 2), (0.9, 4)):
            given = config(written / "csv", base_validation=share)
            train, apart = both(mini_imagenet.open(given, "train"))
            assert isinstance(train, KeepsApart)
            assert np.bincount(apart.part.labels).tolist() == [count] * 3
            assert np.bincount(train.part.labels).tolist() == [5 - count] * 3
            assert not set(names(train)) & set(names(apart))
        none = mini_imagenet.open(config(written / "csv", base_validation=0), "train")
        assert none.kept_apart() is None and len(none) == 15

    def test_it_is_a_function_of_the_class_alone(self, written, broken):
        """Lists and folders agree, and a class more or less changes nothing for the others."""
        root = broken("folders")
        _, listed = both(mini_imagenet.open(config(written / "csv"), "train"))
        _, found = both(mini_imagenet.open(config(root), "train"))
        assert [name.partition("/")[2] for name in names(found)] == names(listed)
        shutil.rmtree(root / "train/n90000000")
        _, fewer = both(mini_imagenet.open(config(root), "train"))
        assert names(fewer) == names(found)[1:]

    def test_it_is_a_permutations_beginning_of_the_named_stream(self, written):
        _, apart = both(mini_imagenet.open(config(written / "csv", base_validation=0.4), "train"))
        drawn = Stream(0, "mini_imagenet/base validation/n90000000").permutation(5)[:2]
        expected = sorted(f"n90000000{place + 1:08d}.jpg" for place in drawn.tolist())
        assert names(apart)[:2] == expected

    def test_the_published_pair_comes_first_and_a_share_where_it_is_missing(self, broken):
        root = broken("pickle")
        train, apart = both(mini_imagenet.open(config(root), "train"))
        assert (len(train), len(apart)) == (9, 6)
        (root / PICKLE.format("train_phase_val")).unlink()
        train, apart = both(mini_imagenet.open(config(root), "train"))
        assert (len(train), len(apart)) == (6, 3)


class TestRefusals:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_missing_root_and_a_missing_split(self, broken, form, tmp_path):
        with raises(tmp_path / "no", "no such folder"):
            mini_imagenet.open(Config(root=tmp_path / "no", form=form), "train")
        root = broken(form)
        missing = {"csv": "test.csv", "pickle": PICKLE.format("test"), "folders": "test"}[form]
        path = root / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with raises(path, "no such", "expected", "add it"):
            mini_imagenet.open(config(root), "test")
        assert len(mini_imagenet.open(config(root), "train"))
        assert any(str(path) in problem for problem in problems(config(root)))

    @pytest.mark.parametrize("form", FORMS)
    def test_the_wrong_level(self, written, form):
        with raises("one level too high", written / form):
            mini_imagenet.open(Config(root=written, form=form), "train")
        below = {"csv": "images", "folders": "train"}.get(form)
        if below:
            with raises("too low", written / form):
                mini_imagenet.open(Config(root=written / form / below, form=form), "train")

    def test_no_labels_and_no_header(self, broken):
        root = broken("csv")
        text = (root / "train.csv").read_text()
        (root / "train.csv").write_text(text.partition("\n")[2])
        with raises("train.csv, line 1", "n9000", "expected filename,label"):
            mini_imagenet.open(config(root), "train")
        (root / "train.csv").write_text(text.replace(",n90000000\n", "\n"))
        with raises("train.csv, line 2", "expected filename,label") as caught:
            mini_imagenet.open(config(root), "train")
        assert len(str(caught.value).splitlines()) == 5
        (root / "train.csv").write_text("filename,label\n")
        with raises("train.csv", "lists no image"):
            mini_imagenet.open(config(root), "train")

    def test_an_image_listed_twice(self, broken):
        root = broken("csv")
        lines = (root / "test.csv").read_text().splitlines()
        (root / "test.csv").write_text("\n".join([*lines, lines[1]]))
        with raises("test.csv, line 12", "again, as line 2 does", "remove one of the lines"):
            mini_imagenet.open(config(root), "test")

    def test_images_that_are_not_there(self, broken):
        root = broken("csv")
        lost = sorted((root / "images").iterdir())[0]
        lost.unlink()
        with raises("train.csv", "lists 1 of 15 files that are not under", lost.name, "(line 2)"):
            mini_imagenet.open(config(root), "train")
        shutil.rmtree(root / "images")
        with raises(root / "images", "no such folder", "set images: to it, or imagenet:"):
            mini_imagenet.open(config(root), "train")

    def test_numbers_that_imagenet_does_not_have(self, broken, tmp_path):
        root = broken("csv")
        folder = tmp_path / "in/n90000000"
        folder.mkdir(parents=True)
        (folder / "n90000000_7.JPEG").write_bytes(b"x")
        given = config(root, imagenet=str(tmp_path / "in"))
        (root / "train.csv").write_text("filename,label\nn9000000000000002.jpg,n90000000\n")
        with raises("train.csv, line 2", "is image 2 of its class", "has 1", "expected 1 to 1"):
            mini_imagenet.open(given, "train")
        (root / "train.csv").write_text("filename,label\ncat.jpg,n90000000\n")
        with raises("train.csv, line 2", "names cat.jpg", "ends in 5 digits"):
            mini_imagenet.open(given, "train")
        (folder / "cat.JPEG").write_bytes(b"x")
        (root / "train.csv").write_text("filename,label\nn9000000000000001.jpg,n90000000\n")
        with raises("cat.JPEG", "has no number in its name", "remove it"):
            mini_imagenet.open(given, "train")

    def test_an_empty_class_folder_and_a_split_without_any(self, broken):
        root = broken("folders")
        (root / "train/n90000009").mkdir()
        with raises("n90000009", "no image in it", "remove the folder"):
            mini_imagenet.open(config(root), "train")
        shutil.rmtree(root / "test")
        (root / "test").mkdir()
        with raises(root / "test", "holds no folders", "one folder per class"):
            mini_imagenet.open(config(root), "test")

    @pytest.mark.parametrize("form", FORMS)
    def test_a_class_in_two_splits(self, broken, form):
        root = broken(form)
        if form == "csv":
            line = (root / "train.csv").read_text().splitlines()[1]
            with (root / "test.csv").open("a") as file:
                file.write(line.replace("00000001.jpg", "00000005.jpg") + "\n")
        elif form == "folders":
            shutil.copytree(root / "train/n90000000", root / "test/n90000000")
        else:
            path = root / PICKLE.format("test")
            content = pickle.loads(path.read_bytes())
            content["labels"][0] = 0
            path.write_bytes(pickle.dumps(content, protocol=2))
        name = "0" if form == "pickle" else "n90000000"
        found = problems(config(root))
        other = PICKLE.format("train_phase_train") if form == "pickle" else "train"
        assert any(f"has the class {name}, which is in {other}" in problem for problem in found)
        with raises(f"the classes {name} are in train and in test", "classes in test that train"):
            from_spec({"format": "mini_imagenet", "root": str(root), "form": form}, None, "here")

    @pytest.mark.parametrize("form", ["csv", "folders"])
    def test_the_same_picture_in_two_splits_and_one_that_is_damaged(self, broken, form):
        root = broken(form)
        train = mini_imagenet.open(config(root), "train")
        test = mini_imagenet.open(config(root), "test")
        shutil.copyfile(train.path(3), test.path(4))
        test.path(5).write_bytes(test.path(5).read_bytes()[:200])
        found = problems(config(root))
        assert len(found) == 2
        assert f"{test.name(4)}: has the pixels of {train.name(3)}, which is in train" in found[0]
        assert str(test.path(5)) in found[1] and "can't be decoded" in found[1]


class TestPickles:
    def test_code_of_strangers_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "was run"),)

        path = tmp_path / PICKLE.format("test")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps({"data": Evil(), "labels": [1]}, protocol=protocol))
            with raises(path, "names", "mkdir", "NumPy arrays", "nothing in it was run"):
                mini_imagenet.open(Config(root=tmp_path, form="pickle"), "test")
            assert not (tmp_path / "was run").exists()

    @pytest.mark.parametrize(
        "name", ["builtins eval", "os system", "numpy.core.multiarray fromfile", "numpy load",
                 "builtins getattr", "posix system", "numpy._core.multiarray fromstring"],
    )  # fmt: skip
    def test_no_other_name_is_admitted(self, tmp_path, name):
        module, function = name.split()
        path = tmp_path / "a.pickle"
        path.write_bytes(f"c{module}\n{function}\n(S'x'\ntR.".encode())
        with raises(path, f"names {module}.{function}"):
            read_arrays(path)

    def test_arrays_of_any_protocol_and_of_python_2(self, tmp_path):
        data = Stream(0, "pickle").integers(24, 256).astype(np.uint8).reshape(2, 2, 2, 3)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = tmp_path / f"{protocol}.pickle"
            content = {"data": data, "labels": [np.int64(3), 4], "names": ("a", b"b")}
            path.write_bytes(pickle.dumps(content, protocol=protocol))
            found = read_arrays(path)
            assert np.array_equal(found["data"], data) and list(found["labels"]) == [3, 4]
        # As Python 2 writes it: bytes are text there.
        old = (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q"
            b"\x03U\x01bq\x04\x87q\x05Rq\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02u1q\tK\x00"
            b"K\x01\x87q\nRq\x0b(K\x03U\x01|q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb"
            b"\x89U\x02\x01\xfeq\x0etq\x0fb."
        )
        (tmp_path / "old.pickle").write_bytes(old)
        assert read_arrays(tmp_path / "old.pickle").tolist() == [1, 254]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ([1, 2], ("holds list", "data and labels")),
            ({"data": np.zeros((2, 4, 4, 3), np.uint8)}, ("holds ['data']",)),
            ({"data": np.zeros((2, 4, 4)), "labels": [0, 1]}, ("data is float64 (2, 4, 4)",)),
            ({"data": np.zeros((2, 4, 4, 3)), "labels": [0, 1]}, ("data is float64", "uint8")),
            ({"data": np.zeros((2, 4, 4, 3), np.uint8), "labels": [0]}, ("(1,) for 2 images",)),
            ({"data": np.zeros((1, 4, 4, 3), np.uint8), "labels": ["a"]}, ("labels are <U1",)),
        ],
    )
    def test_another_content_is_named(self, tmp_path, content, words):
        path = tmp_path / PICKLE.format("test")
        path.write_bytes(pickle.dumps(content, protocol=2))
        with raises(path, *words):
            mini_imagenet.open(Config(root=tmp_path, form="pickle"), "test")

    def test_a_cut_and_an_empty_one(self, broken):
        root = broken("pickle")
        path = root / PICKLE.format("test")
        path.write_bytes(path.read_bytes()[:-100])
        with raises(path, "can't be read"):
            mini_imagenet.open(config(root), "test")
        path.write_bytes(b"")
        with raises(path, "can't be read"):
            mini_imagenet.open(config(root), "test")

    def test_the_pair_must_have_the_same_classes(self, broken):
        root = broken("pickle")
        path = root / PICKLE.format("train_phase_val")
        content = pickle.loads(path.read_bytes())
        content["labels"][-2:] = [77, 77]
        path.write_bytes(pickle.dumps(content, protocol=2))
        with raises(path, "train_phase_train", "in the classes 2, 77", "same classes"):
            mini_imagenet.open(config(root), "train")

    def test_a_changed_file_is_read_again(self, broken):
        root = broken("pickle")
        before = mini_imagenet.open(config(root), "test")[0].image
        path = root / PICKLE.format("test")
        content = pickle.loads(path.read_bytes())
        content["data"] = 255 - content["data"]
        path.write_bytes(pickle.dumps(content, protocol=2))
        os.utime(path, ns=(0, 0))
        assert np.array_equal(mini_imagenet.open(config(root), "test")[0].image, 255 - before)


@pytest.mark.parametrize("form", FORMS)
def test_recognise(written, form):
    assert look(written / form) == {
        "format": "mini_imagenet", "root": str(written / form), "form": form,
    }  # fmt: skip
    assert parse_reference(f"mini_imagenet:{written / form}")["form"] == form
    assert imagefolder.recognise(written / form) is None
    assert mini_imagenet.recognise(written) is None


def test_folders_whose_classes_are_the_same_stay_imagenets(broken, layouts):
    assert mini_imagenet.recognise(layouts / "folder") is None
    root = broken("folders")
    shutil.rmtree(root / "val")
    shutil.copytree(root / "train", root / "val")
    assert mini_imagenet.recognise(root) is None
    assert imagefolder.recognise(root) == {"root": str(root), "test": "val"}


def test_folders_with_other_names_are_read_but_not_taken_for_it(broken):
    """The cities of Cityscapes lie in such folders, too."""
    root = broken("folders")
    for part in ("train", "val", "test"):
        for folder in list((root / part).iterdir()):
            folder.rename(folder.with_name(f"kind{folder.name}"))
    assert mini_imagenet.recognise(root) is None
    assert len(mini_imagenet.open(config(root), "test")) == 10


def test_shards_have_one_list_of_classes(written, tmp_path):
    dataset = made(written / "csv", {"format": "mini_imagenet", "form": "csv"}, "")
    with raises("the test split has classes of its own", "read the files as they are"):
        write_shards(dataset, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
