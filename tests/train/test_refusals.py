"""Runs that can't go on say why, and what to change; asked-for kernels are put back."""

import os
import re
import signal
import time

import pytest
import torch
from tests.train.small_learner import TRAINING, Batch, SmallLearner, batches, run_in
from torch import nn

from whytransfer import cli
from whytransfer.core.errors import InputError
from whytransfer.core.processes import FailedElsewhere
from whytransfer.core.stage import Execution
from whytransfer.data.loader import EpochOrder, load
from whytransfer.train.loop import TrainingError, fit
from whytransfer.train.memory import (
    enough_memory,
    enough_memory_for_model,
    smaller_batch,
    with_batch,
)

CPU = torch.device("cpu")


class Numbered(Batch):
    """A batch that knows the numbers of its images in the data."""

    indices = torch.tensor([31, 7, 20, 4, 15, 16, 23, 42, 108, 9])


def numbered(first_step):
    for batch in batches(first_step):
        yield Numbered(batch.images, batch.labels)


class Diverging(SmallLearner):
    """Its loss is no number at step 2."""

    def loss(self, batch, context):
        scalars = super().loss(batch, context)
        return {**scalars, "loss": scalars["loss"] * (float("inf") if context.step == 2 else 1)}


def test_a_loss_that_is_not_finite_names_the_images_of_its_batch(tmp_path):
    run = run_in(tmp_path, image_name=lambda number: f"{number} ({number}.jpg)")
    with pytest.raises(TrainingError) as caught:
        fit(Diverging(), numbered, TRAINING, run)
    message, file = str(caught.value), tmp_path / "batch-2.txt"
    assert "the loss is inf at step 2 (learning rate" in message
    named = "31 (31.jpg), 7 (7.jpg), 20 (20.jpg), 4 (4.jpg), ..."
    assert f"; a batch of 10 images, {named}: all of them in {file})" in message
    assert "last good checkpoint: none yet" in message
    expected = [f"{number} ({number}.jpg)" for number in Numbered.indices.tolist()]
    assert file.read_text().splitlines() == expected


def test_a_small_batch_is_named_in_the_line_alone(tmp_path):
    class Few(Batch):
        indices = (5, 3)

    found = (Few(batch.images, batch.labels) for batch in batches(0))
    with pytest.raises(TrainingError, match=r"; a batch of 2 images, 5, 3\); last good"):
        fit(Diverging(), lambda first_step: found, TRAINING, run_in(tmp_path))
    assert not list(tmp_path.glob("batch-*"))


def test_a_batch_without_numbers_is_not_named(tmp_path):
    with pytest.raises(TrainingError, match=r"at step 2 \(learning rate [^;]*\); last good"):
        fit(Diverging(), batches, TRAINING, run_in(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_names_settings_that_need_less(error, tmp_path):
    run = run_in(tmp_path, lighter=lambda: ["training.batch_size=2", "smaller views"])
    with pytest.raises(InputError) as caught, enough_memory(TRAINING, CPU, run):
        raise error
    message = str(caught.value)
    assert message.startswith("training.batch_size: is 4, for which cpu has too little memory")
    assert message.endswith(
        "give training.batch_size=2; or smaller views; or training.precision=bf16-mixed"
    )


def test_advice_leaves_out_what_is_done_already(tmp_path):
    done = TRAINING.model_copy(update={"precision": "bf16-mixed"})
    with pytest.raises(InputError) as caught, enough_memory(done, CPU, run_in(tmp_path)):
        raise MemoryError
    assert not re.search("batch_size=|precision|give", str(caught.value))


@pytest.mark.parametrize(
    ("batch_size", "accepted", "expected"),
    [
        (256, lambda size: size % 32 == 0 and 65536 % size == 0, 128),
        (32, lambda size: size % 32 == 0, None),
        (24, lambda size: size % 8 == 0, 8),
        (7, lambda size: True, 3),
        (3, lambda size: True, None),
    ],
)
def test_the_smaller_batch_is_one_that_is_accepted(batch_size, accepted, expected):
    assert smaller_batch(batch_size, accepted) == expected


def test_a_smaller_batch_goes_with_a_lower_rate():
    assert with_batch(TRAINING, 3) == "training.batch_size=3 training.sgd.lr=0.15"


class _Fatal:
    """An image whose reading ends the process, as the kernel does where memory is short."""

    def __init__(self, number):
        self.number = number

    def __call__(self, epoch, index):
        os.kill(os.getpid(), self.number)
        time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS], ids=["killed", "bus"])
