"""What must move no bit of a detector's training and predictions: lists, workers, neighbours."""

import shutil

import pytest
import torch

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.streams import Stream
from whytransfer.data.formats import voc
from whytransfer.data.world import crowds
from whytransfer.train.learner import Context
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import PREDICTIONS, Setting
from whytransfer.transfer.tasks import voc07_detection

WORLD = crowds.Config(
    num_train=5, num_test=4, num_train_2012=3, size_px=64, num_shared_shapes=2, num_new_shapes=1
)
CONFIG = {
    "training": {"steps": 3, "batch_size": 4},
    "detector": {
        "proposals": {
            "sizes_px": [16, 32], "sampled": 16, "candidates_train": 60, "candidates_test": 60,
            "proposals_train": 20, "proposals_test": 20,
        },
        "regions": {"sampled": 8, "pooled": 4, "score_threshold": 0.01},
    },
    "views": {"short_sides_px": [48, 56], "test_short_side_px": 64},
    "precise_bn_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    root = tmp_path_factory.mktemp("devkit")
    crowds.write(root, WORLD, 0)
    return root


def trained(root, folder, workers):
    """The predictions and the loss of every step."""
    config = resolve("voc07_detection", CONFIG, "test")
    fields = {key: value for key, value in crowds.dataset(WORLD).items() if key != "format"}
    data = voc.Config(root=root, **fields)
    setting = Setting(voc.open(data, "train"), voc.open(data, "test"), seed=1, workers=workers)
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    task = voc07_detection.Task(config, backbone, setting)
    task.model.train()
    optimiser = torch.optim.SGD(task.model.parameters(), lr=0.02)
    losses = []
    for step, batch in enumerate(task.batches(0)):
        loss = task.model.loss(batch, Context(step, 1, gather=lambda t: t))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    task.finish()
    folder.mkdir()
    task.predict(folder)
    return losses, (folder / PREDICTIONS).read_bytes()


# More workers than cores are slower, which is torch's business to say and no matter here.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_neither_workers_nor_the_order_of_lists_and_files_moves_a_bit(devkit, tmp_path):
    losses, predictions = trained(devkit, tmp_path / "plain", 0)
    assert predictions.count(b"box_xyxy") > 10
    for workers in (1, 3):
        assert trained(devkit, tmp_path / str(workers), workers) == (losses, predictions)
    other = tmp_path / "other"
    files = [path for path in devkit.rglob("*") if path.is_file()]
    for path in reversed(files):  # made in another order, so listed in another by some systems
        target = other / path.relative_to(devkit)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for path in other.glob("VOC*/ImageSets/Main/*.txt"):
        path.write_text("\n".join(reversed(path.read_text().split())) + "\n")
    assert trained(other, tmp_path / "reversed", 0) == (losses, predictions)
