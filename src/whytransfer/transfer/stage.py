"""The transfer stage: a backbone and data in; predictions, truth and their score out.

predictions.json     what the trained model says of every test image
truth.json           what is true of them, where the predictions do not say it themselves; the score
                     needs these two alone
predictions/, truth/ a label map for every test image, for segments
training.jsonl       the training log
backbone/            the backbone after fine-tuning, where the task fine-tunes
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.features import Cache
from whytransfer.core import plugins
from whytransfer.core.config import build, merge, to_plain
from whytransfer.core.errors import InputError, TrainingError, nearest
from whytransfer.core.processes import Processes, here
from whytransfer.core.records import Metric
from whytransfer.core.stage import Execution, Step, find_together, materialise
from whytransfer.core.store import Artifact, Store
from whytransfer.data.dataset import Dataset, image_name, limited
from whytransfer.data.held_out import held_out
from whytransfer.data.sample import KeepsApart, Source
from whytransfer.train.capabilities import device_used, settled
from whytransfer.train.launch import connect, same_bits
from whytransfer.train.loop import Run, fit
from whytransfer.train.memory import smaller_batch, with_batch
from whytransfer.train.running import agree_on_statistics
from whytransfer.train.synchronised import synchronise
from whytransfer.transfer.measure import draws
from whytransfer.transfer.parts.stages import require_task
from whytransfer.transfer.selection import ROLE, Chosen
from whytransfer.transfer.sharing import require_shares
from whytransfer.transfer.task import DIVERGED, Setting, Task, TaskConfig, UntrainedConfig

LOG = "training.jsonl"


def resolve(
    task: str, overrides: Mapping[str, Any], where: str, device: str = "auto"
) -> UntrainedConfig:
    """Returns a task's configuration: its defaults with some fields replaced.

    Where the task has ``RECIPES`` and the field ``recipe`` names one, the defaults are that
    recipe's; what is given beside it wins.

    Args:
        task: Name or dotted path.
        overrides: Nested plain data; what is left out keeps its default.
        where: The file or command that the overrides came from, for the messages.
        device: That the run asks for; it settles every ``auto``.

    Raises:
        InputError: There is no such task or recipe, or a field is unknown or wrong; all of them at
            once.
    """
    module = plugins.find("task", task)
    defaults = merge(to_plain(module.Config()), _recipe(module, overrides, where))
    config = cast(UntrainedConfig, build(module.Config, merge(defaults, overrides), where))
    if not isinstance(config, TaskConfig):
        return config
    return config.model_copy(update={"training": settled(config.training, device)})


def step_for(
    task: str,
    backbone: str,
    data: str,
    config: UntrainedConfig,
    seed: int,
    selection: str | None = None,
) -> Step:
    """Says what is to be computed; its fingerprint names the artifact before it exists.

    Args:
        task: Name or dotted path.
        backbone: Fingerprint of the backbone's artifact.
        data: Fingerprint of the dataset.
        config: From :func:`resolve`.
        seed: Of every stream that the task draws from.
        selection: Fingerprint of the choice that decides a part of the configuration.
    """
    inputs = {"backbone": backbone, "data": data}
    if selection is not None:
        inputs[ROLE] = selection
    return Step(stage="transfer", plugin=task, config=config, inputs=inputs, seed=seed)


def run(
    task: str,
    backbone: Artifact,
    data: Dataset,
    config: UntrainedConfig | Chosen,
    *,
    seed: int,
    store: Store,
    execution: Execution,
) -> Artifact:
    """Trains a task on a backbone, predicts and scores, where the store does not have it yet.

    Under torchrun every process calls it, they work together, and all return the same artifact.

    Of a run on held-out images, a training that can't go on is an answer, not an error: its
    artifact has no predictions, and ``DIVERGED`` as its one metric.

    Raises:
        InputError: Data or backbone are not what the task needs, or the store can't be written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        TrainingError: The loss is not finite, in a run that is scored on the test split.
    """
    require_task(task, backbones.describe(backbone.path).architecture)
    step = _step(task, backbone, data, config, seed)
    everyone = here()
    with everyone.together(), same_bits(execution.deterministic):
        transfer = _Transfer(step, backbone, data, execution, everyone, store)
        require_shares(f"transfer {step.name}", transfer.config, everyone)
        if found := find_together(store, step, everyone):
            return found
        device = device_used(execution.device)
        return materialise(store, step, transfer.compute, device, everyone)


@dataclass(frozen=True)
class _Transfer:
    """One run, seen from one of its processes."""

    step: Step
    backbone: Artifact
    data: Dataset
    execution: Execution
    processes: Processes
    store: Store

    @property
    def config(self) -> UntrainedConfig:
        """The configuration in force."""
        return cast(UntrainedConfig, self.step.in_force or self.step.config)

    def compute(self, folder: Path, work: Path) -> tuple[Metric, ...]:
        """Trains, predicts, writes the payload and scores it."""
        config, step = self.config, self.step
        kind: type[Task] = plugins.find("task", step.plugin).Task
        network = backbones.load(self.backbone.path)
        setting = self._setting(kind)
        running = kind(config, network, setting)
        try:
            self._train(running, setting.train, folder, work)
        except TrainingError as error:
            if config.validation is None:
                raise
            return (_diverged(error, len(setting.test)),)
        running.finish()
        agree_on_statistics(running.model, self.processes)
        running.predict(folder)
        if not self.processes.leads:
            return ()
        if kind.fine_tunes(config):
            provenance = {"task": step.plugin, "step": step.fingerprint, **step.inputs}
            place = folder / backbones.FOLDER
            place.mkdir()
            backbones.save(place, network, provenance)
        return kind.score(folder, config)

    def _train(self, running: Task, images: Source, folder: Path, work: Path) -> None:
        """Trains a task that has something to train, and leaves its model on the device."""
        config, processes = self.config, self.processes
        if not isinstance(config, TaskConfig):
            running.model.to(connect(self.execution.device, processes))
            return
        if processes.size > 1:
            synchronise(running.model, processes)
        assert self.step.seed is not None
        run = Run(
            work=work,
            log=folder / LOG,
            execution=self.execution,
            seed=self.step.seed,
            steps_per_epoch=running.steps_per_epoch,
            title=f"{self.step.name} on {self.backbone.record.plugin}",
            processes=processes,
            image_name=functools.partial(image_name, images),
            lighter=functools.partial(_lighter, config),
        )
        fit(running.model, running.batches, config.training, run)

    def _setting(self, kind: type[Task]) -> Setting:
        assert self.step.seed is not None
        config, data = self.config, self.data
        whole = data.open("train")
        train, test = _splits(data, whole, kind, config)
        apart = whole.kept_apart() if isinstance(whole, KeepsApart) else None
        return Setting(
            train=train,
            test=test,
            seed=self.step.seed,
            workers=self.execution.workers,
            processes=self.processes,
            cache=Cache(self.store, self.backbone.fingerprint, data.fingerprint, self.processes),
            kept_apart=None if apart is None else limited(apart, config.limit),
            test_split="test" if config.validation is None else "train",
        )


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


def _recipe(module: ModuleType, overrides: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns what the recipe that is asked for sets otherwise than the defaults."""
    known: Mapping[str, Mapping[str, Any]] = getattr(module, "RECIPES", {})
    name = overrides.get("recipe")
    if not known or name is None:
        return {}
    if name not in known:
        allowed = f"one of {', '.join(known)}"
        hint = nearest(str(name), known)
        raise InputError(f"{where}, field recipe", f"found {name!r}", allowed, hint)
    return known[name]


