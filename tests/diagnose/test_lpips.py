"""LPIPS against the released package, and what is said of files that are not its weights."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
import torchvision
from tests.oracles.make_lpips_constants import SIDE_PX, drawn

from whytransfer.core.errors import InputError
from whytransfer.diagnose import lpips
from whytransfer.diagnose.lpips import Lpips, LpipsFiles, read_lpips

CONSTANTS = json.loads((Path(__file__).parents[1] / "oracles/lpips_constants.json").read_text())
CHANNELS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


def trunk(net):
    with torch.device("meta"):
        model = getattr(torchvision.models, lpips._TRUNKS[net])(weights=None)
    shapes = {name: tuple(value.shape) for name, value in model.features.state_dict().items()}
    return {name: drawn(f"features.{name}", shape) for name, shape in shapes.items()}


def linear(net):
    return [drawn(f"lin{k}", (1, channels, 1, 1)) for k, channels in enumerate(CHANNELS[net])]


def pictures():
    shape = (2, 3, SIDE_PX, SIDE_PX)
    return drawn("picture", shape), drawn("original", shape)


@pytest.mark.parametrize("net", CHANNELS)
def test_it_equals_the_released_package(net):
    found = Lpips(net, [weight.flatten() for weight in linear(net)], trunk(net))(*pictures())
    assert found.tolist() == pytest.approx(CONSTANTS[net], rel=1e-5)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Both files of AlexNet, whose linear layers pass for version 0.1."""
    names = [f"lin{k}.model.1.weight" for k in range(5)]
    torch.save(dict(zip(names, linear("alex"), strict=True)), tmp_path / "alex.pth")
    whole = {f"features.{name}": value for name, value in trunk("alex").items()}
    torch.save({**whole, "classifier.1.weight": torch.zeros(2)}, tmp_path / "alexnet.pth")
    monkeypatch.setattr(lpips, "content_version", lambda net, weights: "0.1")
    return LpipsFiles(linear=tmp_path / "alex.pth", trunk=tmp_path / "alexnet.pth")


def test_it_is_read_from_its_files(files):
    assert read_lpips(files)(*pictures()).tolist() == pytest.approx(CONSTANTS["alex"], rel=1e-5)


def test_records_name_the_content_and_no_path(files):
    plain = files.settled().model_dump(mode="json")
    assert set(plain) == {"net", "linear_hash", "trunk_hash"}
    assert len(plain["linear_hash"]) == 64 and plain["linear_hash"] != plain["trunk_hash"]


@pytest.mark.parametrize(
    ("version", "said"), [("0.0", "those of version 0.0"), (None, "no known version")]
)
def test_another_version_is_refused(files, monkeypatch, version, said):
    monkeypatch.setattr(lpips, "content_version", lambda net, weights: version)
    with pytest.raises(InputError, match=said) as caught:
        read_lpips(files)
    assert "5 linear layers of alex, version 0.1" in str(caught.value)
    assert str(files.linear) in str(caught.value)


def test_the_version_is_told_by_the_numbers(monkeypatch):
    weights = [torch.arange(3.0).view(1, 3, 1, 1), torch.ones(1, 2, 1, 1)]
    digest = hashlib.sha256(struct.pack("<5f", 0, 1, 2, 1, 1)).hexdigest()
    monkeypatch.setattr(lpips, "_VERSIONS", {("alex", digest): "0.1"})
    assert lpips.content_version("alex", weights) == "0.1"
    assert lpips.content_version("vgg", weights) is None
    weights[0][0, 0, 0, 0] = 1e-6
    assert lpips.content_version("alex", weights) is None


def test_files_that_are_none_of_its_weights_are_named(files, tmp_path):
    swapped = LpipsFiles(linear=files.trunk, trunk=files.trunk)
    with pytest.raises(InputError, match=r"holds classifier\.1\.weight, features\.0\.bias"):
        read_lpips(swapped)
    with pytest.raises(InputError, match="is not torchvision's alexnet"):
        read_lpips(LpipsFiles(linear=files.linear, trunk=files.linear))
    with pytest.raises(InputError, match="is not torchvision's alexnet"):
        torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
        read_lpips(LpipsFiles(linear=files.linear, trunk=tmp_path / "other.pth"))
    with pytest.raises(InputError, match="no such file"):
        LpipsFiles(linear=tmp_path / "none.pth", trunk=files.trunk).settled()
    (tmp_path / "code.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not readable"):
        read_lpips(LpipsFiles(linear=tmp_path / "code.pth", trunk=files.trunk))


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16), ("squeeze", 17)])
def test_the_least_side_is_the_first_that_the_trunk_can_look_at(net, least):
    looking = Lpips(net, [weight.flatten() for weight in linear(net)], trunk(net))
    assert looking.least_px == least
    blank = torch.zeros(1, 3, least, least)
    assert looking(blank, blank).tolist() == [0.0]
    with pytest.raises(RuntimeError):
        looking(blank[..., 1:, 1:], blank[..., 1:, 1:])
