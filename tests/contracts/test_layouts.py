"""What every checkpoint layout must do; a new file in ``backbone/layouts`` is tested as it is."""

import pytest
import torch

from whytransfer.backbone import artifact
from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.build import build
from whytransfer.core import plugins
from whytransfer.core.streams import Stream

# How somebody writes a checkpoint of this layout around the network's own names.
WRITTEN = {
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
    original = build(Architecture(name="resnet18", width=8), Stream(3, "weights")).eval()
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
