"""What the tests of readouts share: a small world, a backbone and settings of seconds."""

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import Config, merge
from whytransfer.core.stage import Execution, Step, materialise
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.world import things
from whytransfer.transfer.stage import resolve, run
from whytransfer.transfer.task import Setting

QUIET = Execution(device="cpu", progress=False)
SMALL = {"resize_px": 36, "crop_px": 32, "num_draws": 20}
SGD = {
    **SMALL,
    "augmentation": {"crop_px": 32},
    "lr_grid": [0.1, 1.0, 3.0],
    "held_out": 0.25,
    "training": {
        "epochs": None, "steps": 10, "batch_size": 7, "log_every_steps": 1,
        "schedule": {"milestones": [1, 3]}, "checkpoint_every_steps": 3,
    },
}  # fmt: skip
SETTINGS = {
    "linear_readout": SGD,
    "stage_readout": {**SGD, "num_values": 64},
    "knn_readout": {**SMALL, "neighbours": [3, 8]},
    "lbfgs_readout": {**SMALL, "inverse_penalties": [0.01, 1.0], "held_out": 0.25},
}


def things_in(root):
    """Writes 24 and 12 images of three classes and returns them as a dataset."""
    things.write(root, things.Config(num_train=24, num_test=12, size_px=48, num_shapes=3), 0)
    return from_spec({**things.DATASET, "root": str(root)}, None, "test")


def network(seed=0):
    return build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(seed, "b"))


def config_of(name, **changes):
    return resolve(name, merge(SETTINGS[name], changes), "test")


def setting_of(data, **fields):
    return Setting(data.open("train"), data.open("test"), **fields)


def backbone_in(store, seed=0):
    def compute(folder, _work):
        backbones.save(folder, network(seed), {})
        return ()

    return materialise(store, Step("pretrain", "random_init", Config(), seed=seed), compute)


def transfer(name, data, root, execution=QUIET, **changes):
    store = Store(root)
    config = config_of(name, **changes)
    return run(name, backbone_in(store), data, config, seed=0, store=store, execution=execution)
