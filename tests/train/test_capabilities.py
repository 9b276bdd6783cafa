"""What ``auto`` settles on, and that recipe and fingerprint hold what it settled on."""

import pytest
import torch

from whytransfer.core import devices
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.train import capabilities
from whytransfer.train.capabilities import settled
from whytransfer.train.config import Sgd, Training
from whytransfer.transfer import stage as transfer_stage

ASKED = Training(
    steps=1, batch_size=2, sgd=Sgd(lr=0.1), precision="auto", memory_format="auto",
    convolution="auto", compile="auto",
)  # fmt: skip


def machine(monkeypatch, *, native=False, amx=False, capability=None):
    """Makes a machine: whether its CPU has native bfloat16 and AMX, and what GPU there is."""
    monkeypatch.setattr(capabilities, "cpu_has_amx", lambda: amx)
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


@pytest.mark.parametrize(
    ("native", "amx", "capability", "device", "precision", "convolution"),
    [
        (False, False, None, "auto", "auto", "product"),
        (True, False, None, "auto", "auto", "product_4"),
        (True, False, None, "auto", "32-true", "product"),
        (True, True, None, "auto", "auto", "product"),
        (True, True, None, "auto", "32-true", "product"),
        (False, False, (9, 0), "auto", "32-true", "direct"),
        (True, True, (9, 0), "cuda", "auto", "direct"),
        (True, True, (9, 0), "cpu", "auto", "product"),
    ],
)
def test_the_rule_of_convolutions(
    monkeypatch, native, amx, capability, device, precision, convolution
):
    machine(monkeypatch, native=native, amx=amx, capability=capability)
    asked = ASKED.model_copy(update={"precision": precision})
    assert settled(asked, device).convolution == convolution


def test_what_is_named_stays(monkeypatch):
    machine(monkeypatch, native=True)
    named = {
        "precision": "32-true", "memory_format": "contiguous", "convolution": "direct",
        "compile": "always",
    }  # fmt: skip
    asked = ASKED.model_copy(update=named)
    assert settled(asked, "auto") == asked


def test_this_machine_always_settles_the_same_way():
    assert settled(ASKED, "cpu") == settled(ASKED, "cpu")
    assert settled(ASKED, "cpu").precision in ("32-true", "bf16-mixed")


FIELDS = ("precision", "memory_format", "convolution", "compile")
SETTINGS = {"training": dict.fromkeys(FIELDS, "auto")}


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_recipe_holds_what_was_settled(monkeypatch, native, precision):
    machine(monkeypatch, native=native)
    pretraining = pretrain_stage.resolve("moco_v2", SETTINGS, "test")
    fine_tuning = transfer_stage.resolve("linear_readout", SETTINGS, "test")
    for config in (pretraining, fine_tuning):
        assert config.training.precision == precision
        assert config.training.memory_format == "channels_last"
        assert config.training.convolution == ("product_4" if native else "product")
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
