"""A study that asks its pretrained networks: planned, run, and read as any other analysis."""

from functools import partial

import pytest
import torch
from tests.study import planning

from whytransfer.core.errors import InputError
from whytransfer.study import plan, results, spec
from whytransfer.study.executors import Here
from whytransfer.study.run import run

READOUT = {
    "augmentation": {"crop_px": 32}, "resize_px": 36, "crop_px": 32,
    "training": {"epochs": 1, "batch_size": 8, "schedule": {"milestones": [1]}},
}  # fmt: skip
STUDY = {
    "name": "asked",
    "description": "What do two random networks see?",
    "seeds": [0, 1],
    "reference": "random_init",
    "num_draws": 100,
    "data": {"things": {"make": "things", "config": {
        "num_train": 32, "num_test": 24, "num_shapes": 3, "size_px": 32}}},
    "pretrain": {"data": "things", "config": {
        "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
        "augmentation": {"crop_px": 32}, "bn_group_size": 4,
        "training": {"epochs": None, "steps": 2, "batch_size": 8}}},
    "arms": {"supervised": {"method": "supervised"}, "random_init": {"method": "random_init"}},
    "tasks": {"readout": {
        "task": "linear_readout", "data": "things", "headline": "top1", "config": READOUT}},
    "analyses": {
        "collapse": {"analysis": "invariance", "data": "things",
                     "config": {"levels": ["layer2"], "num_draws": 100}},
        "contents": {"analysis": "localisation_content", "task": "readout",
                     "config": {"levels": ["layer2"], "num_values": 128, "num_draws": 100}},
    },
}  # fmt: skip


planned = partial(planning.planned, STUDY)


def test_networks_are_asked_once_they_are_pretrained(tmp_path):
    torch.set_num_threads(1)
    found, store = planned(tmp_path)
    node = found["diagnose/collapse"]
    assert node.needs == {
        "supervised/seed0": "pretrain/supervised/seed0",
        "random_init/seed0": "pretrain/random_init/seed0",
        "supervised/seed1": "pretrain/supervised/seed1",
        "random_init/seed1": "pretrain/random_init/seed1",
        "data": "data/things",
    }
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    assert plan.make(spec.read(str(tmp_path / "study.yaml")), store).missing(store) == []
    findings = {one.name: one.finding for one in results.collect(found, store, {}).findings}
    assert set(findings) == {"collapse", "contents"}
    for finding in findings.values():
        assert "[supervised - random_init]" in finding.headline.name
        assert "Fewer than three seeds of supervised, random_init" in finding.caveat


def test_images_must_be_named_where_no_task_names_them(tmp_path):
    with pytest.raises(InputError, match=r"analyses\.collapse\.data: missing: nothing says which"):
        planned(tmp_path, lambda values: values["analyses"]["collapse"].pop("data"))


def test_what_fine_tuning_keeps_needs_a_task(tmp_path):
    def ask(values):
        values["analyses"] = {"drift": {"analysis": "drift", "data": "things"}}

    with pytest.raises(InputError, match=r"analyses\.drift\.task: missing: drift reads the runs"):
        planned(tmp_path, ask)
