"""Studies written as files and planned, and runs of them that are interrupted."""

import copy

import yaml

from whytransfer.core.store import Store
from whytransfer.study import nodes, plan, spec


def planned(study, folder, change=lambda values: None, store=None):
    """Plans a study after a change to it; its file and its store lie in the folder."""
    values = copy.deepcopy(study)
    change(values)
    (folder / "study.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    store = store or Store(folder / "runs")
    return plan.make(spec.read(str(folder / "study.yaml")), store), store


def interrupt(monkeypatch, *numbers):
    """Interrupts the study at those of its nodes, counted as they begin; returns their keys."""
    calls, compute = [], nodes._compute

    def interrupted(job, opened):
        calls.append(job.node.key)
        if len(calls) in numbers:
            raise KeyboardInterrupt
        return compute(job, opened)

    monkeypatch.setattr(nodes, "_compute", interrupted)
    return calls