def _step(
    task: str, backbone: Artifact, data: Dataset, config: UntrainedConfig | Chosen, seed: int
) -> Step:
    inputs = backbone.fingerprint, data.fingerprint
    if not isinstance(config, Chosen):
        return step_for(task, *inputs, config, seed)
    step = step_for(task, *inputs, config.base, seed, config.selection.fingerprint)
    return replace(step, in_force=config.config)


def _diverged(error: TrainingError, num_images: int) -> Metric:
    return Metric(name=DIVERGED, value=None, n=num_images, interval=f"none: {error.what}")


def _splits(
    data: Dataset, whole: Source, kind: type[Task], config: UntrainedConfig
) -> tuple[Source, Source]:
    """Returns what to train on and what to score on."""
    train = limited(whole, config.limit)
    if config.validation is not None:
        if kind.NEW_CLASSES:
            raise InputError(
                "validation", "images held out of the training split have no new classes",
                "null for a task that is scored on new classes", "leave it away",
            )  # fmt: skip
        return held_out(train, config.validation)
    test = limited(data.open("test"), config.limit)
    _require_classes(data.format, kind, train, test)
    return train, test


def _require_classes(name: str, kind: type[Task], train: Source, test: Source) -> None:
    """Checks that the two splits have the classes that the task wants there."""
    counts = f"{len(train.classes)} classes to train on, {len(test.classes)} to test on"
    if not kind.NEW_CLASSES and train.classes != test.classes:
        raise InputError(f"{name} data", counts, "the same class list in both splits")
    both = sorted(set(train.classes) & set(test.classes))
    if kind.NEW_CLASSES and both:
        shown = ", ".join(both[:5]) + ", ..." * (len(both) > 5)
        raise InputError(
            f"{name} data", f"{counts}, {len(both)} of them the same: {shown}",
            "test classes that are new", "give data in the format mini_imagenet",
        )  # fmt: skip
