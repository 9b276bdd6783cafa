"""The loop: equal to a plain one, resumed to the bit, stopped with a reason, silent."""

import io
import json
import os
import signal
import threading
import warnings
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.oracles.schedules import moco_cosine
from tests.train.small_learner import (
    STEPS,
    STEPS_PER_EPOCH,
    TRAINING,
    Batch,
    SmallLearner,
    batches,
    run_in,
)
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.train.checkpoint import Checkpoints
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.learner import place
from whytransfer.train.loop import Context, Interrupted, TrainingError, fit
from whytransfer.train.progress import TrainingProgress
from whytransfer.train.stopping import StopRequest


def final(folder):
    """All that a finished run leaves: weights, buffers, optimiser, log and its file."""
    found = Checkpoints(folder / "checkpoints").newest()
    assert found.step == STEPS
    return found.state, (folder / "training.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    model = SmallLearner()
    result = fit(model, batches, TRAINING, run_in(folder))
    return model, result, *final(folder)


def assert_same_bits(first, second, path="state"):
    assert type(first) is type(second), path
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second), path
    elif isinstance(first, dict):
        assert list(first) == list(second), path
        for key in first:
            assert_same_bits(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same_bits(one, other, f"{path}[{index}]")
    else:
        assert first == second, path


def assert_as_undisturbed(undisturbed, folder, model=None, result=None):
    expected_model, expected_result, expected_state, expected_log = undisturbed
    state, log = final(folder)
    assert_same_bits(state, expected_state)
    assert log == expected_log
    if model is not None:
        assert_same_bits(dict(model.state_dict()), dict(expected_model.state_dict()))
        assert result.means == expected_result.means


def resume(undisturbed, folder):
    model = SmallLearner()
    result = fit(model, batches, TRAINING, run_in(folder))
    assert_as_undisturbed(undisturbed, folder, model, result)


def at(step, action):
    """Calls ``action`` inside the loss of one step."""
    return lambda context: action() if context.step == step else None


def crash():
    raise ZeroDivisionError


def test_it_is_the_plain_loop_that_anybody_would_write(undisturbed):
    model = SmallLearner().to(memory_format=torch.channels_last)
    norms = list(model.norm.parameters())
    others = [*model.conv.parameters(), *model.head.parameters()]
    optimiser = torch.optim.SGD(
        [{"params": others, "weight_decay": 1e-4}, {"params": norms, "weight_decay": 0.0}],
        lr=0.2,
        momentum=0.9,
        fused=True,  # the same sums in the same order
    )
    losses = []
    with torch.random.fork_rng():
        for step, batch in enumerate(batches(0)):
            context = Context(step, 5, lambda tensor: tensor)
            torch.manual_seed(context.stream("torch").torch_seed())
            lr = moco_cosine(0.2, step // STEPS_PER_EPOCH, STEPS / STEPS_PER_EPOCH)
            for group in optimiser.param_groups:
                group["lr"] = lr * min(1, 1e-3 * (1 - step / 3) + step / 3)
            images = batch.images.contiguous(memory_format=torch.channels_last)
            loss = model.loss(Batch(images, batch.labels), context)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            model.after_step()
            losses.append(loss.item())
    fitted, result, _, log = undisturbed
    for name, value in model.state_dict().items():
        assert torch.equal(fitted.state_dict()[name], value), name
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 9, 11]
    assert [row["epoch"] for row in rows] == [0.75, 1.5, 2.25, 2.75]
    assert rows[1]["lr"] == pytest.approx(moco_cosine(0.2, 1, 2.75), rel=1e-12)
    assert rows[0]["loss"] == pytest.approx(sum(losses[:3]) / 3, rel=1e-12)
    assert rows[3]["loss"] == pytest.approx(sum(losses[9:]) / 2, rel=1e-12)
    assert result.steps == STEPS
    assert result.means == {name: rows[3][name] for name in ("loss", "pull")}


@pytest.mark.parametrize("step", [0, 3, 4, 6, 10])
def test_a_crash_at_any_step_loses_nothing(undisturbed, tmp_path, step):
    with pytest.raises(ZeroDivisionError):
        fit(SmallLearner(at(step, crash)), batches, TRAINING, run_in(tmp_path))
    resume(undisturbed, tmp_path)


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, 0), (signal.SIGTERM, 4), (signal.SIGINT, 6), (signal.SIGINT, 10)],
)
def test_a_signal_ends_after_the_step_with_a_checkpoint(undisturbed, tmp_path, number, step):
    handler = signal.getsignal(number)
    model = SmallLearner(at(step, lambda: signal.raise_signal(number)))
    with pytest.raises(Interrupted, match=f"{number.name}, stopped after step {step + 1}"):
        fit(model, batches, TRAINING, run_in(tmp_path))
    assert signal.getsignal(number) is handler
    assert Checkpoints(tmp_path / "checkpoints").newest().step == step + 1
    resume(undisturbed, tmp_path)


