"""The pretraining stage: a method trains a backbone on a dataset, as an artifact.

backbone.safetensors    the weights, under torchvision's names, a transformer's timm's
backbone.json           architecture, preprocessing, provenance
training.jsonl          the training log, where anything was trained
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from whytransfer.backbone import artifact
from whytransfer.backbone.architecture import TRANSFORMERS
from whytransfer.backbone.build import build as build_backbone
from whytransfer.backbone.model import Backbone
from whytransfer.core import plugins
from whytransfer.core.config import build, merge, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.core.processes import Processes, here
from whytransfer.core.records import Metric
from whytransfer.core.stage import Execution, Step, find_together, materialise
from whytransfer.core.store import Artifact, Store
from whytransfer.data.dataset import Dataset, image_name, limited
from whytransfer.data.loader import EpochOrder, load
from whytransfer.data.part import Part, require_equal_parts
from whytransfer.data.sample import Source
from whytransfer.pretrain.learner import Pretext, Tolerance
from whytransfer.pretrain.method import Method, MethodConfig, Setting, TrainedConfig, ViewBatch
from whytransfer.pretrain.unfinished import begun_otherwise, settle
from whytransfer.pretrain.views import CACHE_BYTES, Views, collate
from whytransfer.train.capabilities import device_used
from whytransfer.train.loop import FitResult, Run, fit
from whytransfer.train.memory import enough_memory_for_model, smaller_batch, with_batch
from whytransfer.train.norm import convert_groups

_log = logging.getLogger(__name__)

LOG = "training.jsonl"
CHECKPOINT = "checkpoint"
"""The method that takes a backbone of somebody else's as it is."""

FROM_TRANSFER = "from_transfer"
"""The method that takes the backbone which a finished transfer holds."""

TRANSPLANT = "transplant"
"""The method that keeps some stages of a pretrained backbone."""


def resolve(
    method: str, values: Mapping[str, Any], where: str, device: str = "auto"
) -> MethodConfig:
    """Fills a method's own defaults into partly given settings, and checks them all.

    Settings of training (augmentation, schedule, ...) that are given to a method which does not
    train are left out: one set of settings serves all arms of a comparison.

    Args:
        method: Name or dotted path.
        values: Nested plain data; what is left out keeps its default.
        where: The file or command that the values came from, for the messages.
        device: That the run asks for; it settles every ``auto``.

    Raises:
        InputError: There is no such method, or a field is unknown or wrong; all of them at once.
    """
    model: type[MethodConfig] = plugins.find("method", method).Config
    if not issubclass(model, TrainedConfig):
        idle = TrainedConfig.model_fields.keys() - model.model_fields.keys()
        values = {name: value for name, value in values.items() if name not in idle}
    config = build(model, merge(to_plain(model()), values), where)
    return settle(config, device) if isinstance(config, TrainedConfig) else config


def step_for(method: str, data: str | None, config: MethodConfig, seed: int) -> Step:
    """Says what is to be trained; its fingerprint names the backbone before it exists.

    Args:
        method: Name or dotted path.
        data: Fingerprint of the dataset; it is no input of a method that does not train.
        config: From :func:`resolve`.
        seed: Of every stream that the method draws from.

    Raises:
        InputError: The method trains, and no data are given; or it takes what is trained already.
    """
    if method in (CHECKPOINT, FROM_TRANSFER, TRANSPLANT):
        raise InputError(
            f"pretrain {method}", "takes a network that is trained already, and none was given",
            "a method that makes one",
            "give the file or the transfer's folder as --backbone, or in a study as checkpoint: "
            "FILE or transfer: {task: ..., data: ...}; `transplant` is the analysis "
            "stage_transplant's",
        )  # fmt: skip
    inputs = {}
    if isinstance(config, TrainedConfig):
        if data is None:
            raise InputError(f"pretrain {method}", "no data", "data to train on", "give --data")
        inputs["data"] = data
    return Step(stage="pretrain", plugin=method, config=config, inputs=inputs, seed=seed)


