"""How long will a study take? Measured seconds of like steps, or what the recipe expects."""

from collections import defaultdict
from typing import NamedTuple

from whytransfer.core.config import to_plain
from whytransfer.core.store import Store
from whytransfer.study.plan import Node, Plan


class Line(NamedTuple):
    """One node of the outline; ``seconds`` is ``None`` where nothing like it was ever timed."""

    key: str
    fingerprint: str
    needs: tuple[str, ...]
    cached: bool
    seconds: float | None


def outline(plan: Plan, store: Store) -> list[Line]:
    """Lists the graph in running order, with an estimate for what is not cached.

    The estimate is the median of this store's own timings of the same plug-in, per training step;
    without any, what the study file expects (``expected_seconds``: key, or a prefix of it).
    """
    timed = _timings(store)
    missing = {node.key for node in plan.missing(store)}
    return [
        Line(
            key=node.key,
            fingerprint=node.step.fingerprint,
            needs=tuple(node.needs.values()),
            cached=node.key not in missing,
            seconds=_estimate(node, plan, timed) if node.key in missing else 0.0,
        )
        for node in plan.nodes
    ]


def total(lines: list[Line], num_slots: int) -> str:
    """Says how much is left in all, on this many slots."""
    left = [line for line in lines if not line.cached]
    known = [line.seconds for line in left if line.seconds is not None]
    unknown = len(left) - len(known)
    text = f"{len(left)} of {len(lines)} steps to do"
    if known:
        text += f", about {say_seconds(sum(known) / num_slots)} on {num_slots} slots"
    return text + (f", and {unknown} never timed here" if unknown else "")


def say_seconds(seconds: float | None) -> str:
    """Writes a duration for people."""
    if seconds is None:
        return "never timed"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _timings(store: Store) -> dict[tuple[str, str], list[float]]:
    timed: dict[tuple[str, str], list[float]] = defaultdict(list)
    for artifact in store.all():
        record = artifact.record
        units = _num_steps(record.config)
        timed[record.stage, record.plugin].append(record.volatile.seconds / units)
    return timed


def _estimate(node: Node, plan: Plan, timed: dict[tuple[str, str], list[float]]) -> float | None:
    if node.step.stage == "select":
        return 0.0  # it reads a few records
    if known := sorted(timed.get((node.step.stage, node.step.plugin), [])):
        return known[len(known) // 2] * _num_steps(to_plain(node.step.config))
    expected = plan.spec.expected_seconds
    prefixes = [key for key in expected if node.key.startswith(key)]
    if prefixes:
        return expected[max(prefixes, key=len)]
    if node.step.stage == "transfer" and "variant" in node.labels:
        return _like(node, plan[node.labels["of"]], plan, timed)
    return None


def _like(
    node: Node, other: Node, plan: Plan, timed: dict[tuple[str, str], list[float]]
) -> float | None:
    """Estimates a further run from what the one that it differs from takes, by their lengths."""
    seconds = _estimate(other, plan, timed)
    own, its = (_num_steps(to_plain(one.step.config)) for one in (node, other))
    return None if seconds is None else seconds * own / its


def _num_steps(config: dict[str, object]) -> float:
    """Returns what a step's time is proportional to: training steps or epochs, else 1."""
    training = config.get("training")
    if not isinstance(training, dict):
        return 1.0
    return float(training.get("steps") or training.get("epochs") or 1.0)