def test_many_interruptions_in_a_row_change_nothing(undisturbed, tmp_path):
    for step in range(STEPS):
        model = SmallLearner(at(step, lambda: signal.raise_signal(signal.SIGTERM)))
        with pytest.raises(Interrupted):
            fit(model, batches, TRAINING, run_in(tmp_path))
    resume(undisturbed, tmp_path)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_call(monkeypatch, owner, name, number, after):
    """Arranges that this process is killed at the n-th call of a function, before or after it."""
    calls, original = [], getattr(owner, name)

    def deadly(*args, **kwargs):
        calls.append(name)
        if len(calls) == number and not after:
            kill()
        result = original(*args, **kwargs)
        if len(calls) == number and after:
            kill()
        return result

    monkeypatch.setattr(owner, name, deadly)


def in_child(action):
    """Runs something in a forked process and returns the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(3)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a process with a GPU can't be forked")
@pytest.mark.parametrize(
    ("owner", "name", "number", "after"),
    [
        (SmallLearner, "after_step", 6, True),
        (os, "fsync", 1, False),
        (os, "fsync", 3, False),
        (Path, "replace", 1, False),
        (Path, "replace", 2, True),
        (Path, "replace", 3, False),
        (Path, "unlink", 3, False),
    ],
)
def test_kill_9_at_any_instant_loses_nothing(
    undisturbed, tmp_path, monkeypatch, owner, name, number, after
):
    def doomed():
        kill_at_call(monkeypatch, owner, name, number, after)
        fit(SmallLearner(), batches, TRAINING, run_in(tmp_path))

    assert in_child(doomed) == signal.SIGKILL
    resume(undisturbed, tmp_path)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_are_passed_over(undisturbed, tmp_path, damaged):
    with pytest.raises(ZeroDivisionError):
        fit(SmallLearner(at(10, crash)), batches, TRAINING, run_in(tmp_path))
    for path in sorted((tmp_path / "checkpoints").iterdir(), reverse=True)[:damaged]:
        path.write_bytes(path.read_bytes()[:-7])
    resume(undisturbed, tmp_path)


def test_the_log_survives_the_loss_of_its_file(undisturbed, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(SmallLearner(at(9, crash)), batches, TRAINING, run_in(tmp_path))
    (tmp_path / "training.jsonl").unlink()
    resume(undisturbed, tmp_path)


def test_a_finished_run_takes_no_further_step(undisturbed, tmp_path):
    fit(SmallLearner(), batches, TRAINING, run_in(tmp_path))
    (tmp_path / "training.jsonl").unlink()
    model = SmallLearner(lambda context: crash())
    result = fit(model, batches, TRAINING, run_in(tmp_path))
    assert_as_undisturbed(undisturbed, tmp_path, model, result)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(SmallLearner(at(5, crash)), batches, TRAINING, run_in(tmp_path))
    with pytest.raises(InputError, match="a checkpoint of another run"):
        fit(SmallLearner(), batches, TRAINING, run_in(tmp_path, seed=6))
    other = TRAINING.model_copy(update={"sgd": Sgd(lr=0.1)})
    with pytest.raises(InputError, match="a checkpoint of another run"):
        fit(SmallLearner(), batches, other, run_in(tmp_path))
    often = TRAINING.model_copy(update={"checkpoint_every_steps": 1})
    assert fit(SmallLearner(), batches, often, run_in(tmp_path)).steps == STEPS


class Exploding(nn.Module):
    """Its loss, or else only its gradient, becomes infinite at one step."""

    def __init__(self, step, in_loss):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.step, self.in_loss = step, in_loss

    def loss(self, batch, context):
        now = context.step == self.step
        if now and not self.in_loss:
            # The root's slope at zero is infinite.
            return {"loss": (self.weight * 0).sqrt().sum()}
        return {"loss": self.weight.sum() * (float("nan") if now else 1.0)}

    def after_step(self):
        pass


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path):
    with pytest.raises(TrainingError) as caught:
        fit(Exploding(6, in_loss=True), batches, TRAINING, run_in(tmp_path))
    message = str(caught.value)
    assert "small: the loss is nan at step 6 (learning rate 0.1" in message
    assert (
        "last good checkpoint: " + str(tmp_path / "checkpoints" / "checkpoint-00000004") in message
    )
    with pytest.raises(TrainingError, match="last good checkpoint: none yet"):
        fit(Exploding(0, in_loss=True), batches, TRAINING, run_in(tmp_path / "other"))


def test_no_checkpoint_ever_holds_a_weight_that_is_not_finite(tmp_path):
    with pytest.raises(TrainingError, match=r"a weight is not finite after step 8.*00000004"):
        fit(Exploding(7, in_loss=False), batches, TRAINING, run_in(tmp_path))
    assert Checkpoints(tmp_path / "checkpoints").newest().step == 4


def test_no_global_state_changes(tmp_path):
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    for name, before in (("whole", lambda context: None), ("crashed", at(2, crash))):
        state = torch.get_rng_state()
        try:
            fit(SmallLearner(before), batches, TRAINING, run_in(tmp_path / name))
        except ZeroDivisionError:
            assert name == "crashed"
        assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_other_generators_do_not_matter(undisturbed, tmp_path):
    model = SmallLearner()
    with torch.random.fork_rng():
        torch.manual_seed(99)
        result = fit(model, batches, TRAINING, run_in(tmp_path))
    assert_as_undisturbed(undisturbed, tmp_path, model, result)


def test_nothing_is_said_unless_progress_is_asked_for(tmp_path, capfd):
    fit(SmallLearner(), batches, TRAINING, run_in(tmp_path / "silent"))
    assert capfd.readouterr() == ("", "")
    fit(SmallLearner(), batches, TRAINING, run_in(tmp_path / "lines", execution=Execution()))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("small: step 11/11, ") and err.count("\n") == 1
    assert "steps/s, 0:00:00 left, loss " in err


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(force_terminal=True, width=120, record=True, file=io.StringIO())
    with TrainingProgress("[small]", 10, True, console) as progress:
        progress.begin(4)
        progress.update(7, 1.2345)
        progress._bar.refresh()
    text = console.export_text()
    assert "[small]" in text and "7/10" in text and "left, loss 1.23" in text


class Seeing(nn.Module):
    """Keeps what its loss was given."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, dtype=dtype)

    def loss(self, batch, context):
        self.seen = batch
        self.output = self.conv(batch["images"][0])
        gathered = context.gather(torch.ones(2))
        assert torch.equal(gathered, torch.ones(2))
        return {"loss": self.output.mean()}

    def after_step(self):
        pass


