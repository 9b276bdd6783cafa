"""The command line as a user meets it: in this process, but through the same entry point."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import whytransfer.pretrain
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


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['whytransfer', '--help']\n"
        "from whytransfer import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'lightning', 'altair', 'cv2', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    for verb in ("demo", "ls", "data", "pretrain", "transfer", "diagnose", "study", "results"):
        assert verb in done.stdout


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
        (["diagnose", "detection_errors", "/absent"], "/absent: no such file or folder"),
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


def test_a_vision_transformer_is_refused_by_a_detector_before_anything_is_begun(run, tmp_path):
    store, settings = tmp_path / "runs", ["num_train=8", "num_test=8", "size_px=64"]
    assert run("data", "make", "crowds", tmp_path / "crowds", *settings)[0] == 0
    network = {"name": "vit_tiny_16", "width": 8}
    vit = whytransfer.pretrain.run("random_init", architecture=network, store=store)
    before = sorted(store.rglob("*"))
    words = ("transfer", "voc07_detection", "--backbone", vit.path, "--store", store)
    status, out, err = run(*words, "--data", tmp_path / "crowds")
    assert status == 2 and out == "" and len(err.strip().splitlines()) == 1
    assert "a vision transformer, its levels are embed, block3" in err
    assert "a task without stages: linear_readout, stage_readout" in err
    assert {*store.rglob("*")} - {*before} == {store / "hashes.json"}  # of the data's files


def test_version(run):
    status, out, _ = run("--version")
    assert status == 0 and out.strip().count(".") == 2


@pytest.mark.parametrize(("user_error", "expected"), [(False, 1), (True, 2)])
def test_the_exit_status_tells_a_crash_from_bad_input(
    run, tmp_path, monkeypatch, user_error, expected
):
    from whytransfer.study import run as engine
    from whytransfer.study.nodes import Outcome

    key = "pretrain/moco_v2/seed0"
    outcome = Outcome(key, done=False, reason="it broke", user_error=user_error)
    monkeypatch.setattr(engine, "run", lambda *args, **kwargs: {key: outcome})
    tiny = Path(__file__).parents[1] / "golden" / "tiny.yaml"
    status, out, err = run("study", "run", tiny, "--store", tmp_path / "runs")
    assert status == expected
    assert f"error: {key}: it broke" in err
    page = tmp_path / "runs" / "tiny.html"
    assert f"report: {page}" in out and "it broke" in page.read_text(encoding="utf-8")

    # The page is written again from the store alone, and only where there is one.
    page.unlink()
    assert run("report", tmp_path / "runs")[0] == 0 and page.exists()
    status, _, err = run("report", tmp_path / "runs", "--study", "tny")
    assert status == 2 and "did you mean 'tiny'" in err


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (
            "[0]",
            "One pretraining seed: this proves the path; no conclusion about the methods below",
        ),
        ("[0, 1]", "2 pretraining seeds: this proves the path; no conclusion about the methods"),
        ("[0, 1, 2]", None),
    ],
)
def test_too_few_seeds_are_said_in_print_and_on_the_page(run, tmp_path, monkeypatch, seeds, said):
    from whytransfer.study import run as engine

    monkeypatch.setattr(engine, "run", lambda *args, **kwargs: {})
    tiny = Path(__file__).parents[1] / "golden" / "tiny.yaml"
    status, out, _ = run("study", "run", tiny, "--store", tmp_path / "runs", f"seeds={seeds}")
    page = (tmp_path / "runs" / "tiny.html").read_text(encoding="utf-8")
    assert status == 0
    lines = [line for line in out.splitlines() if "proves the path" in line]
    assert [line.startswith(said) for line in lines] == ([True] if said else [])
    assert ("proves the path" in page) == bool(said)


def test_store_du_and_gc_show_before_they_remove(run, tmp_path):
    from whytransfer.core.store import Store

    store = Store(tmp_path / "runs")
    good = store.write("data", "x", "a" * 64, lambda folder: (folder / "v").write_text("1"))
    bad = store.write("data", "x", "b" * 64, lambda folder: (folder / "v").write_text("2"))
    (bad.path / "v").write_text("3")
    left = tmp_path / "runs" / "work" / "abc.part"
    left.mkdir(parents=True)
    status, out, _ = run("store", "du", store.root, "--json")
    assert status == 0 and json.loads(out)[f"data/{good.path.name}"] > 0
    status, out, _ = run("store", "gc", store.root)
    assert status == 0 and bad.path.name in out and good.path.name not in out and left.exists()
    assert run("store", "gc", store.root, "--remove")[0] == 0
    assert good.path.exists() and not bad.path.exists() and not left.exists()


def test_an_interruption_says_how_to_go_on(run, tmp_path, monkeypatch):
    from whytransfer.study import run as engine

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run", interrupted)
    tiny = Path(__file__).parents[1] / "golden" / "tiny.yaml"
    status, _, err = run("study", "run", tiny, "--store", tmp_path / "runs")
    assert status == 130 and "the same command continues from here" in err
