"""The transfer stage: a backbone and data in; predictions, truth and their score out.

predictions.json     what the trained model says of every test image
truth.json           what is true of them, for detections and segments; the score needs these alone
predictions/, truth/ a label map for every test image, for segments
training.jsonl       the training log
backbone/            the backbone after fine-tuning, where the task fine-tunes
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from whytransfer.backbone import artifact as backbones
from whytransfer.core import plugins
from whytransfer.core.config import build, merge, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.processes import here
from whytransfer.core.records import Metric
from whytransfer.core.stage import Execution, Step, materialise_first
from whytransfer.core.store import Artifact, Store
from whytransfer.data.dataset import Dataset, image_name, limited
from whytransfer.train.capabilities import device_used, settled
from whytransfer.train.launch import same_bits
from whytransfer.train.loop import Run, fit
from whytransfer.train.memory import smaller_batch, with_batch
from whytransfer.transfer.measure import draws
from whytransfer.transfer.task import Setting, Task, TaskConfig

LOG = "training.jsonl"


def resolve(
    task: str, overrides: Mapping[str, Any], where: str, device: str = "auto"
) -> TaskConfig:
    """Returns a task's configuration: its defaults with some fields replaced.

    Args:
        task: Name or dotted path.
        overrides: Nested plain data; what is left out keeps its default.
        where: The file or command that the overrides came from, for the messages.
        device: That the run asks for; it settles every ``auto``.

    Raises:
        InputError: There is no such task, or a field is unknown or wrong; all of them at once.
    """
    model = plugins.find("task", task).Config
    config = cast(TaskConfig, build(model, merge(to_plain(model()), overrides), where))
    return config.model_copy(update={"training": settled(config.training, device)})


def step_for(task: str, backbone: str, data: str, config: TaskConfig, seed: int) -> Step:
    """Says what is to be computed; its fingerprint names the artifact before it exists.

    Args:
        task: Name or dotted path.
        backbone: Fingerprint of the backbone's artifact.
        data: Fingerprint of the dataset.
        config: From :func:`resolve`.
        seed: Of every stream that the task draws from.
    """
    inputs = {"backbone": backbone, "data": data}
    return Step(stage="transfer", plugin=task, config=config, inputs=inputs, seed=seed)


def run(
    task: str,
    backbone: Artifact,
    data: Dataset,
    config: TaskConfig,
    *,
    seed: int,
    store: Store,
    execution: Execution,
) -> Artifact:
    """Trains a task on a backbone, predicts and scores, where the store does not have it yet.

    Under torchrun every process calls it; the first one works, all return the same artifact.

    Raises:
        InputError: Data or backbone are not what the task needs, or the store can't be written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        TrainingError: The loss is not finite.
    """
    step = step_for(task, backbone.fingerprint, data.fingerprint, config, seed)
    kind: type[Task] = plugins.find("task", task).Task

    def compute(folder: Path, work: Path) -> tuple[Metric, ...]:
        network = backbones.load(backbone.path)
        setting = _setting(data, config, seed, execution.workers)
        running = kind(config, network, setting)
        fit(
            running.model,
            running.batches,
            config.training,
            Run(
                work=work,
                log=folder / LOG,
                execution=execution,
                seed=seed,
                steps_per_epoch=running.steps_per_epoch,
                title=f"{step.name} on {backbone.record.plugin}",
                image_name=functools.partial(image_name, setting.train),
                lighter=functools.partial(_lighter, config),
            ),
        )
        running.finish()
        running.predict(folder)
        if kind.FINE_TUNES:
            provenance = {"task": task, "step": step.fingerprint, **step.inputs}
            place = folder / backbones.FOLDER
            place.mkdir()
            backbones.save(place, network, provenance)
        return kind.score(folder, config)

    processes = here()
    with processes.together(), same_bits(execution.deterministic):
        device = device_used(execution.device)
        return materialise_first(store, step, compute, processes, device)


def resample(run: Artifact, num_draws: int) -> dict[str, NDArray[np.float64]]:
    """Scores a finished run again under resampled test images.

    Two runs on the same test images get the same draws, so that their difference is paired.

    Returns:
        Name of the metric → (B,) values.
    """
    record = run.record
    config = resolve(record.plugin, record.config, str(run.path))
    kind: type[Task] = plugins.find("task", record.plugin).Task
    return draws(kind.measure(run.path, config), num_draws)


def _lighter(config: TaskConfig) -> list[str]:
    """Says what to set for a step that needs less memory, and would not be refused."""
    plain = to_plain(config)

    def accepted(batch_size: int) -> bool:
        training = plain["training"] | {"batch_size": batch_size}
        try:
            build(type(config), plain | {"training": training}, "")
        except InputError:
            return False
        return True

    found = smaller_batch(config.training.batch_size, accepted)
    return [] if found is None else [with_batch(config.training, found)]


def _setting(data: Dataset, config: TaskConfig, seed: int, workers: int) -> Setting:
    train, test = data.open("train"), data.open("test")
    if train.classes != test.classes:
        raise InputError(
            f"{data.format} data",
            f"{len(train.classes)} classes to train on, {len(test.classes)} to test on",
            "the same class list in both splits",
        )
    if config.limit is not None:
        train, test = limited(train, config.limit), limited(test, config.limit)
    return Setting(train=train, test=test, seed=seed, workers=workers)