def run(
    method: str,
    data: Dataset | None,
    config: MethodConfig,
    *,
    seed: int,
    store: Store,
    execution: Execution,
) -> Artifact:
    """Trains a backbone, or goes on where it was interrupted, unless the store has it already.

    Under torchrun every process calls it, and all return the same artifact.

    Raises:
        InputError: Data and settings do not go together, or the store can't be written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        TrainingError: The loss is not finite.
        FailedElsewhere: Another process failed.
    """
    step = step_for(method, data.fingerprint if data else None, config, seed)
    if data is None or not isinstance(config, TrainedConfig):
        found = step.find(store)
        return found or _taken(
            step, store, lambda: _model(step, config, Setting(seed=seed)).backbone
        )
    processes = here()
    with processes.together():
        if found := find_together(store, step, processes):
            return found
        training = Pretraining(step, config, data, execution, processes)
        training.warn()
        if begun := begun_otherwise(store, step, execution.device):
            _log.warning("%s", begun)
        device = device_used(execution.device)
        return materialise(store, step, training.compute, device, processes)


def step_for_checkpoint(file: Path, config: MethodConfig) -> Step:
    """Says which checkpoint is to be taken: named by its content, wherever it lies.

    Args:
        file: A checkpoint file of anybody's, or a folder of ours: a backbone, or what fine-tuned
            one.
        config: From ``resolve("checkpoint", ...)``.

    Raises:
        InputError: There is no such file.
    """
    place = artifact.folder_in(file)
    weights = place / artifact.WEIGHTS if file.is_dir() else file
    if not weights.is_file():
        raise InputError(weights, "no such file", "a checkpoint", "check the path")
    inputs = {CHECKPOINT: hash_file(weights)}
    if file.is_dir():
        inputs["description"] = hash_file(place / artifact.DESCRIPTION)
    return Step(stage="pretrain", plugin=CHECKPOINT, config=config, inputs=inputs)


def run_checkpoint(file: Path, config: MethodConfig, *, store: Store) -> Artifact:
    """Takes a checkpoint into the store, as if it had been trained here.

    Raises:
        InputError: It is not readable, or not of a known layout or the architecture asked for.
    """
    step = step_for_checkpoint(file, config)

    def load_it() -> Backbone:
        if file.is_dir():
            return artifact.load(artifact.folder_in(file))
        return artifact.load_checkpoint(file, config.architecture, config.preprocessing)

    return step.find(store) or _taken(step, store, load_it)


def step_for_transfer(transfer: str, config: MethodConfig, seed: int) -> Step:
    """Says which transfer's backbone is to be taken.

    Args:
        transfer: Fingerprint of the transfer's artifact.
        config: From ``resolve("from_transfer", ...)``.
        seed: That the transfer was trained with; kept in the record.
    """
    inputs = {"transfer": transfer}
    return Step(stage="pretrain", plugin=FROM_TRANSFER, config=config, inputs=inputs, seed=seed)


def run_transfer(transfer: Artifact, config: MethodConfig, *, store: Store) -> Artifact:
    """Makes the backbone that a finished transfer holds an artifact like any pretrained one.

    Raises:
        InputError: It is no transfer, or its task leaves the backbone as it was.
    """
    record = transfer.record
    if record.stage != "transfer":
        raise InputError(transfer.path, f"holds the result of {record.stage}", "a transfer's")
    if f"{artifact.FOLDER}/{artifact.WEIGHTS}" not in transfer.manifest["files"]:
        raise InputError(
            transfer.path, f"{record.plugin} does not fine-tune, so it has no backbone of its own",
            "a transfer that trains all layers", "give the backbone that it was made from",
        )  # fmt: skip
    step = step_for_transfer(transfer.fingerprint, config, record.seed or 0)
    place = artifact.folder_in(transfer.path)
    return step.find(store) or _taken(step, store, lambda: artifact.load(place))


def step_for_transplant(backbone: str, config: MethodConfig, seed: int) -> Step:
    """Says which backbone is to keep some of its stages.

    Args:
        backbone: Fingerprint of the pretrained backbone's artifact.
        config: From ``resolve("transplant", ...)``.
        seed: By which the other stages are drawn.
    """
    inputs = {"backbone": backbone}
    return Step(stage="pretrain", plugin=TRANSPLANT, config=config, inputs=inputs, seed=seed)


