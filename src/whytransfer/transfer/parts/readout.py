"""Linear layers on frozen features: one trained as the protocol says, and a bank for a grid.

The grid's layers see the same batches in the same pass. Each learning rate has two layers: one
that never sees the held-out images, which the choice is made with, and one that sees all, which is
scored. All of them start as the protocol's layer does.

One optimiser has one learning rate. With SGD (momentum or not) a loss that is multiplied by f
trains as the learning rate f·lr does, since the gradient is linear in it; only the optimiser's
weight decay is not, and what lacks is added to the loss. So each layer of the bank moves exactly
as one that is trained alone at its own rate, up to rounding.

Letters: N images, V values per image, K classes, R learning rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.backbone import features
from whytransfer.backbone.model import Backbone
from whytransfer.train.config import Sgd
from whytransfer.train.learner import Context


class Unmoved:
    """Remembers a frozen backbone, bit by bit.

    Args:
        backbone: As it was given.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._frozen = {name: value.clone() for name, value in backbone.state_dict().items()}

    def require(self, backbone: Backbone) -> None:
        """Makes sure that it is still the same.

        Raises:
            RuntimeError: A weight or a running statistic has changed.
        """
        for name, value in backbone.state_dict().items():
            if not torch.equal(value.cpu(), self._frozen[name].cpu()):
                raise RuntimeError(f"the frozen backbone's {name} has changed")


class ReadoutBatch(NamedTuple):
    """A batch of N images, or what the backbone makes of them.

    Attributes:
        inputs: (N, H, W, 3) uint8 RGB, or level → features (N, V) float32.
        labels: (N,) int64.
        held_out: (N,) bool, images that the grid's choice is made on.
        indices: (N,) int64, the images' numbers in the source.
    """

    inputs: Tensor | Mapping[str, Tensor]
    labels: Tensor
    held_out: Tensor
    indices: Tensor


@dataclass(frozen=True)
class HeadPlan:
    """What a head is made of.

    Attributes:
        num_classes: K.
        init_std: Of the layers' normal weights; their biases start at 0.
        grid: The learning rates of the bank, R.
        sgd: What trains them all; its ``lr`` is the protocol's.
        normalise: Normalise each channel by BatchNorm without scale and shift.
    """

    num_classes: int
    init_std: float
    grid: Sequence[float]
    sgd: Sgd
    normalise: bool = False


class Head(nn.Module):
    """The linear layers on the features of one level.

    Args:
        channels: Of the level.
        num_values: V, a multiple of the channels.
        plan: What the head is made of.

    Attributes:
        linear: The protocol's layer.
        weight: (2R, K, V), the bank: R layers that never see a held-out image, then R that do.
        bias: (2R, K).
    """

    factors: Tensor

    def __init__(self, channels: int, num_values: int, plan: HeadPlan) -> None:
        super().__init__()
        self.channels, self.decay = channels, plan.sgd.weight_decay
        self.norm = nn.BatchNorm2d(channels, affine=False) if plan.normalise else nn.Identity()
        self.linear = nn.Linear(num_values, plan.num_classes)
        nn.init.normal_(self.linear.weight, std=plan.init_std)
        nn.init.zeros_(self.linear.bias)
        factors = torch.tensor([lr / plan.sgd.lr for lr in plan.grid], dtype=torch.float64)
        self.register_buffer("factors", factors.repeat(2), persistent=False)
        self.num_rates = len(plan.grid)
        if self.num_rates:
            size = 2 * self.num_rates
            self.weight = nn.Parameter(self.linear.weight.detach().repeat(size, 1, 1))
            self.bias = nn.Parameter(self.linear.bias.detach().repeat(size, 1))

    def normalised(self, values: Tensor) -> Tensor:
        """Returns features (N, V) as the layers see them."""
        values = values.to(self.linear.weight.device, self.linear.weight.dtype)
        maps: Tensor = self.norm(values.view(len(values), self.channels, -1, 1))
        return maps.flatten(1)

    def logits(self, seen: Tensor) -> Tensor:
        """Returns the protocol's logits (N, K)."""
        found: Tensor = self.linear(seen)
        return found.float() if found.dtype == torch.bfloat16 else found

    def bank(self, seen: Tensor) -> Tensor:
        """Returns the bank's logits (N, 2R, K)."""
        flat = F.linear(seen, self.weight.flatten(0, 1), self.bias.flatten())
        found = flat.view(len(seen), *self.bias.shape)
        return found.float() if found.dtype == torch.bfloat16 else found

    def bank_loss(self, seen: Tensor, batch: ReadoutBatch, context: Context) -> Tensor:
        """Returns what trains the bank: every layer's cross entropy, times its rate's factor."""
        labels = batch.labels[:, None].expand(-1, len(self.bias))
        losses = F.cross_entropy(self.bank(seen).transpose(1, 2), labels, reduction="none")
        kept = (~batch.held_out).to(losses)
        # The mean over all processes' images that are kept, whichever process holds how many.
        share = context.world_size / context.gather(kept.sum()).sum().clamp(min=1)
        without = (kept * share) @ losses[:, : self.num_rates]
        means = torch.cat([without, losses[:, self.num_rates :].mean(0)])
        if self.decay:
            squares = self.weight.square().sum((1, 2)) + self.bias.square().sum(1)
            lacking = (1 - 1 / self.factors) * self.decay / 2
            means = means + lacking.to(squares) * squares
        return means @ self.factors.to(means)


class Readouts(nn.Module):
    """A head on each of a frozen backbone's levels.

    Args:
        backbone: Never trained, always in evaluation mode.
        heads: Level → its head, from the image on.
        wanted: The features that the heads read.
    """

    def __init__(
        self, backbone: Backbone, heads: Mapping[str, Head], wanted: features.Config
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.heads = nn.ModuleDict(heads)
        self.wanted = wanted

    def train(self, mode: bool = True) -> "Readouts":
        """Sets the mode of the heads alone."""
        super().train(mode)
        self.backbone.eval()
        return self

    def head(self, level: str) -> Head:
        """Returns the head of a level."""
        found = self.heads[level]
        assert isinstance(found, Head)
        return found

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Returns pooled features (N, V) of images (N, H, W, 3), by level."""
        device = next(self.backbone.parameters()).device
        return features.pooled(self.backbone, images.to(device), self.wanted)

    def loss(self, batch: ReadoutBatch, context: Context) -> dict[str, Tensor]:
        """Returns the cross entropy, summed over the levels, and the share named rightly.

        The value is that of the protocol's layers alone, the share that of the last level; the
        gradient is the bank's, too.
        """
        inputs = batch.inputs
        found = self.features(inputs) if isinstance(inputs, Tensor) else inputs
        losses, banks = [], []
        logits = batch.labels
        for level in self.heads:
            head = self.head(level)
            seen = head.normalised(found[level])
            logits = head.logits(seen)
            losses.append(F.cross_entropy(logits, batch.labels))
            if head.num_rates:
                banks.append(head.bank_loss(seen, batch, context))
        loss = sum(losses[1:], losses[0])
        for bank in banks:
            loss = loss + (bank - bank.detach())
        correct = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": loss, "accuracy": correct}

    def after_step(self) -> None:
        """Nothing is left to do after an optimiser step."""
