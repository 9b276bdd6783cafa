"""What each arm was pretrained on, as a study tells an analysis that asks for it."""

import shutil

import pytest
import torch
from tests.study import planning
from tests.study.test_arms import DETECTION
from tests.study.test_variants import STUDY as VARIANTS

from whytransfer.core.errors import InputError, InputErrors
from whytransfer.data.make import configure, make
from whytransfer.diagnose.stage import read_finding
from whytransfer.study.executors import Here
from whytransfer.study.run import run

NUM_COPIED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detection set in VOC's layout, and images to pretrain on, three of its test among them."""
    root = tmp_path_factory.mktemp("against")
    for name, maker, fields in (
        ("voc", "crowds", {"num_train": 8, "num_test": 8}),
        ("photos", "things", {"num_train": 32, "num_test": 16}),
    ):
        make(maker, root / name, configure(maker, fields, name), seed=0)
    names = sorted((root / "voc").glob("**/ImageSets/Main/test.txt"))[0].read_text().split()
    images = next((root / "voc").glob("**/JPEGImages"))
    into = next(path for path in (root / "photos" / "train").iterdir() if path.is_dir())
    for name in names[:NUM_COPIED]:
        shutil.copy(images / f"{name}.jpg", into / f"copied_{name}.JPEG")
    return root


def _against(values):
    """Makes of the study of variants one of what pretraining saw."""
    values["name"] = "against"
    values["data"] = {
        "photos": {"format": "imagefolder", "root": "photos"},
        "voc": {"format": "voc", "root": "voc", "classes": "infer"},
        "things": {"make": "things", "config": {"num_train": 32, "num_test": 16}},
    }
    values["pretrain"]["data"] = "photos"
    values["tasks"]["detection"]["data"] = "voc"
    values["analyses"] = {
        "leaks": {"analysis": "leakage", "task": "detection", "config": {"num_draws": 100}},
        "shared": {"analysis": "label_overlap", "task": "detection", "config": {"num_draws": 100}},
    }


def planned(folder, change=lambda values: None, store=None):
    def both(values):
        _against(values)
        change(values)

    return planning.planned(VARIANTS, folder, both, store)


def read_by(found, analysis="leaks"):
    return {role: used.fingerprint for role, used in found[f"diagnose/{analysis}"].against.items()}


def test_by_default_each_arm_was_pretrained_on_its_own_data(folder):
    def change(values):
        values["arms"]["other"] = {"method": "supervised", "data": "things"}
        values["arms"]["boxes"] = {
            "transfer": {"task": "voc07_detection", "data": "voc", "config": DETECTION}
        }

    found, _ = planned(folder, change)
    node = found["diagnose/leaks"]
    assert set(node.against) == {"against/labels/0", "against/other/0", "against/boxes/0"}
    assert node.needs["against/other/0"] == "data/things"
    assert node.against["against/labels/0"].opened.format == "imagefolder"
    assert node.against["against/boxes/0"].opened.format == "voc"
    # What stands under its own name determines the finding, whoever made it.
    assert read_by(found)["against/labels/0"] != read_by(found)["against/other/0"]


def test_one_that_began_with_a_method_that_trains_saw_both(folder):
    def change(values):
        transfer = {"task": "voc07_detection", "data": "voc", "config": DETECTION}
        values["arms"]["boxes"] = {"transfer": {**transfer, "method": "supervised"}}

    found, _ = planned(folder, change)
    assert {"against/boxes/0", "against/boxes/1"} <= set(found["diagnose/leaks"].against)


def test_against_names_other_data_for_all_that_were_trained(folder):
    plain, _ = planned(folder)
    other, _ = planned(folder, lambda v: v["analyses"]["leaks"].update(against="things"))
    assert set(other["diagnose/leaks"].against) == {"against/labels/0"}
    assert other["diagnose/leaks"].needs["against/labels/0"] == "data/things"
    steps = [found["diagnose/leaks"].step.fingerprint for found in (plain, other)]
    assert steps[0] != steps[1]
    with pytest.raises((InputError, InputErrors), match=r"leaks\.against: unknown name 'thinks'"):
        planned(folder, lambda v: v["analyses"]["leaks"].update(against="thinks"))


def test_of_a_checkpoint_somebody_has_to_say_it(folder):
    import safetensors.torch

    from whytransfer.backbone.build import Architecture, build
    from whytransfer.core.streams import Stream

    architecture = Architecture(name="resnet10", width=8, stem_pool=False)
    net = build(architecture, Stream(0, "theirs")).net
    safetensors.torch.save_file(net.state_dict(), folder / "theirs.safetensors")

    def theirs(**fields):
        def change(values):
            values["arms"]["theirs"] = {"checkpoint": "theirs.safetensors", **fields}

        return change

    with pytest.raises(InputError, match=r"leaks\.against: missing.*theirs.*arms\.theirs\.data"):
        planned(folder, theirs())
    found, _ = planned(folder, theirs(data="photos"))
    assert read_by(found)["against/theirs/0"] == read_by(found)["against/labels/0"]


def test_the_study_finds_the_copied_images_and_the_shared_classes(folder):
    torch.set_num_threads(1)
    found, store = planned(folder)
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    leaks = read_finding(found["diagnose/leaks"].step.find(store))
    assert leaks.headline.value == 100 * NUM_COPIED / 8
    assert f"{NUM_COPIED} of 8 test images" in leaks.answer and len(leaks.pictures) == 6
    assert [row["arm"] for row in leaks.tables[1].rows] == ["labels"]
    shared = read_finding(found["diagnose/shared"].step.find(store))
    counts = {row["gain in"]: row["categories"] for row in shared.tables[0].rows}
    assert counts == {"seen": 4, "unseen": 4, "seen - unseen": 8}
    again, _ = planned(folder)
    assert not again.missing(store)
