"""Saved backbones come back to the bit; foreign checkpoints load wholly or not at all."""

import argparse
import json
import shutil

import pytest
import safetensors.torch
import torch
import torchvision

from whytransfer.backbone import artifact
from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.errors import InputError
from whytransfer.core.store import Store, write_text
from whytransfer.core.streams import Stream

NARROW = Architecture(name="resnet10", width=8, stem_pool=False)
CAFFE = Preprocessing(mean=(104, 117, 124), std=(1, 1, 1), channel_order="bgr", pixel_max=255)


def trained(architecture=NARROW, seed=0):
    """A backbone whose BatchNorm statistics are not those it was born with."""
    backbone = build(architecture, Stream(seed, "weights"), CAFFE)
    backbone.train()(images())
    return backbone.eval()


def images():
    return torch.from_numpy(Stream(0, "x").uniform(4 * 3 * 32 * 32)).float().view(4, 3, 32, 32)


def assert_equal_weights(first, second):
    ours, theirs = first.net.state_dict(), second.net.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_saved_backbone_comes_back_to_the_bit(tmp_path, memory_format):
    backbone = trained().to(memory_format=memory_format)
    artifact.save(tmp_path, backbone, {"method": "moco_v2", "steps": 7})
    loaded = artifact.load(tmp_path)
    assert_equal_weights(backbone, loaded)
    assert loaded.architecture == NARROW
    assert loaded.preprocessing == CAFFE
    assert torch.equal(trained()(images()), loaded.eval()(images()))
    assert artifact.describe(tmp_path).provenance == {"method": "moco_v2", "steps": 7}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "backbone.json",
        "backbone.safetensors",
    ]


def test_the_files_are_a_function_of_the_weights(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        artifact.save(tmp_path / name, trained(), {})
    for name in (artifact.WEIGHTS, artifact.DESCRIPTION):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_weights_file_alone_still_knows_its_description(tmp_path):
    artifact.save(tmp_path, trained(), {})
    loaded = artifact.load(tmp_path / artifact.WEIGHTS)
    assert loaded.architecture == NARROW and loaded.preprocessing == CAFFE


def test_broken_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        artifact.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no backbone\.json; expected a folder with"):
        artifact.load(tmp_path)
    artifact.save(tmp_path, trained(), {})
    weights, description = tmp_path / artifact.WEIGHTS, tmp_path / artifact.DESCRIPTION
    whole, text = weights.read_bytes(), description.read_text()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="not readable"):
        artifact.load(tmp_path)
    weights.write_bytes(whole)
    description.write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(InputError, match="schema version 2; expected version 1"):
        artifact.load(tmp_path)
    description.write_text(text.replace('"width": 8', '"width": 16'))
    with pytest.raises(InputError, match="another architecture"):
        artifact.load(tmp_path)
    description.write_text("{")
    with pytest.raises(InputError, match="not readable"):
        artifact.load(tmp_path)


def test_a_corrupted_artifact_of_the_store_is_refused(tmp_path):
    def fill(folder):
        artifact.save(folder, trained(), {})
        write_text(folder / "record.json", "{}")

    made = Store(tmp_path / "store").write("pretrain", "moco_v2", "f" * 64, fill)
    assert_equal_weights(artifact.load(made.path), trained())
    weights = made.path / artifact.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match="altered or missing"):
        artifact.load(made.path)


def foreign(backbone, prefix=""):
    return {prefix + name: value for name, value in backbone.net.state_dict().items()}


def moco_checkpoint(backbone, head):
    """What MoCo's training script writes, with other weights in the key encoder."""
    others = trained(backbone.architecture, seed=9)
    state = foreign(backbone, "module.encoder_q.") | foreign(others, "module.encoder_k.")
    for encoder in ("encoder_q", "encoder_k"):
        for name in head:
            state[f"module.{encoder}.{name}"] = torch.ones(4, 4)
    state["module.queue"], state["module.queue_ptr"] = torch.ones(4, 8), torch.zeros(1).long()
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}}}


@pytest.mark.parametrize(
    "head",
    [
        ("fc.weight", "fc.bias"),
        ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"),
    ],
)
def test_a_moco_checkpoint_gives_bit_equal_features(tmp_path, head):
    backbone = trained(Architecture(name="resnet50", width=8))
    torch.save(moco_checkpoint(backbone, head), tmp_path / "moco.pth.tar")
    loaded = artifact.load(tmp_path / "moco.pth.tar").eval()
    assert loaded.architecture == backbone.architecture
    assert torch.equal(loaded(images()), backbone(images()))
    assert loaded.preprocessing == Preprocessing()