def run_transplant(
    backbone: Artifact, config: MethodConfig, *, seed: int, store: Store
) -> Artifact:
    """Keeps some stages of a pretrained backbone, and initialises the others again.

    Raises:
        InputError: It is no pretrained backbone of the store, or it has no stages.
    """
    record = backbone.record
    if record.stage != "pretrain":
        raise InputError(backbone.path, f"holds the result of {record.stage}", "a backbone")
    name = artifact.describe(backbone.path).architecture.name
    if name in TRANSFORMERS:
        raise InputError(
            backbone.path, f"holds {name}, a vision transformer", "a ResNet, of whose stages some "
            "are kept", "leave stage_transplant out, or compare ResNets",
        )  # fmt: skip
    step = step_for_transplant(backbone.fingerprint, config, seed)
    method = plugins.find("method", TRANSPLANT).Method

    def transplant_it() -> Backbone:
        loaded = artifact.load(backbone.path)
        found: Backbone = method(config, loaded, Setting(seed=seed)).backbone
        return found

    return step.find(store) or _taken(step, store, transplant_it)


def _taken(step: Step, store: Store, make: Callable[[], Backbone]) -> Artifact:
    backbone = make()

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        artifact.save(folder, backbone, _provenance(step))
        return ()

    return materialise(store, step, compute)


class Pretraining:
    """One run: whatever can be refused is refused on construction, before anything is written."""

    def __init__(
        self,
        step: Step,
        config: TrainedConfig,
        data: Dataset,
        execution: Execution,
        processes: Processes,
    ) -> None:
        assert step.seed is not None
        self.step, self.config, self.execution, self.seed = step, config, execution, step.seed
        self.processes = processes
        self.method: type[Method] = plugins.find("method", step.plugin).Method
        self.source = limited(data.open("train"), config.limit)
        self.setting = Setting(len(self.source), _num_classes(self.source), self.seed)
        self.order = EpochOrder(len(self.source), config.training.batch_size, self.seed)
        self.where = f"pretrain {step.plugin}"
        self._check(config)

    def warn(self) -> None:
        """Warns of settings that work together and are rarely meant."""
        for remark in self.method.remarks(self.config, self.setting, self.where):
            _log.warning("%s", remark)

    def _check(self, config: TrainedConfig) -> None:
        where, batch, group = self.where, config.training.batch_size, config.bn_group_size
        if self.method.NEEDS_LABELS and not self.setting.num_classes:
            raise InputError(
                where, "the data have no labels", "a label for every image",
                f"use a method that needs none: {', '.join(_methods_without_labels())}",
            )  # fmt: skip
        if group is not None and batch % group:
            raise InputError(
                f"{where}, field bn_group_size",
                f"a batch of {batch} is no multiple of groups of {group}",
                "a divisor of training.batch_size",
                f"set bn_group_size={batch} or a divisor of it, or null for the whole batch",
            )
        require_equal_parts(where, batch, group, self.processes)
        self.method.check(config, self.setting, where)

    def compute(self, folder: Path, work: Path) -> tuple[Metric, ...]:
        """Trains, and writes the payload."""
        config = self.config
        run = Run(
            work=work,
            log=folder / LOG,
            execution=self.execution,
            seed=self.seed,
            steps_per_epoch=self.order.steps_per_epoch,
            title=f"pretrain {self.step.name}",
            processes=self.processes,
            image_name=functools.partial(image_name, self.source),
            lighter=self._lighter,
            cpu_photometry=config.applier == "cpu",
        )
        with enough_memory_for_model(self.where, self._sizes()):
            model = Pretext(_model(self.step, config, self.setting), self._tolerance())
            result = fit(model, self._batches, config.training, run)
        if self.processes.leads:
            artifact.save(folder, model.method.backbone, _provenance(self.step))
        metrics = _metrics(self.method, result, len(self.source))
        return (*metrics, *_unreadable(model, result.steps, config.training.batch_size))

    def _sizes(self) -> dict[str, object]:
        """Lists the settings that decide how large the model is."""
        own = {name: getattr(self.config, name) for name in self.method.SIZES}
        network = self.config.architecture
        return own | {"architecture.name": network.name, "architecture.width": network.width}

    def _lighter(self) -> list[str]:
        """Says what to set for a step that needs less memory, and would not be refused."""
        found, config = [], self.config
        for group in _groups(config.bn_group_size):
            takes = functools.partial(self._takes, group=group)
            batch = smaller_batch(config.training.batch_size, takes)
            if batch is not None:
                other = "" if group == config.bn_group_size else f" bn_group_size={group}"
                found = [with_batch(config.training, batch) + other]
                break
        return [
            *found,
            "smaller views (augmentation.crop_px)",
            "more processes: each holds its part of the batch",
            "--dry-run, which measures what fits",
        ]

    def _takes(self, batch: int, group: int | None) -> bool:
        """Says whether a run of that batch and those BatchNorm groups would be let through."""
        training = self.config.training.model_copy(update={"batch_size": batch})
        try:
            self._check(
                self.config.model_copy(update={"training": training, "bn_group_size": group})
            )
        except InputError:
            return False
        return True

    def _tolerance(self) -> Tolerance | None:
        if self.config.unreadable == "error":
            return None
        order, share = self.order, self.config.max_unreadable
        return Tolerance(share, order.steps_per_epoch, order.batch_size)

    def _batches(self, first_step: int) -> Iterator[ViewBatch]:
        """Yields the batches from a step on, the same ones whatever the number of workers."""
        total = self.config.training.total_steps(self.order.steps_per_epoch)
        workers = self.execution.workers
        room = CACHE_BYTES // max(1, workers)
        views = Views(
            self.source,
            self.config.augmentation,
            self.method.NUM_VIEWS,
            self.seed,
            room,
            crops_only=self.config.applier == "device",
            skip_unreadable=self.config.unreadable == "skip",
        )
        part = Part(self.order, self.processes)
        return load(views, part, collate, first_step, total - first_step, workers)


