"""Runs of the same recipe that were begun where every ``auto`` settled on something else.

What ``auto`` settles on stands in the fingerprint, so on another machine, or with another
``--device``, a run that was interrupted is not gone on with: another one begins. That is right, and
must not happen unseen.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from whytransfer.core.stage import Step
from whytransfer.core.store import Store
from whytransfer.pretrain.method import TrainedConfig
from whytransfer.train.capabilities import SETTLED, on_gpu, settled
from whytransfer.train.checkpoint import Checkpoints

_APPLIERS = ("cpu", "device")


def settle(config: TrainedConfig, device: str) -> TrainedConfig:
    """Replaces every ``auto`` by what the rules say on this machine.

    Args:
        config: As it was asked for.
        device: ``auto``, ``cpu`` or ``cuda``, as the execution asks for it.
    """
    applier = config.applier
    if applier == "auto":
        applier = "device" if on_gpu(device) else "cpu"
    training = settled(config.training, device)
    return config.model_copy(update={"training": training, "applier": applier})


def begun_otherwise(store: Store, step: Step, device: str) -> str | None:
    """Says which unfinished run of the same recipe, settled otherwise, could be gone on with.

    Args:
        store: Whose work folders are looked at.
        step: The run that is about to begin or to go on.
        device: That its execution asks for.

    Returns:
        One line that names the run, how far it is and the overrides that go on with it; ``None``
        where there is none, or this run is begun already. Values that were given on purpose, which
        are those that ``auto`` does not settle on here, are nobody's accident.
    """
    if _steps_done(store, step):
        return None
    found = []
    for other, overrides in _otherwise(step, device):
        steps = _steps_done(store, other)
        if steps and not store.computing(other.fingerprint):
            found.append((steps, store.work_path(other.fingerprint), overrides))
    if not found:
        return None
    steps, work, overrides = max(found)
    return (
        f"pretrain {step.name}: a run of this recipe was interrupted after step {steps} "
        f"({work}), on another machine or device, where auto settled on {overrides}; another run "
        f"begins now: to go on with that one, stop this and give {overrides}"
    )


def _otherwise(step: Step, device: str) -> Iterator[tuple[Step, str]]:
    """Yields the same run as any other machine would settle it, with the overrides for that."""
    config = step.config
    assert isinstance(config, TrainedConfig)
    automatic = dict.fromkeys(SETTLED, "auto")
    training = config.training.model_copy(update=automatic)
    here = settle(config.model_copy(update={"training": training, "applier": "auto"}), device)
    fields = {f"training.{name}": values for name, values in SETTLED.items()}
    fields["applier"] = _APPLIERS
    own, rule = _values(config), _values(here)
    free = {
        name: values if own[name] == rule[name] else (own[name],) for name, values in fields.items()
    }
    for chosen in itertools.product(*free.values()):
        other = dict(zip(free, chosen, strict=True))
        if other == own:
            continue
        overrides = " ".join(f"{name}={other[name]}" for name in other if other[name] != own[name])
        yield dataclasses.replace(step, config=_with(config, other)), overrides


def _values(config: TrainedConfig) -> dict[str, str]:
    training = {f"training.{name}": getattr(config.training, name) for name in SETTLED}
    return training | {"applier": config.applier}


def _with(config: TrainedConfig, values: dict[str, str]) -> TrainedConfig:
    training = {name: values[f"training.{name}"] for name in SETTLED}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=training),
            "applier": values["applier"],
        }
    )


def _steps_done(store: Store, step: Step) -> int:
    return Checkpoints(store.work_path(step.fingerprint) / "checkpoints").steps_done()