def fit_once(tmp_path, model, dtype=torch.float32, **changes):
    def one_batch(_first):
        images = torch.linspace(0, 1, 2 * 3 * 6 * 6, dtype=dtype).view(2, 3, 6, 6)
        pixels = torch.arange(2 * 6 * 6 * 3, dtype=torch.uint8).view(2, 6, 6, 3)
        boxes = torch.tensor([[1000.5, 3.25, 1332.75, 7.0]])
        yield {"images": (images,), "pixels": pixels, "boxes": [boxes], "names": ["a", "b"]}

    training = Training(steps=1, batch_size=2, sgd=Sgd(lr=0.1), **changes)
    fit(model, one_batch, training, run_in(tmp_path))
    return model


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_model_and_inputs_lie_as_asked(tmp_path, memory_format):
    model = fit_once(tmp_path, Seeing(), memory_format=memory_format)
    channels_last = memory_format == "channels_last"
    for tensor in (model.conv.weight, model.seen["images"][0]):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert model.seen["pixels"].is_contiguous()
    assert model.seen["names"] == ["a", "b"]


def test_double_precision_stays_double(tmp_path):
    model = fit_once(tmp_path, Seeing(torch.float64), dtype=torch.float64)
    assert model.output.dtype == model.conv.weight.dtype == torch.float64


def test_mixed_precision_leaves_weights_and_batch_as_they_are(tmp_path):
    model = fit_once(tmp_path, Seeing(), precision="bf16-mixed")
    assert model.output.dtype == torch.bfloat16
    assert model.conv.weight.dtype == torch.float32
    assert model.seen["boxes"][0].tolist() == [[1000.5, 3.25, 1332.75, 7.0]]


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = run_in(tmp_path, execution=Execution(device="cuda", progress=False))
    with pytest.raises(InputError, match="no GPU is usable here"):
        fit(SmallLearner(), batches, TRAINING, run)


def test_a_batch_is_placed_through_containers():
    labels = torch.ones(2, 3, 4, 4)
    batch = Batch(torch.zeros(2, 3, 4, 4), (labels, None, "name"))
    placed = place(batch, torch.device("cpu"), channels_last=True)
    assert type(placed) is Batch
    assert placed.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed.labels[0], labels) and placed.labels[1:] == (None, "name")
    assert batch.images.is_contiguous()


def test_a_second_signal_does_not_wait():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_keep_their_meaning():
    handlers = []

    def other_thread():
        with StopRequest() as stop:
            handlers.append((signal.getsignal(signal.SIGINT), stop.signal))

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert handlers == [(signal.getsignal(signal.SIGINT), None)]


def test_a_constant_schedule_needs_no_words(tmp_path):
    assert Schedule() == Schedule(kind="constant")
    model = fit_once(tmp_path, Seeing())
    row = json.loads((tmp_path / "training.jsonl").read_text())
    assert (row["step"], row["lr"]) == (1, 0.1) and model.training