@pytest.mark.parametrize("container", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchvisions_names_load_from_any_container(tmp_path, container, prefix):
    backbone = trained(Architecture(name="resnet18", width=8))
    state = foreign(backbone, prefix) | {f"{prefix}fc.weight": torch.ones(10, 64)}
    # PyTorch's ImageNet example keeps a tensor beside the container.
    values = {container: state, "best_acc1": torch.tensor(67.5)} if container else state
    torch.save(values, tmp_path / "model.pth")
    loaded = artifact.load_checkpoint(tmp_path / "model.pth", preprocessing=CAFFE)
    assert_equal_weights(loaded, backbone)
    assert loaded.preprocessing == CAFFE


def test_torchvisions_own_file_gives_torchvisions_features(tmp_path):
    with torch.random.fork_rng():
        network = torchvision.models.resnet50(num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    loaded = artifact.load(tmp_path / "resnet50.pth").eval()
    assert loaded.architecture == Architecture()
    network.fc = torch.nn.Identity()
    assert torch.equal(loaded(images()), network(images()))


def test_safetensors_and_missing_batch_counters_are_fine(tmp_path):
    backbone = trained(Architecture(name="resnet18", width=8))
    state = {k: v for k, v in foreign(backbone).items() if "num_batches" not in k}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    loaded = artifact.load(tmp_path / "model.safetensors").eval()
    assert torch.equal(loaded(images()), backbone(images()))


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    backbone = trained(Architecture(name="resnet34", width=8))
    file = tmp_path / "r34.pth"
    torch.save(foreign(backbone), file)
    with pytest.raises(InputError) as caught:
        artifact.load_checkpoint(file, Architecture(name="resnet18", width=16))
    message = str(caught.value)
    assert "another architecture" in message and "resnet18 of width 16" in message
    assert "unknown: layer1.2.conv1.weight" in message
    assert "conv1.weight (8, 3, 7, 7) instead of (16, 3, 7, 7)" in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r"missing: layer1\.0\.conv3\.weight"):
        artifact.load_checkpoint(file, Architecture(name="resnet50", width=8))


def test_one_lost_weight_is_named(tmp_path):
    state = foreign(trained(Architecture(name="resnet18", width=8)))
    del state["layer3.1.bn2.running_var"]
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"1 missing: layer3\.1\.bn2\.running_var"):
        artifact.load(tmp_path / "m.pth")


@pytest.mark.parametrize("architecture", [None, Architecture(name="resnet18", width=8)])
def test_the_stem_for_small_images_is_refused(tmp_path, architecture):
    state = foreign(trained(Architecture(name="resnet18", width=8)))
    state["conv1.weight"] = torch.ones(8, 3, 3, 3)
    torch.save(state, tmp_path / "cifar.pth")
    with pytest.raises(InputError, match=r"a stem of 3×3×3 weights.*expected a ResNet with a 3×7"):
        artifact.load_checkpoint(tmp_path / "cifar.pth", architecture)


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    state = foreign(trained())
    for extra in (Bomb(), argparse.Namespace(lr=0.03)):
        torch.save({"state_dict": state, "args": extra}, tmp_path / "bomb.pth")
        with pytest.raises(InputError, match="could run code when loaded"):
            artifact.load(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    whole, file = tmp_path / "whole.pth", tmp_path / "file.pth"
    torch.save(foreign(trained()), whole)
    data = whole.read_bytes()
    for content in (b"", b"no checkpoint", data[:1000], data[: len(data) // 2]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="not readable"):
            artifact.load(file)
        shutil.copy(file, tmp_path / "file.safetensors")
        with pytest.raises(InputError, match="not readable"):
            artifact.load(tmp_path / "file.safetensors")
    torch.save([1, 2], file)
    with pytest.raises(InputError, match="holds list"):
        artifact.load(file)
    torch.save({"epoch": 3}, file)
    with pytest.raises(InputError, match="holds no tensors by name"):
        artifact.load(file)
    torch.save({"blocks.0.weight": torch.ones(1)}, file)
    with pytest.raises(InputError, match=r"no known layout \(blocks.0.weight\).*moco, moco_v3, "):
        artifact.load(file)
    torch.save({"conv1.weight": torch.ones(8, 3, 7, 7)}, file)
    with pytest.raises(InputError, match=r"stages of \(0, 0, 0, 0\) blocks"):
        artifact.load(file)


def test_an_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        artifact.save(tmp_path / "file", trained(), {})


def test_the_description_is_plain_json(tmp_path):
    artifact.save(tmp_path, trained(), {"a": 1})
    values = json.loads((tmp_path / artifact.DESCRIPTION).read_text())
    assert values["architecture"] == {"name": "resnet10", "width": 8, "stem_pool": False}
    assert values["preprocessing"]["channel_order"] == "bgr"
