"""A tiny study from nothing to a page: its losses must not move unless CHANGELOG says so.

    python -m tests.golden.test_golden      # writes golden.json anew, to be explained in CHANGELOG

All of it trains in float64, where kernels of other processors, which add in another order, change
nothing that can be seen. In float32 they do: a pixel's activation that is almost 0 falls on the
other side of a ReLU, of which flat areas of a drawing have many at once, and six steps later a loss
is another by a hundredth.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from whytransfer import report
from whytransfer.core import plugins
from whytransfer.core.store import Store
from whytransfer.study import plan, results, rows, spec
from whytransfer.study.executors import Here
from whytransfer.study.run import run

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
TOLERANCE = 1e-9  # relative


def run_study(store: Store, *overrides: str):
    torch.set_num_threads(1)
    found = plan.make(spec.read(str(HERE / "tiny.yaml"), overrides), store)
    failed = run(found, store, num_slots=1, make_executor=Here)
    return found, failed


def losses(found: plan.Plan, store: Store) -> dict[str, list[float]]:
    logs = {}
    for node in found.nodes:
        artifact = node.step.find(store)
        if results.TRAINING_LOG in artifact.manifest["files"]:
            lines = artifact.file(results.TRAINING_LOG).read_text().splitlines()
            logs[node.key] = [json.loads(line)["loss"] for line in lines]
    return logs


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("golden") / "runs")
    found, failed = run_study(store)
    assert failed == {}
    return store, found


def test_the_losses_have_not_moved(study):
    store, found = study
    golden = json.loads(GOLDEN.read_text())
    measured = losses(found, store)
    assert set(measured) == set(golden)
    for key, values in golden.items():
        assert measured[key] == pytest.approx(values, rel=TOLERANCE), key


def test_everything_is_cached_and_rows_are_identical_in_another_store(study, tmp_path):
    store, found = study
    assert found.missing(store) == []
    first = rows.flat(store)
    assert {row["stage"] for row in first} == {"data", "pretrain", "transfer", "diagnose"}
    text = json.dumps(first)
    assert str(store.root) not in text and "seconds" not in text

    # Only the cheapest arm is done again, elsewhere: its rows must be the same bits.
    other = Store(tmp_path / "elsewhere")
    _, failed = run_study(other, "arms={random_init: {method: random_init}}", "analyses={}")
    assert failed == {}
    assert {json.dumps(row) for row in rows.flat(other)} <= {json.dumps(row) for row in first}


def test_the_page_is_written_and_says_what_can_not_be_concluded(study, tmp_path):
    store, found = study
    result = results.collect(found, store, {})
    page = report.write(result, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "It is too small to show anything." in page
    arms = spec.read(str(HERE / "tiny.yaml"), ()).arms
    taken = {"checkpoint", "from_transfer", "transplant"}
    assert set(arms) == set(plugins.names("method")) - taken
    assert all(arm in page for arm in arms)
    assert len(result.tasks) == 2 and all(len(task.runs) == len(arms) for task in result.tasks)
    pairs = len(arms) * (len(arms) - 1) // 2
    assert all(len(task.comparisons) == pairs for task in result.tasks)
    assert results.collect(found, store, {}) == result


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs")
        found, failed = run_study(store)
        assert failed == {}, failed
        golden = losses(found, store)
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