def _model(step: Step, config: MethodConfig, setting: Setting) -> Method:
    """Builds a method on a fresh backbone, whose weights are the same for every method."""
    stream = setting.stream("backbone")
    backbone = build_backbone(config.architecture, stream, config.preprocessing)
    if isinstance(config, TrainedConfig):
        convert_groups(backbone, config.bn_group_size, config.bn_running)
    method: Method = plugins.find("method", step.plugin).Method(config, backbone, setting)
    return method


def _groups(size: int | None) -> list[int | None]:
    """Lists the sizes of BatchNorm groups to try: as they are, then smaller ones of equal parts."""
    if size is None:
        return [None]
    return [part for part in range(size, 1, -1) if size % part == 0]


def _num_classes(source: Source) -> int:
    """Counts the classes where every image has a label; else there are none."""
    labelled = all(source.label(index) is not None for index in range(len(source)))
    return len(source.classes) if labelled else 0


def _methods_without_labels() -> list[str]:
    found = ((name, plugins.find("method", name).Method) for name in plugins.names("method"))
    return [name for name, method in found if method.TRAINS and not method.NEEDS_LABELS]


def _provenance(step: Step) -> dict[str, Any]:
    return {"method": step.plugin, "step": step.fingerprint, "seed": step.seed, **step.inputs}


def _metrics(method: type[Method], result: FitResult, num_images: int) -> tuple[Metric, ...]:
    """Reports the means over the last tenth of the steps."""
    why = "none: one training run"
    loss = result.means["loss"]
    shares = {method.ACCURACY: "accuracy", **{name: name for name in method.FURTHER}}
    return (
        Metric(name="loss", value=loss, n=num_images, higher_is_better=False, interval=why),
        *(
            Metric(
                name=name, value=100 * result.means[scalar], unit="%", n=num_images, interval=why
            )
            for name, scalar in shares.items()
        ),
    )


def _unreadable(model: Pretext, steps: int, batch_size: int) -> tuple[Metric, ...]:
    """Counts the images that others stood in for, over the whole run, where that was allowed."""
    if model.tolerance is None:
        return ()
    return (
        Metric(
            name="unreadable", value=float(model.num_unreadable), unit="images",
            n=steps * batch_size, higher_is_better=False, interval="none: a count",
        ),
    )  # fmt: skip
