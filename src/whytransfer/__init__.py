"""whytransfer: which pretraining transfers best to my task, and why?

    import whytransfer as wt

    moco = wt.pretrain.run("moco_v2", "world:things", training={"epochs": 20})
    a = wt.transfer.run("voc07_detection", moco, "/data/VOCdevkit")
    why = wt.diagnose.run("detection_errors", {"moco": a, "other": b})

Importing this imports nothing heavy: the subpackages are loaded when they are first used.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"
__all__ = ["InputError", "backbone", "data", "diagnose", "pretrain", "report", "study", "transfer"]

from whytransfer.core.errors import InputError


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"whytransfer.{name}")
    raise AttributeError(f"module 'whytransfer' has no attribute {name!r}")
