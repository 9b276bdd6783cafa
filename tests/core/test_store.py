import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.store import Store, open_artifact, write_text

PRINT = fingerprint({"what": "test"})


def fill(folder: Path) -> None:
    (folder / "a.txt").write_text("alpha")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.bin").write_bytes(bytes(range(256)))


def test_write_then_read(tmp_path):
    store = Store(tmp_path / "runs")
    assert store.get("data", "x", PRINT) is None
    artifact = store.write("data", "x", PRINT, fill)
    again = store.get("data", "x", PRINT)
    assert again is not None and again.path == artifact.path
    assert again.fingerprint == PRINT
    assert again.file("deep/b.bin").read_bytes() == bytes(range(256))
    assert [a.path for a in store.all()] == [artifact.path]
    with pytest.raises(InputError, match=r"holds no c\.txt; expected a\.txt, deep/b\.bin"):
        again.file("c.txt")


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "manifest", "no manifest"])
def test_an_altered_artifact_is_never_taken_for_a_good_one(tmp_path, harm):
    store = Store(tmp_path)
    path = store.write("data", "x", PRINT, fill).path
    target = path / "deep" / "b.bin"
    if harm == "flip":
        target.write_bytes(bytes([1]) + target.read_bytes()[1:])
    elif harm == "truncate":
        target.write_bytes(target.read_bytes()[:-1])
    elif harm == "remove":
        target.unlink()
    elif harm == "manifest":
        (path / "artifact.json").write_text("{}")
    else:
        (path / "artifact.json").unlink()
    with pytest.raises(InputError, match=r"run again: it will be computed anew"):
        store.get("data", "x", PRINT)


def test_a_failing_writer_leaves_nothing(tmp_path):
    def breaks(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("no")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError):
        store.write("data", "x", PRINT, breaks)
    assert not list(tmp_path.rglob("a.txt"))
    assert store.get("data", "x", PRINT) is None


def test_killed_at_any_instant_the_store_holds_nothing_or_the_whole(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from whytransfer.core.store import Store\n"
        "def fill(folder):\n"
        "    for i in range(40):\n"
        "        (folder / f'{i}').write_bytes(b'x' * 20000)\n"
        "store = Store(sys.argv[1])\n"
        "print('go', flush=True)\n"
        "for i in range(10**6):\n"
        "    store.write('data', 'x', f'{i:064d}'[::-1], fill)\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(4):  # ready, and three artifacts written
        process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = list(Store(tmp_path).all())
    assert whole
    for artifact in whole:
        artifact.verify()
        assert len(artifact.manifest["files"]) == 40


def _write_many(root: str, number: int) -> None:
    store = Store(root)
    for i in range(20):
        print_ = fingerprint({"i": i})

        def fill_one(folder: Path, i: int = i) -> None:
            (folder / "value").write_text(str(i))

        with store.lock(print_):
            if store.get("data", "x", print_) is None:
                store.write("data", "x", print_, fill_one)
                with (Path(root) / "log").open("a") as log:
                    log.write(f"{i}\n")
    assert number >= 0


def test_two_processes_on_one_store_never_tear_it_and_compute_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(str(tmp_path), n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(int(x) for x in (tmp_path / "log").read_text().split()) == list(range(20))
    artifacts = list(Store(tmp_path).all())
    assert len(artifacts) == 20
    for artifact in artifacts:
        artifact.verify()


def test_without_the_lock_the_first_stands_and_the_second_is_dropped(tmp_path):
    store = Store(tmp_path)

    def fill_late(folder: Path) -> None:
        store.write("data", "x", PRINT, fill)
        (folder / "a.txt").write_text("late")

    artifact = store.write("data", "x", PRINT, fill_late)
    assert artifact.file("a.txt").read_text() == "alpha"
    assert not list((tmp_path / "work").glob("*.part"))


def test_a_full_store_says_so_and_keeps_nothing_half(tmp_path):
    """A limit on file sizes stands in for a full disk: root passes every permission."""
    script = (
        "import resource, signal, sys\n"
        "from whytransfer.core.errors import InputError\n"
        "from whytransfer.core.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "def fill(folder):\n"
        "    (folder / 'small').write_bytes(b'x')\n"
        "    (folder / 'large').write_bytes(b'x' * 100_000)\n"
        "try:\n"
        "    Store(sys.argv[1]).write('data', 'x', 'f' * 64, fill)\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"{tmp_path}: can't be written: the file-size limit is reached" in done.stdout
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000


def test_a_store_below_a_file_or_read_only_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written: a part of the path is a file"):
        Store(tmp_path / "file" / "runs").write("data", "x", PRINT, fill)

    def read_only(*args: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(InputError, match=r"the file system is read-only.*give another --store"):
        Store(tmp_path / "runs").work(PRINT)


def test_write_text_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_open_artifact_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_artifact(tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no artifact\.json"):
        open_artifact(tmp_path)
