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
    bad["arms"]["z"] = {"transfer": {"task": "voc_detection", "data": "box", "method": "moco2"}}
    bad["tasks"]["det"]["task"] = "voc_detection"
    bad["analyses"]["errors"]["analysis"] = "detection_error"
    with pytest.raises(InputErrors) as caught:
        spec.read(write(tmp_path, bad))
    lines = str(caught.value).splitlines()
    assert len(lines) == 9
    for line, part in zip(
        lines,
        [
            "field reference: unknown name 'randon'; expected one of random, theirs, x, y, z; did",
            "expected one of boxes, photos, world; did you mean 'photos'?",
            "did you mean 'moco_v2'?",
            "field arms.y: gives method and checkpoint; expected method or checkpoint or transfer",
            "field arms.z.transfer.method: unknown name 'moco2'",
            "field arms.z.transfer.task: unknown name 'voc_detection'",
            "field arms.z.transfer.data: unknown name 'box'; expected one of boxes, photos, world",
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
        ({"arms": {"a": {"transfer": {"task": "x"}}}}, "field arms.a.transfer.data: missing"),
        ({"arms": {"a": {"transfer": {"tsk": "x"}}}}, "did you mean 'task'"),
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
    assert found.name.startswith(name) and found.description and found.caveats


def test_the_chosen_scale_is_laid_over_the_file_and_overrides_over_both(tmp_path):
    small = {"seeds": [7], "data": {"world": {"config": {"num_train": 80}}}}
    path = write(tmp_path, GOOD | {"scale": "small", "scales": {"small": small, "large": {}}})
    found = spec.read(path)
    assert (found.name, found.scale, found.seeds) == ("mine_small", "small", (7,))
    assert found.data["world"].config == {"num_train": 80}
    large = spec.read(path, ("scale=large", "data.world.config.num_train=9"))
    assert (large.name, large.seeds) == ("mine_large", (0,))
    assert large.data["world"].config == {"num_train": 9}


def test_an_unknown_scale_is_named_with_those_there_are(tmp_path):
    path = write(tmp_path, GOOD | {"scale": "small", "scales": {"small": {}, "large": {}}})
    with pytest.raises(InputError, match=r"no scale 'smal'.*one of large, small.*small"):
        spec.read(path, ("scale=smal",))


@pytest.mark.parametrize(("seeds", "said"), [("[0]", "One"), ("[0, 1]", "2"), ("[0, 1, 2]", "")])
def test_few_seeds_are_said_to_be_few(tmp_path, seeds, said):
    caveat = spec.read(write(tmp_path, GOOD), (f"seeds={seeds}",)).seeds_caveat
    if not said:
        assert caveat is None
    else:
        assert caveat.startswith(f"{said} pretraining seed")
        assert "no conclusion" in caveat


def test_a_server_s_address_is_no_path(tmp_path):
    shards = {"format": "shards", "root": "http://127.0.0.1/set"}
    found = spec.read(write(tmp_path, GOOD | {"data": GOOD["data"] | {"photos": shards}}))
    assert found.data["photos"].fields["root"] == "http://127.0.0.1/set"


def test_fields_by_which_a_made_dataset_is_read_go_with_make_alone(tmp_path):
    data = GOOD["data"] | {"photos": GOOD["data"]["photos"] | {"read": {"train_list": "a.txt"}}}
    with pytest.raises(InputError, match=r"data.photos.read.*goes with make"):
        spec.read(write(tmp_path, GOOD | {"data": data}))
