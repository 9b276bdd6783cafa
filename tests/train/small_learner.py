"""A learner with all that makes resuming hard, small enough to be trained in a second."""

from dataclasses import dataclass

import torch
from torch import nn

from whytransfer.core.stage import Execution
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.loop import Run

STEPS, STEPS_PER_EPOCH = 11, 4
TRAINING = Training(
    steps=STEPS,
    batch_size=4,
    sgd=Sgd(lr=0.2, norm_weight_decay=0.0),
    schedule=Schedule(kind="cosine", per="epoch", warmup_steps=3),
    log_every_steps=3,
    checkpoint_every_steps=4,
)


@dataclass(frozen=True)
class Batch:
    """Images (N, 3, H, W) of floats, labels (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


class SmallLearner(nn.Module):
    """Convolution, BatchNorm, dropout (global generator), a momentum copy and a queue.

    ``before`` is called with the context of each step before the loss; tests raise there.
    """

    def __init__(self, before=lambda context: None):
        super().__init__()
        with seeded_torch(Stream(0, "weights")):
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.drop = nn.Dropout(0.3)
            self.head = nn.Linear(4, 3)
            self.slow = nn.Linear(4, 3).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(8, 3))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.before = before

    def loss(self, batch, context):
        self.before(context)
        features = self.drop(self.norm(self.conv(batch.images)).relu().mean((2, 3)))
        noise = float(context.stream("noise").uniform(1)[0])
        logits = self.head(features) + 0.1 * noise
        with torch.no_grad():
            rows = (self.pointer + torch.arange(4)) % 8
            pull = (logits * self.queue.mean(0)).sum(1).mean()
            self.queue[rows] = self.slow(features)
            self.pointer.copy_((self.pointer + 4) % 8)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        return {"loss": loss, "pull": pull}

    def after_step(self):
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.head.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


def batches(first_step):
    for step in range(first_step, STEPS):
        stream = Stream(0, "batch", step)
        images = torch.from_numpy(stream.uniform(4 * 3 * 6 * 6)).float().view(4, 3, 6, 6)
        yield Batch(images, torch.from_numpy(stream.integers(4, 3)))


def run_in(folder, **changes):
    """The run whose work folder and log lie in ``folder``."""
    fields = {
        "work": folder,
        "log": folder / "training.jsonl",
        "execution": Execution(progress=False),
        "seed": 5,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "title": "small",
    }
    return Run(**(fields | changes))
