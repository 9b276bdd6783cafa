import pytest
import yaml

from whytransfer.core.errors import InputError, InputErrors
from whytransfer.study import shipped, spec

GOOD = {
    "name": "mine",
    "reference": "random",
    "data": {
        "photos": {"format": "imagefolder", "root": "photos"},
        "boxes": {"format": "voc", "root": "/data/VOCdevkit", "classes": "infer"},
        "world": {"make": "things", "config": {"num_train": 40}},
    },
    "pretrain": {"data": "photos"},
    "arms": {"random": {"method": "random_init"}, "theirs": {"checkpoint": "a.pth"}},
    "tasks": {"det": {"task": "voc07_detection", "data": "boxes", "headline": "AP"}},
    "analyses": {"errors": {"analysis": "detection_errors", "task": "det"}},
}


def write(tmp_path, values):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    found = spec.read(write(tmp_path, GOOD))
    assert found.data["photos"].fields["root"] == str(tmp_path / "photos")
    assert found.data["boxes"].fields == {"root": "/data/VOCdevkit", "classes": "infer"}
    assert found.arms["theirs"].checkpoint == tmp_path / "a.pth"
    assert found.seeds == (0,)


def test_overrides_reach_every_field(tmp_path):
    path = write(tmp_path, GOOD)
    found = spec.read(path, ("seeds=[1,2]", "data.world.config.num_train=7", "limit=5"))
    assert found.seeds == (1, 2) and found.limit == 5
    assert found.data["world"].config == {"num_train": 7}


def test_all_unknown_names_are_reported_at_once_with_their_nearest_match(tmp_path):
    bad = yaml.safe_load(yaml.safe_dump(GOOD))
    bad["reference"] = "randon"
    bad["pretrain"]["data"] = "photo"
    bad["arms"]["x"] = {"method": "moco2"}
    bad["arms"]["y"] = {"method": "moco_v2", "checkpoint": "b.pth"}
    bad["tasks"]["det"]["task"] = "voc_detection"
    bad["analyses"]["errors"]["analysis"] = "detection_error"
    with pytest.raises(InputErrors) as caught:
        spec.read(write(tmp_path, bad))
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    for line, part in zip(
        lines,
        [
            "field reference: unknown name 'randon'; expected one of random, theirs, x, y; did",
            "expected one of boxes, photos, world; did you mean 'photos'?",
            "did you mean 'moco_v2'?",
            "field arms.y: gives method and checkpoint; expected method or checkpoint",
            "did you mean 'voc07_detection'?",
            "did you mean 'detection_errors'?",
        ],
        strict=True,
    ):
        assert part in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "field seeds"),
        ({"nmae": 1}, "field nmae: unknown field"),
        ({"name": "../x"}, "field name"),
        ({"arms": {"a": {"methd": "x"}}}, "did you mean 'method'"),
        (
            {"data": {"w": {"make": "things", "num_train": 3}}, "pretrain": {"data": "w"}},
            "num_train",
        ),
    ],
)
def test_wrong_fields_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        spec.read(write(tmp_path, GOOD | change))


def test_an_unknown_study_names_the_shipped_ones():
    with pytest.raises(InputError, match=r"study 'dmo': unknown.*did you mean 'demo'"):
        spec.read("dmo")
    with pytest.raises(InputError, match="no such file"):
        spec.read("absent.yaml")


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_study_parses_and_describes_itself(name):
    found = spec.read(name)
    assert found.name == name and found.description and found.caveats
