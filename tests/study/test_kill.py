"""A study killed with -9, again and again, ends with the rows of an undisturbed one.

Its analysis needs further runs, of another length.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "golden" / "tiny.yaml"
LENGTHS = "{analysis: convergence, task: voc07_detection, config: {lengths: [0.5, 1]}}"
STUDY = [
    "study", "run", str(TINY), "--slots", "1",
    "arms={random_init: {method: random_init},"
    " moco_v2: {method: moco_v2, config: {num_keys: 32}}}",
    f"analyses={{lengths: {LENGTHS}}}", "pretrain.config.training.steps=40",
    "tasks.voc07_detection.config.training.steps=30",
    "tasks.voc07_detection.config.training.checkpoint_every_steps=3",
]  # fmt: skip


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "whytransfer", *words]


def rows(store: Path) -> str:
    done = subprocess.run(
        command("results", str(store), "--json"), capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.timeout(600)  # a guard against hanging, on a machine that is busy, too
def test_killed_at_many_instants_the_results_are_the_same_bits(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    started = time.monotonic()
    words = [*STUDY, "--report", str(tmp_path / "page.html")]
    subprocess.run(command(*words, "--store", str(undisturbed)), check=True, capture_output=True)
    whole_run = time.monotonic() - started

    kills = 0
    # From before anything is computed to the last step; each attempt starts where it was cut off.
    for share in (0.55, 0.8):
        process = subprocess.Popen(
            command(*words, "--store", str(killed)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=share * whole_run)
        except subprocess.TimeoutExpired:
            process.kill()  # its worker must end by itself
            process.wait()
            kills += 1
    assert kills >= 1
    subprocess.run(command(*words, "--store", str(killed)), check=True, capture_output=True)
    stages = {row["stage"] for row in json.loads(rows(killed))}
    assert stages == {"data", "pretrain", "transfer", "diagnose"}
    assert rows(killed) == rows(undisturbed)
