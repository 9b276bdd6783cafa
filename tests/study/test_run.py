"""The engine alone, on a graph of makers that a lab wrote: it knows no method and no task."""

import textwrap
from pathlib import Path

import pytest

from whytransfer.core import plugins
from whytransfer.core.stage import Step
from whytransfer.core.store import Store
from whytransfer.study import nodes
from whytransfer.study.executors import Here, local
from whytransfer.study.plan import Node, Plan
from whytransfer.study.run import retry, run, status

MAKER = '''
"""A lab's own world."""
import os
from pathlib import Path
from whytransfer.core.config import Config as Base
from whytransfer.core.errors import InputError

FORMAT = "imagefolder"
DATASET = {"format": "imagefolder"}


class Config(Base):
    """How it ends."""

    mode: str = "good"
    marker: str = ""


def write(root, config, seed):
    print(f"making {config.mode} {seed}")
    if config.marker and Path(config.marker).exists():
        pass
    elif config.mode == "raise":
        raise ValueError("a bug in the lab's code")
    elif config.mode == "refuse":
        raise InputError("lab.cfg", "is wrong", "right", "mend it")
    elif config.mode == "die":
        os.kill(os.getpid(), 9)
    for split in ("train", "val"):
        folder = root / split / "only"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(b"not opened")
    (root / "value").write_text(str(seed))
'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package ``labworld`` on the path; returns a function that makes a node of it."""
    package = tmp_path / "path" / "labworld"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "maker.py").write_text(textwrap.dedent(MAKER).lstrip())
    monkeypatch.syspath_prepend(str(tmp_path / "path"))

    def node(key: str, needs: tuple[str, ...] = (), seed: int = 0, **values: str) -> Node:
        config = plugins.find("world", "labworld.maker").Config(**values)
        step = Step(stage="data", plugin="labworld.maker", config=config, seed=seed)
        return Node(key, step, {f"in{i}": need for i, need in enumerate(needs)})

    yield node
    import sys

    for name in [n for n in sys.modules if n.startswith("labworld")]:
        del sys.modules[name]


def plan_of(*graph: Node) -> Plan:
    return Plan(None, graph)


@pytest.fixture(autouse=True)
def _no_datasets(monkeypatch):
    monkeypatch.setattr(nodes, "_dataset", lambda job: None)


def test_everything_is_computed_once(tmp_path, lab):
    store, events = Store(tmp_path / "runs"), []
    plan = plan_of(lab("a", seed=1), lab("b", ("a",), seed=2))
    assert run(plan, store, num_slots=2, make_executor=Here, watch=events.append) == {}
    assert [(e.state, e.key) for e in events] == [
        ("started", "a"), ("done", "a"), ("started", "b"), ("done", "b"),
    ]  # fmt: skip
    events.clear()
    assert run(plan, store, num_slots=2, make_executor=Here, watch=events.append) == {}
    assert [(e.state, e.key) for e in events] == [("cached", "a"), ("cached", "b")]
    assert [s.state for s in status(plan, store)] == ["done", "done"]


def test_a_crash_stops_only_what_needed_it_and_is_kept_until_retried(tmp_path, lab):
    store = Store(tmp_path / "runs")
    marker = tmp_path / "mended"
    plan = plan_of(
        lab("bad", mode="raise", marker=str(marker)),
        lab("child", ("bad",), seed=3),
        lab("grandchild", ("child",), seed=4),
        lab("other", seed=5),
    )
    failed = run(plan, store, num_slots=1, make_executor=Here)
    assert set(failed) == {"bad", "child", "grandchild"}
    assert failed["bad"].reason == "ValueError: a bug in the lab's code"
    assert not failed["bad"].user_error
    assert failed["grandchild"].reason == "not run, because child did not finish"
    log = store.failure(plan["bad"].step.fingerprint) / "node.log"
    assert 'raise ValueError("a bug in the lab\'s code")' in log.read_text()
    assert [s.state for s in status(plan, store)] == ["failed", "to do", "to do", "done"]

    marker.touch()
    again = run(plan, store, num_slots=1, make_executor=Here)
    assert "`study retry` tries it again" in again["bad"].reason
    assert retry(plan, store) == ["bad"]
    assert run(plan, store, num_slots=1, make_executor=Here) == {}
    assert not store.failure(plan["bad"].step.fingerprint).exists()


def test_bad_input_is_told_from_a_crash_and_tried_again_when_mended(tmp_path, lab):
    store, marker = Store(tmp_path / "runs"), tmp_path / "mended"
    plan = plan_of(lab("bad", mode="refuse", marker=str(marker)), lab("child", ("bad",)))
    failed = run(plan, store, num_slots=1, make_executor=Here)
    assert failed["bad"].user_error and failed["child"].user_error
    assert failed["bad"].reason == "lab.cfg: is wrong; expected right; mend it"
    marker.touch()
    assert run(plan, store, num_slots=1, make_executor=Here) == {}
    assert [s.state for s in status(plan, store)] == ["done", "done"]


@pytest.mark.timeout(120)
def test_a_process_that_is_killed_is_one_failed_node(tmp_path, lab):
    """Real processes: one node kills its own with -9; the slot goes on with a new one."""
    store = Store(tmp_path / "runs")
    plan = plan_of(lab("bad", mode="die"), lab("good", seed=1), lab("last", ("good",), seed=2))
    failed = run(plan, store, num_slots=1, make_executor=local)
    assert set(failed) == {"bad"}
    assert "its process died" in failed["bad"].reason
    kept = store.failure(plan["bad"].step.fingerprint) / "node.log"
    assert "making die 0" in kept.read_text()
    assert [s.state for s in status(plan, store)] == ["failed", "done", "done"]


def test_an_altered_input_is_refused_by_the_node_that_reads_it(tmp_path, lab):
    store = Store(tmp_path)
    first, second = lab("a", seed=1), lab("b", ("a",), seed=2)
    assert run(plan_of(first), store, num_slots=1, make_executor=Here) == {}
    path: Path = store.path("data", "maker", first.step.fingerprint) / "files" / "value"
    path.write_text("other")
    with pytest.raises(ValueError, match="altered or missing"):
        store.get("data", "maker", first.step.fingerprint)
    assert run(plan_of(first, second), store, num_slots=1, make_executor=Here) == {}