def test_a_killed_worker_is_one_too_many(tmp_path, number):
    read = load(_Fatal(number), EpochOrder(4, 2, seed=0), list, 0, 2, workers=1)
    run = run_in(tmp_path, execution=Execution(workers=3))
    with pytest.raises(InputError) as caught, enough_memory(TRAINING, CPU, run):
        next(read)
    message = str(caught.value)
    assert re.match(r"--workers: is 3, and one of them was killed, .* killed by signal: ", message)
    assert message.endswith("give fewer --workers, such as 1") and "\n" not in message


def test_a_worker_that_failed_otherwise_is_a_fault(tmp_path):
    read = load(_Fatal(signal.SIGSEGV), EpochOrder(4, 2, seed=0), list, 0, 2, workers=1)
    with (
        pytest.raises(RuntimeError, match="DataLoader worker"),
        enough_memory(TRAINING, CPU, run_in(tmp_path)),
    ):
        next(read)


def test_a_model_without_enough_memory_names_its_sizes():
    sizes = {"num_keys": 8, "num_dims": 3}
    with pytest.raises(InputError) as caught, enough_memory_for_model("pretrain x", sizes):
        raise MemoryError("Unable to allocate 7 TiB")
    assert str(caught.value) == (
        "pretrain x, field num_keys: there is too little memory for the model of num_keys=8, "
        "num_dims=3 (Unable to allocate 7 TiB); expected a model that fits; "
        "lower num_keys or num_dims"
    )
    for error in (RuntimeError("shapes differ"), InputError("here", "not enough memory")):
        with pytest.raises(type(error)) as other, enough_memory_for_model("pretrain x", sizes):
            raise error
        assert other.value is error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(2, "no such file")])
def test_other_errors_stay_what_they_are(error, tmp_path):
    with pytest.raises(type(error)) as caught, enough_memory(TRAINING, CPU, run_in(tmp_path)):
        raise error
    assert caught.value is error


class Huge(SmallLearner):
    """Asks for more memory than any machine has."""

    def loss(self, batch, context):
        torch.empty(1 << 60, dtype=torch.uint8)
        return super().loss(batch, context)


def test_a_step_without_enough_memory_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"training.batch_size: is 4, .* too little memory"):
        fit(Huge(), batches, TRAINING, run_in(tmp_path))


class Watching(nn.Module):
    """Keeps which kernels its loss was computed under."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def loss(self, batch, context):
        cudnn = torch.backends.cudnn
        asked = torch.are_deterministic_algorithms_enabled()
        self.seen = asked, cudnn.deterministic, cudnn.benchmark
        return {"loss": self.weight}

    def after_step(self):
        pass


def kernels():
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled()
    return enabled, cudnn.deterministic, cudnn.benchmark


def test_deterministic_kernels_are_used_where_asked_for_and_nowhere_else(tmp_path):
    before, model = kernels(), Watching()
    fit(model, batches, TRAINING, run_in(tmp_path / "plain"))
    assert model.seen == before
    execution = Execution(progress=False, deterministic=True)
    fit(model, batches, TRAINING, run_in(tmp_path / "same", execution=execution))
    assert model.seen == (True, True, False)
    assert kernels() == before


def test_the_compiled_step_is_asked_for_by_name(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    fit(SmallLearner(), batches, TRAINING, run_in(tmp_path / "never"))
    assert compiled == []
    always = TRAINING.model_copy(update={"compile": "always"})
    fit(SmallLearner(), batches, always, run_in(tmp_path / "always"))
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (TrainingError("small: the loss is nan"), 1, "error: small: the loss is nan\n"),
        (InputError("here", "nothing"), 2, "error: here: nothing\n"),
        (FailedElsewhere("process 1"), 1, ""),
    ],
)
def test_the_command_line_says_it_in_one_line(monkeypatch, capsys, error, status, text):
    def app():
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == status
    assert capsys.readouterr() == ("", text)
