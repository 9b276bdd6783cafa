"""What ``auto`` settles on, and that recipe and fingerprint hold what it settled on."""

import pytest
import torch

from whytransfer.core import devices
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.train.capabilities import settled
from whytransfer.train.config import Sgd, Training
from whytransfer.transfer import stage as transfer_stage

ASKED = Training(
    steps=1, batch_size=2, sgd=Sgd(lr=0.1), precision="auto", memory_format="auto", compile="auto"
)


def machine(monkeypatch, *, native=False, capability=None):
    """Makes a machine whose CPU has native bfloat16 or not, and a GPU of that capability."""
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: native)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


@pytest.mark.parametrize(
    ("native", "capability", "device", "precision"),
    [
        (False, None, "auto", "32-true"),
        (True, None, "auto", "bf16-mixed"),
        (True, None, "cpu", "bf16-mixed"),
        (False, (8, 0), "auto", "bf16-mixed"),
        (False, (9, 0), "cuda", "bf16-mixed"),
        (True, (7, 5), "auto", "32-true"),
        (False, (9, 0), "cpu", "32-true"),
    ],
)
def test_the_rule(monkeypatch, native, capability, device, precision):
    machine(monkeypatch, native=native, capability=capability)
    found = settled(ASKED, device)
    assert (found.precision, found.memory_format, found.compile) == (
        precision, "channels_last", "never",
    )  # fmt: skip


def test_what_is_named_stays(monkeypatch):
    machine(monkeypatch, native=True)
    named = {"precision": "32-true", "memory_format": "contiguous", "compile": "always"}
    asked = ASKED.model_copy(update=named)
    assert settled(asked, "auto") == asked


def test_this_machine_always_settles_the_same_way():
    assert settled(ASKED, "cpu") == settled(ASKED, "cpu")
    assert settled(ASKED, "cpu").precision in ("32-true", "bf16-mixed")


SETTINGS = {"training": {"precision": "auto", "memory_format": "auto", "compile": "auto"}}


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_recipe_holds_what_was_settled(monkeypatch, native, precision):
    machine(monkeypatch, native=native)
    pretraining = pretrain_stage.resolve("moco_v2", SETTINGS, "test")
    fine_tuning = transfer_stage.resolve("linear_readout", SETTINGS, "test")
    for config in (pretraining, fine_tuning):
        assert config.training.precision == precision
        assert config.training.memory_format == "channels_last"
        assert config.training.compile == "never"


def test_another_machine_gives_another_fingerprint_and_naming_the_values_the_same(monkeypatch):
    def fingerprint(precision, device="auto"):
        values = {"training": {"precision": precision}}
        config = pretrain_stage.resolve("moco_v2", values, "test", device)
        return pretrain_stage.step_for("moco_v2", "0" * 64, config, seed=0).fingerprint

    machine(monkeypatch, native=True, capability=(7, 0))
    here = fingerprint("auto", "cpu")
    assert fingerprint("auto", "cuda") != here  # its GPU is too old for bfloat16
    machine(monkeypatch, native=False)
    assert fingerprint("auto") != here == fingerprint("bf16-mixed")
