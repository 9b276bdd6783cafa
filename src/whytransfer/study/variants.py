"""The settings of a further run: a task's own, made longer or shorter, or changed otherwise."""

from collections.abc import Mapping
from typing import Any

from whytransfer.core.config import merge, to_plain
from whytransfer.core.errors import InputError
from whytransfer.diagnose.analysis import Variant
from whytransfer.study.spec import TaskEntry
from whytransfer.transfer import selection
from whytransfer.transfer import stage as transfer_stage
from whytransfer.transfer.task import TaskConfig


def varied(entry: TaskEntry, variant: Variant, where: str) -> TaskEntry:
    """Returns a task as a variant has it.

    Raises:
        InputError: A length is asked of a task that does not train, or whose grid decides it.
    """
    values = entry.config
    if variant.length != 1.0:
        values = merge(values, {"training": _stretched(entry, variant.length, where)})
    values = merge(values, selection.overrides(dict(variant.overrides)))
    return entry.model_copy(update={"config": values})


def _stretched(entry: TaskEntry, length: float, where: str) -> Mapping[str, Any]:
    """Returns duration, milestones and warm-up of a task times a factor: a complete schedule."""
    config = transfer_stage.resolve(entry.task, entry.config, where)
    if not isinstance(config, TaskConfig):
        raise InputError(
            where, f"{entry.task} has no training that could be longer", "a task that trains"
        )
    decided = [f for f in entry.grid if f.startswith(("training.schedule", *_DURATIONS))]
    if decided:
        raise InputError(
            where, f"the grid of the task decides {', '.join(decided)}",
            "a grid without duration and schedule", "take it out of the grid",
        )  # fmt: skip
    training = to_plain(config)["training"]
    steps, schedule = training["steps"], training["schedule"]
    return {
        "steps": None if steps is None else max(1, round(steps * length)),
        "epochs": None if steps is not None else training["epochs"] * length,
        "schedule": {
            "milestones": [milestone * length for milestone in schedule["milestones"]],
            "warmup_steps": round(schedule["warmup_steps"] * length),
        },
    }


_DURATIONS = ("training.steps", "training.epochs")
