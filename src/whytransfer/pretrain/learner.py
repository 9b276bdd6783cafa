"""What the training loop trains: a method, and what every method's batches need beforehand."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whytransfer.core.errors import InputError
from whytransfer.data.device_views import apply_photometry
from whytransfer.pretrain.method import Method, ViewBatch
from whytransfer.train.loop import Context


@dataclass(frozen=True)
class Tolerance:
    """How many images of an epoch may be unreadable.

    Attributes:
        share: Of the epoch's images, in [0, 1].
        steps_per_epoch: Batches of an epoch.
        batch_size: Images of a batch, over all processes.
    """

    share: float
    steps_per_epoch: int
    batch_size: int


class Pretext(nn.Module):
    """A method with its photometry on the device, and a count of unreadable images.

    Args:
        method: Trained; its parameters are all there are.
        tolerance: For unreadable images that are skipped; ``None`` where none are.

    Attributes:
        counts: (3,) int64: the epoch, its unreadable images so far, and those of the whole run;
            only where there is a tolerance. Part of the checkpoint, so a resumed run goes on.
    """

    counts: Tensor

    def __init__(self, method: Method, tolerance: Tolerance | None = None) -> None:
        super().__init__()
        self.method = method
        self.tolerance = tolerance
        if tolerance is not None:
            self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))

    @property
    def num_unreadable(self) -> int:
        """Counts the images that were replaced since the run began."""
        return 0 if self.tolerance is None else int(self.counts[2])

    def loss(self, batch: ViewBatch, context: Context) -> dict[str, Tensor]:
        """Returns the method's scalars, and ``unreadable`` where such images are skipped.

        Raises:
            InputError: More images of this epoch are unreadable than is tolerated.
        """
        if batch.photometry is not None:
            pairs = zip(batch.views, batch.photometry, strict=True)
            views = tuple(apply_photometry(crops, given) for crops, given in pairs)
            batch = batch._replace(views=views, photometry=None)
        scalars = self.method.loss(batch, context)
        if self.tolerance is None:
            return scalars
        return {**scalars, "unreadable": self._count(batch, context, self.tolerance)}

    def after_step(self) -> None:
        """Runs what the method does after each step."""
        self.method.after_step()

    def _count(self, batch: ViewBatch, context: Context, tolerance: Tolerance) -> Tensor:
        """Counts the unreadable images of the whole batch; refuses too many in an epoch."""
        assert batch.unreadable is not None
        count = context.gather(batch.unreadable.sum()).sum()
        epoch = context.step // tolerance.steps_per_epoch
        before = self.counts[1] * (self.counts[0] == epoch)
        self.counts.copy_(torch.stack([before.new_tensor(epoch), before, self.counts[2]]))
        self.counts[1:] += count
        found, size = int(self.counts[1]), tolerance.steps_per_epoch * tolerance.batch_size
        if found > tolerance.share * size:
            raise InputError(
                f"pretraining, epoch {epoch}",
                f"{found} of its {size} images can't be read",
                f"at most {tolerance.share:.4g} of them (max_unreadable)",
                "`whytransfer data check` lists them: replace or remove them, or raise"
                " max_unreadable",
            )
        return count.float()
