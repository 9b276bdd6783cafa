"""What ``training.compile`` fuses computes the same losses, to rounding."""

import numpy as np
import pytest
import torch
from tests.train.small_learner import STEPS, batches, run_in
from torch import nn

from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train import loop
from whytransfer.train.config import Sgd, Training
from whytransfer.train.loop import fit
from whytransfer.train.norm import convert_groups


def _require_compiler():
    """Skips a test where torch.compile has nothing to build its kernels with."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler is found, which torch.compile needs on a CPU")


class Fused(nn.Module):
    """What a step of a method has: convolution, BatchNorm of groups, a queue, a random stream."""

    def __init__(self):
        super().__init__()
        with seeded_torch(Stream(0, "weights")):
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 3)
        convert_groups(self, 2)
        self.register_buffer("queue", torch.zeros(4, 3))

    def loss(self, batch, context):
        noise = torch.from_numpy(context.stream("noise").uniform(3)).float()
        features = self.norm(self.conv(batch.images)).relu().mean((2, 3))
        logits = self.head(features) + 0.1 * noise
        spread = (logits @ self.queue.clone().T).logsumexp(1).mean()
        with torch.no_grad():
            self.queue.copy_(logits)
        return {"loss": nn.functional.cross_entropy(logits, batch.labels) + 0.1 * spread}

    def after_step(self):
        pass


def _trained(folder, compiled, monkeypatch):
    training = Training(
        steps=STEPS, batch_size=4, sgd=Sgd(lr=0.2), log_every_steps=1, compile=compiled
    )
    model, losses = Fused(), []
    numbers = loop.numbers
    with monkeypatch.context() as patch:
        keep = lambda scalars: losses.append(numbers(scalars)) or losses[-1]  # noqa: E731
        patch.setattr(loop, "numbers", keep)
        fit(model, batches, training, run_in(folder))
    return [row["loss"] for row in losses], model.state_dict()


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at every tensor's
def test_the_compiled_step_trains_what_the_plain_one_does(tmp_path, monkeypatch):
    _require_compiler()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    plain, state = _trained(tmp_path / "never", "never", monkeypatch)
    torch.compiler.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    # In this process, and no headers compiled ahead: for these few kernels that takes longer.
    with torch._inductor.config.patch(
        {"compile_threads": 1, "cpp_cache_precompile_headers": False}
    ):
        fused, fused_state = _trained(tmp_path / "always", "always", monkeypatch)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before  # it was compiled
    assert len(plain) == STEPS and np.ptp(plain) > 0.05
    np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-5)
    for name, value in state.items():
        torch.testing.assert_close(fused_state[name], value, rtol=0, atol=1e-5)
