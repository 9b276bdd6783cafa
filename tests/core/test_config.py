import pytest
from pydantic import Field

from whytransfer.core.config import (
    Config,
    assumed,
    assumptions,
    build,
    merge,
    override,
    read_yaml,
    to_plain,
    to_yaml,
)
from whytransfer.core.errors import InputError, InputErrors


class Inner(Config):
    lr: float = Field(0.03, gt=0)
    momentum: float = 0.9
    warmup_steps: int = assumed(100, "taken from the reference's VOC config", ge=0)


class Outer(Config):
    name: str
    train: Inner = Inner()
    scale: tuple[float, float] = (0.2, 1.0)
    parts: tuple[Inner, ...] = ()


def test_yaml_round_trip_is_exact(tmp_path):
    config = build(Outer, {"name": "a", "train": {"lr": 0.1}, "parts": [{"lr": 1e-5}]}, "x")
    path = tmp_path / "a.yaml"
    path.write_text(to_yaml(config))
    assert build(Outer, read_yaml(path), "again") == config
    assert build(Outer, to_plain(config), "again") == config


def test_every_error_at_once_with_its_path_and_nearest_match():
    values = {"train": {"lr": "fast", "momentun": 1}, "parts": [{"warmup_stepz": 1}], "nmae": "x"}
    with pytest.raises(InputErrors) as caught:
        build(Outer, values, "my.yaml")
    text = str(caught.value)
    assert len(text.splitlines()) == 5
    assert "my.yaml, field train.lr: found 'fast'" in text
    assert "train.momentun: unknown field; expected one of lr, momentum, warmup_steps" in text
    assert "did you mean 'momentum'?" in text
    assert "parts.0.warmup_stepz: unknown field" in text and "'warmup_steps'" in text
    assert "field name: missing" in text
    assert "field nmae: unknown field" in text and "did you mean 'name'?" in text


def test_literal_errors_name_the_nearest_allowed_value():
    from typing import Literal

    class Choice(Config):
        label: Literal["shape", "shape+surface", "surface"] = "shape"

    with pytest.raises(InputErrors, match="did you mean 'surface'"):
        build(Choice, {"label": "surfaces"}, "x")


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Inner().lr = 1.0


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.lr=0.03", 0.03),
        ("train.lr=1e-4", 1e-4),
        ("train.lr=[0.2, 1]", [0.2, 1]),
        ("train.lr=true", True),
        ("train.lr=none", "none"),
        ("train.lr=", None),
        ("train.lr=a=b", "a=b"),
    ],
)
def test_override_reads_values_as_yaml(assignment, value):
    base = {"train": {"lr": 1, "steps": 2}}
    assert override(base, [assignment]) == {"train": {"lr": value, "steps": 2}}
    assert base == {"train": {"lr": 1, "steps": 2}}


@pytest.mark.parametrize("bad", ["train.lr", "=3", "train..lr=1", "train.lr.x=1", "a=[1"])
def test_bad_overrides_are_refused(bad):
    with pytest.raises(InputError):
        override({"train": {"lr": 1}}, [bad])


def test_merge_keeps_what_the_second_does_not_name():
    assert merge({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}, "f": [1]}) == {
        "a": {"b": 1, "c": {"d": 2, "e": 3}},
        "f": [1],
    }


def test_assumptions_are_listed_with_path_value_and_reason():
    found = list(assumptions(build(Outer, {"name": "a", "train": {"warmup_steps": 7}}, "x")))
    assert [(a.field, a.value, a.reason) for a in found] == [
        ("train.warmup_steps", 7, "taken from the reference's VOC config")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "stands twice"),
        ("a: [1\n", "not readable as YAML"),
        ("- 1\n", "holds list"),
        ("a: !!python/object/apply:os.system ['true']\n", "not readable as YAML"),
    ],
)
def test_yaml_that_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_yaml(path)
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_yaml_anchors_and_merge_keys_work(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {x: 1, y: 2}\nover: {<<: *b, y: 3}\n")
    assert read_yaml(path)["over"] == {"x": 1, "y": 3}
