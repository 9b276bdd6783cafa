"""Which of two pretrainings can be read out better? Five lines of work around two settings.

    python examples/minimal.py            # about a minute on one core

Everything is a folder under ``runs``: run it again and nothing is computed.
"""

import whytransfer as wt

SMALL = {"architecture": {"name": "resnet10", "width": 16, "stem_pool": False}}
TRAIN = {"epochs": None, "steps": 100, "batch_size": 64}

random = wt.pretrain.run("random_init", **SMALL)
moco = wt.pretrain.run(
    "moco_v2", "world:things", **SMALL,
    num_keys=512, augmentation={"crop_px": 40}, training=TRAIN, limit=1000,
)  # fmt: skip
READOUT = {
    "limit": 1000,
    "augmentation": {"crop_px": 48},
    "resize_px": 56,
    "crop_px": 48,
    "training": {
        "epochs": 20,
        "batch_size": 128,
        "sgd": {"lr": 3.0},
        "schedule": {"milestones": [12, 16]},
    },
    "cached_views": 2,
}
runs = {
    name: wt.transfer.run("linear_readout", backbone, "world:things", **READOUT)
    for name, backbone in {"random": random, "moco": moco}.items()
}
for name, run in runs.items():
    top1 = run.record["top1"]
    print(f"{name}: {top1.value:.1f} % [{top1.low:.1f}, {top1.high:.1f}] n={top1.n}")
