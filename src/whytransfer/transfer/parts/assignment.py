"""Which object is each candidate box to find, and which candidates does the loss look at?"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.core.streams import Stream

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class Assignment:
    """The object and the role of each of N candidates of one image.

    Attributes:
        truth: (N,) int64 row of the object overlapped most; 0 where the image has none.
        role: (N,) int64 ``POSITIVE``, ``NEGATIVE`` or ``IGNORED``.
    """

    truth: Tensor
    role: Tensor


def assign(
    truth_xyxy: Tensor,
    candidates_xyxy: Tensor,
    *,
    negative_below: float,
    positive_from: float,
    rescue: bool,
) -> Assignment:
    """Gives each candidate the object that it overlaps most, and a role by that overlap.

    Args:
        truth_xyxy: (G, 4) objects of the image; without any, all candidates are negative.
        candidates_xyxy: (N, 4).
        negative_below: Candidates whose best overlap is less are negative.
        positive_from: Candidates whose best overlap is at least this are positive.
        rescue: Make the candidates that overlap an object most (all of them where several tie)
            positive however little that is; they keep the object that *they* overlap most.

    Source: Ren et al. 2015, section 3.1.2; detectron2 matcher.py @02b5c4e.
    """
    from torchvision.ops import box_iou

    count = len(candidates_xyxy)
    device = candidates_xyxy.device
    if not len(truth_xyxy):
        none = torch.zeros(count, dtype=torch.int64, device=device)
        return Assignment(truth=none, role=torch.full_like(none, NEGATIVE))
    overlap = box_iou(truth_xyxy, candidates_xyxy)
    best, truth = overlap.max(dim=0)
    role = torch.full((count,), IGNORED, dtype=torch.int64, device=device)
    role[best < negative_below] = NEGATIVE
    role[best >= positive_from] = POSITIVE
    if rescue:
        role[(overlap == overlap.amax(dim=1, keepdim=True)).any(dim=0)] = POSITIVE
    return Assignment(truth=truth, role=role)


def sample(
    role: NDArray[np.int64], count: int, positive_fraction: float, stream: Stream
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws ``count`` candidates without replacement and returns rows: positives, negatives.

    At most that fraction, rounded down, is positive; negatives fill the rest. Where both together
    are too few, fewer are drawn.

    Source: Ren et al. 2015, section 3.1.3; detectron2 sampling.py @02b5c4e.
    """
    positives, negatives = np.flatnonzero(role == POSITIVE), np.flatnonzero(role == NEGATIVE)
    num_positives = min(len(positives), int(count * positive_fraction))
    num_negatives = min(len(negatives), count - num_positives)
    return (
        positives[stream.permutation(len(positives))[:num_positives]],
        negatives[stream.permutation(len(negatives))[:num_negatives]],
    )
