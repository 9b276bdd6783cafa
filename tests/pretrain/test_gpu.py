"""What is promised of a GPU alone, and can be tested on one alone."""

import pytest
import torch
from tests.pretrain.test_processes import write_images

from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.data.dataset import from_spec
from whytransfer.pretrain import stage
from whytransfer.pretrain.views import Views

EXACT = Execution(progress=False, device="auto", deterministic=True)
SETTINGS = {
    "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
    "augmentation": {"crop_px": 32},
    "bn_group_size": 4,
    "training": {
        "epochs": None, "steps": 12, "batch_size": 16, "sgd": {"lr": 0.05}, "log_every_steps": 1,
        "checkpoint_every_steps": 5,
    },
}  # fmt: skip
QUEUE = {"num_keys": 32, "num_dims": 16, "momentum": 0.9}


def _run(method, folder, data):
    fields = QUEUE if method != "supervised" else {}
    config = stage.resolve(method, {**SETTINGS, **fields}, "test", EXACT.device)
    store = Store(folder)
    found = stage.run(method, data, config, seed=0, store=store, execution=EXACT)
    return found.record, [
        found.file(name).read_bytes() for name in ("backbone.safetensors", stage.LOG)
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is usable here")
@pytest.mark.parametrize("method", ["moco_v2", "supervised"])
def test_deterministic_mode_gives_the_same_bits_also_after_an_interruption(
    tmp_path, monkeypatch, method
):
    write_images(tmp_path / "data")
    data = from_spec({"format": "imagefolder", "root": str(tmp_path / "data")}, None, "test")
    record, bits = _run(method, tmp_path / "one", data)
    assert record.volatile.device.startswith("cuda (")
    assert _run(method, tmp_path / "two", data)[1] == bits

    calls, call = [], Views.__call__

    def failing(self, epoch, index):
        calls.append(index)
        if len(calls) > 8 * 16:
            raise RuntimeError("killed")
        return call(self, epoch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", failing)
        with pytest.raises(RuntimeError, match="killed"):
            _run(method, tmp_path / "cut", data)
    assert [path.name[:19] for path in (tmp_path / "cut").rglob("*.pt")] == ["checkpoint-00000005"]
    assert _run(method, tmp_path / "cut", data)[1] == bits
