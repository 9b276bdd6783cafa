"""The command line as a user meets it: in this process, but through the same entry point."""

import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from whytransfer import cli


@pytest.fixture
def run(monkeypatch, capsys):
    """Returns a function that runs a command: (exit status, stdout, stderr)."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["whytransfer", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_help_answers_at_once_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['whytransfer', '--help']\n"
        "from whytransfer import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'lightning', 'altair', 'cv2', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    for verb in ("demo", "ls", "data", "pretrain", "transfer", "diagnose", "study", "results"):
        assert verb in done.stdout
    assert time.perf_counter() - started < 30  # only so that a hang is seen; not a measurement


def test_ls_names_everything_that_is_shipped(run):
    status, out, _ = run("ls", "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found["method"]) >= {"random_init", "supervised", "moco_v2", "exemplar_v2"}
    assert set(found["task"]) >= {"linear_readout", "voc07_detection"}
    assert set(found["study"]) >= {"demo", "photos"}
    assert all(line for entries in found.values() for line in entries.values())
    assert "moco_v2" in run("ls")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "moco2", "--data", "world:things"], "did you mean 'moco_v2'?"),
        (["pretrain", "moco_v2", "--data", "/absent"], "/absent: no such folder"),
        (["pretrain", "moco_v2", "--data", "world:thing"], "did you mean 'things'?"),
        (["pretrain", "moco_v2", "--data", "world:things", "temprature=1"], "'temperature'"),
        (["pretrain", "moco_v2", "--data", "world:things", "temperature=hot"], "found 'hot'"),
        (["transfer", "voc_detection", "--data", "/x", "--backbone", "/absent"], "/absent"),
        (["study", "run", "dmo"], "did you mean 'demo'?"),
        (["study", "plan", "demo", "pretrain.config.training.batchsize=3"], "batch_size"),
        (["results", "/absent"], "/absent: no such folder"),
        (["report", "/absent"], "/absent: no such folder"),
        (["data", "check", "/absent"], "/absent: no such folder"),
        (["data", "make", "thing", "/tmp/x"], "did you mean 'things'?"),
        (["diagnose", "detection_errors", "/absent"], "/absent: no such folder"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_status_2(run, tmp_path, words, message):
    store = [] if words[0] in ("results", "report", "data") else ["--store", tmp_path / "runs"]
    status, out, err = run(*words, *store)
    assert status == 2 and out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")
    assert not list(tmp_path.rglob("*.part"))


def test_an_unknown_option_is_refused_with_the_nearest_one(run):
    status, _, err = run("demo", "--sed", "3")
    assert status == 2 and "--seed" in err


def test_make_then_check(run, tmp_path):
    folder = tmp_path / "world"
    settings = ["num_train=8", "num_test=8", "num_shared_shapes=2", "num_new_shapes=2"]
    status, out, _ = run("data", "make", "crowds", folder, *settings)
    assert status == 0 and out.strip() == str(folder)
    status, out, _ = run("data", "check", folder, "--json")
    report = json.loads(out)
    assert status == 0 and report["format"] == "voc" and report["problems"] == []
    assert report["counts"]["train images"] == 8

    victim = next((folder / "VOC2007" / "JPEGImages").glob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:200])
    status, out, _ = run("data", "check", folder)
    assert status == 2 and victim.name in out

    status, _, err = run("data", "make", "crowds", folder)
    assert status == 2 and "a new or empty folder" in err


def test_check_takes_a_format_and_its_fields(run, tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            assert cv2.imwrite(str(folder / "a.jpg"), np.full((20, 30, 3), 90, np.uint8))
    assert run("data", "check", f"imagefolder:{tmp_path}")[0] == 0
    assert run("data", "check", f"imagefolder:{tmp_path}", "test=train")[0] == 0
    status, _, err = run("data", "check", f"imagefolder:{tmp_path}", "tst=train")
    assert status == 2 and "did you mean 'test'" in err


def test_version(run):
    status, out, _ = run("--version")
    assert status == 0 and out.strip().count(".") == 2
