"""The region head (RoI head) of a C4 detector: what is in each proposed box, and where exactly?

Letters in shapes: R regions of all images, C classes, P pooled cells per side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.core.config import Config
from whytransfer.core.streams import Stream
from whytransfer.ops.masks import Masks
from whytransfer.train.learner import Average, own_average
from whytransfer.transfer.parts.assignment import assign, sample
from whytransfer.transfer.parts.box_coding import Weights, decode, encode, full_precision
from whytransfer.transfer.parts.proposals import Size


class RegionConfig(Config):
    """The region head's settings; the defaults are detectron2's for C4, with MoCo's extra norm.

    Attributes:
        foreground_iou: Regions that overlap an object at least this much show it, the others
            background.
        sampled: Regions per image that are trained on.
        foreground_fraction: At most this share of them is foreground.
        append_truth: Put the objects' own boxes among the proposals of training.
        pooled: Cells per side that a region is pooled to, before the last stage halves them.
        sampling_ratio: Points per cell and side that are averaged; 0 takes as many as it covers.
        aligned: Shift by half a pixel, so that pooled cells lie where the features do.
        extra_norm: A BatchNorm after the last stage, as in the reference.
        box_weights: Factors on the box deltas.
        class_init_std, box_init_std: Of the normal weights of the two layers; biases start at 0.
        score_threshold: Only surer detections are kept.
        nms_iou: A detection that overlaps a better one of its class more than this is dropped.
        max_detections: Per image.

    Source: detectron2 config/defaults.py and Base-RCNN-C4.yaml @02b5c4e; moco
        detection/train_net.py @132aea9, ``Res5ROIHeadsExtraNorm``.
    """

    foreground_iou: float = 0.5
    sampled: int = 512
    foreground_fraction: float = 0.25
    append_truth: bool = True
    pooled: int = 14
    sampling_ratio: int = 0
    aligned: bool = True
    extra_norm: bool = True
    box_weights: Weights = (10.0, 10.0, 5.0, 5.0)
    class_init_std: float = 0.01
    box_init_std: float = 0.001
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


@dataclass(frozen=True)
class Regions:
    """The sampled regions of one image.

    Attributes:
        boxes_xyxy: (R, 4).
        labels: (R,) int64 class of the object found; the number of classes for background.
        truth_xyxy: (R, 4) that object's box; the region's own for background.
        objects: (F,) int64 rows of the objects that the foreground regions, which come first, show;
            what masks are looked up by.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    truth_xyxy: Tensor
    objects: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """The detections of one image, best first.

    Attributes:
        boxes_xyxy: (D, 4) pixels.
        scores: (D,) in [0, 1].
        labels: (D,) int64.
        masks: (D,) in the size of the image; ``None`` where the detector has no mask head.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    masks: Masks | None = None


@torch.no_grad()
def sample_regions(
    proposals_xyxy: Tensor,
    truth_xyxy: Tensor,
    labels: Tensor,
    num_classes: int,
    config: RegionConfig,
    stream: Stream,
) -> Regions:
    """Draws the regions of one image to train on, foreground first.

    Args:
        proposals_xyxy: (P, 4).
        truth_xyxy: (G, 4) objects of the image.
        labels: (G,) their classes.
        num_classes: Which is also the label of background.
        config: The head's settings.
        stream: What the sampling draws from.

    Source: Ren et al. 2015, section 3.2; detectron2 roi_heads.py @02b5c4e,
        ``label_and_sample_proposals``.
    """
    candidates = torch.cat([proposals_xyxy, truth_xyxy]) if config.append_truth else proposals_xyxy
    assignment = assign(
        truth_xyxy,
        candidates,
        negative_below=config.foreground_iou,
        positive_from=config.foreground_iou,
        rescue=False,
    )
    role = assignment.role.cpu().numpy()
    foreground, background = sample(role, config.sampled, config.foreground_fraction, stream)
    rows = torch.from_numpy(foreground).to(candidates.device)
    found = assignment.truth[rows]
    empty = candidates[torch.from_numpy(background).to(candidates.device)]
    return Regions(
        boxes_xyxy=torch.cat([candidates[rows], empty]),
        labels=torch.cat([labels[found], labels.new_full((len(empty),), num_classes)]),
        truth_xyxy=torch.cat([truth_xyxy[found], empty]),
        objects=found,
    )


class BoxPredictor(nn.Module):
    """Two linear layers on pooled features: class logits and class-specific box deltas.

    Args:
        channels: Of the pooled features.
        num_classes: C; background is class C.
        config: The head's settings.

    Source: detectron2 fast_rcnn.py @02b5c4e, ``FastRCNNOutputLayers``.
    """

    def __init__(self, channels: int, num_classes: int, config: RegionConfig) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.classes = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * num_classes)
        nn.init.normal_(self.classes.weight, std=config.class_init_std)
        nn.init.normal_(self.deltas.weight, std=config.box_init_std)
        nn.init.zeros_(self.classes.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns class logits (R, C + 1) and deltas (R, C, 4) of features (R, channels)."""
        deltas = self.deltas(features).reshape(-1, self.num_classes, 4)
        return full_precision(self.classes(features)), full_precision(deltas)

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        regions: Sequence[Regions],
        average: Average = own_average,
    ) -> dict[str, Tensor]:
        """Returns ``loss_classes`` (cross entropy) and ``loss_boxes`` (L1).

        The first is the mean over all regions; the second the sum over foreground regions, for
        the object's class only, divided by the number of *all* regions. Without any region both
        are 0.

        Args:
            logits: (R, C + 1).
            deltas: (R, C, 4).
            regions: Of each image.
            average: How to divide by a number of regions, where other processes have more of them.
        """
        labels = torch.cat([r.labels for r in regions])
        rows = torch.nonzero(labels < self.num_classes).squeeze(1)
        boxes = torch.cat([r.boxes_xyxy for r in regions])[rows]
        truth = torch.cat([r.truth_xyxy for r in regions])[rows]
        targets = encode(truth, boxes, self.config.box_weights)
        off = F.l1_loss(deltas[rows, labels[rows]], targets, reduction="sum")
        classes = F.cross_entropy(logits, labels, reduction="sum")
        return {
            "loss_classes": average(classes, len(labels)),
            "loss_boxes": average(off, len(labels)),
        }

    def detections(self, logits: Tensor, deltas: Tensor, proposals: Tensor, size: Size) -> Found:
        """Returns what one image's regions show.

        Every class of every region whose score is above the threshold gives a box; near-duplicates
        within a class are dropped and the best ones kept.

        Differs: equal scores keep the order of region, then class; the original leaves it open.

        Args:
            logits: (R, C + 1) of this image's regions.
            deltas: (R, C, 4).
            proposals: (R, 4) the regions.
            size: Of the image.
        """
        from torchvision.ops import batched_nms, clip_boxes_to_image

        scores = logits.softmax(dim=1)[:, :-1]
        boxes = decode(deltas, proposals[:, None], self.config.box_weights)
        boxes = clip_boxes_to_image(boxes, size)
        region, label = torch.nonzero(scores > self.config.score_threshold, as_tuple=True)
        scores, order = scores[region, label].sort(descending=True, stable=True)
        region, label = region[order], label[order]
        boxes = boxes[region, label]
        kept = batched_nms(boxes, scores, label, self.config.nms_iou).sort().values
        kept = kept[: self.config.max_detections]
        return Found(boxes[kept], scores[kept], label[kept])
