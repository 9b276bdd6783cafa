"""What every checkpoint layout must do; a new file in ``backbone/layouts`` is tested as it is."""

import pytest
import torch

from whytransfer.backbone import artifact
from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.build import build
from whytransfer.core import plugins
from whytransfer.core.streams import Stream

RESNET = Architecture(name="resnet18", width=8)
VIT = Architecture(name="vit_tiny_16")

TORCHVISION_VIT = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "blocks.": "encoder.layers.encoder_layer_",
    "norm1": "ln_1",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}


def _as_torchvision_writes_it(state):
    written = {"heads.head.weight": torch.zeros(10, 192)}
    for name, value in state.items():
        for ours, theirs in TORCHVISION_VIT.items():
            name = name.replace(ours, theirs)
        written["encoder.ln." + name[5:] if name.startswith("norm.") else name] = value
    return written


# By layout: the network, and how somebody writes a checkpoint around the network's own names.
ARCHITECTURES = {
    "torchvision": RESNET, "moco": RESNET, "timm_vit": VIT, "torchvision_vit": VIT,
    "moco_v3": Architecture(name="vit_base_16", width=32),
}  # fmt: skip
WRITTEN = {
    "timm_vit": lambda state: {
        "model": {
            **state,
            "head.weight": torch.zeros(10, 192),
            "mask_token": torch.zeros(1, 1, 64),
            "decoder_embed.weight": torch.zeros(64, 192),
        }
    },
    "torchvision_vit": _as_torchvision_writes_it,
    "moco_v3": lambda state: {
        "state_dict": {
            **{f"module.base_encoder.{name}": value for name, value in state.items()},
            **{f"module.momentum_encoder.{name}": value + 1 for name, value in state.items()},
            "module.base_encoder.head.0.weight": torch.zeros(64, 384),
            "module.predictor.0.weight": torch.zeros(64, 64),
        },
        "arch": "vit_small",
    },
    "torchvision": lambda state: {**state, "fc.weight": torch.zeros(10, 64)},
    "moco": lambda state: {
        "state_dict": {
            **{f"module.encoder_q.{name}": value for name, value in state.items()},
            **{f"module.encoder_k.{name}": value + 1 for name, value in state.items()},
            "module.encoder_q.fc.0.weight": torch.zeros(64, 64),
            "module.queue": torch.zeros(128, 32),
            "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        },
        "arch": "resnet18",
    },
}


@pytest.mark.parametrize("name", plugins.names("layout"))
def test_a_checkpoint_of_that_layout_gives_bit_equal_features(name, tmp_path):
    assert name in WRITTEN, f"say in WRITTEN how a checkpoint of layout {name} is written"
    original = build(ARCHITECTURES[name], Stream(3, "weights")).eval()
    file = tmp_path / "checkpoint.pth"
    torch.save(WRITTEN[name](dict(original.net.state_dict())), file)
    loaded = artifact.load(file).eval()
    images = torch.rand(2, 3, 64, 64)
    assert loaded.architecture == original.architecture
    assert torch.equal(loaded(images), original(images))
    others = [other for other in plugins.names("layout") if other != name]
    keys = list(artifact.read_tensors(file))
    assert plugins.find("layout", name).matches(keys)
    assert not any(plugins.find("layout", other).matches(keys) for other in others)
