"""The proposal network (RPN): where in the image might any object be?

Letters in shapes: N images, A anchors of an image, K anchors of a cell.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.core.config import Config
from whytransfer.core.streams import Stream
from whytransfer.transfer.parts.anchors import cell_anchors, cells_within, grid_anchors
from whytransfer.transfer.parts.assignment import assign, sample
from whytransfer.transfer.parts.box_coding import decode, encode, full_precision

_WEIGHTS = (1.0, 1.0, 1.0, 1.0)

Size = tuple[int, int]
"""Height and width of an image in pixels, padding left out."""


class ProposalConfig(Config):
    """The proposal network's settings; the defaults are detectron2's for C4.

    Attributes:
        sizes_px: Square roots of the anchors' areas.
        ratios: Their heights over widths.
        positive_iou: Anchors that overlap an object at least this much are positive.
        negative_iou: Anchors that overlap all objects less are negative; between, ignored.
        sampled: Anchors per image that the loss looks at.
        positive_fraction: At most this share of them is positive.
        nms_iou: A proposal that overlaps a better one more than this is dropped.
        candidates_train, candidates_test: Best anchors per image that enter that suppression.
        proposals_train, proposals_test: Proposals per image that come out of it.
        min_side_px: Proposals must be wider and higher than this.
        init_std: Of the normal weights of all three layers; biases start at 0.

    Source: detectron2 config/defaults.py and Base-RCNN-C4.yaml @02b5c4e.
    """

    sizes_px: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    sampled: int = 256
    positive_fraction: float = 0.5
    nms_iou: float = 0.7
    candidates_train: int = 12000
    candidates_test: int = 6000
    proposals_train: int = 2000
    proposals_test: int = 1000
    min_side_px: float = 0.0
    init_std: float = 0.01


class ProposalNetwork(nn.Module):
    """A 3x3 convolution with ReLU, then objectness and box deltas for every anchor.

    Args:
        channels: Of the features it reads.
        stride_px: Image pixels per cell of these features.
        config: All its settings.

    Source: Ren et al. 2015, section 3.1; detectron2 rpn.py @02b5c4e.
    """

    cells: Tensor

    def __init__(self, channels: int, stride_px: int, config: ProposalConfig) -> None:
        super().__init__()
        self.config, self.stride_px = config, stride_px
        cells = cell_anchors(config.sizes_px, config.ratios)
        self.register_buffer("cells", cells, persistent=False)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, len(cells), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(cells), 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=config.init_std)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns objectness logits (N, A) and deltas (N, A, 4), in the order of the anchors."""
        hidden = F.relu(self.conv(features))
        logits = self.objectness(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        return full_precision(logits), full_precision(deltas)

    def anchors(self, features: Tensor) -> Tensor:
        """Returns the anchors of these features, (A, 4)."""
        height, width = features.shape[-2:]
        anchors = grid_anchors(self.cells, height, width, self.stride_px)
        return anchors.to(torch.promote_types(features.dtype, torch.float32))

    def within(self, features: Tensor, sizes_px: Sequence[Size], together: int | None) -> Tensor:
        """Says which anchors lie in the padding that an image has in the reference: (N, A).

        Args:
            features: The map of the whole batch.
            sizes_px: Of the images.
            together: Consecutive images that are padded to the largest of them alone, as on one
                GPU of the reference; ``None`` for all of the batch, which makes every anchor one.
        """
        height, width = features.shape[-2:]
        groups = range(0, len(sizes_px), together or len(sizes_px))
        members = [sizes_px[start : start + groups.step] for start in groups]
        cells = [
            cells_within((max(h for h, _ in group), max(w for _, w in group)), height, width,
                         self.stride_px)
            for group in members for _ in group
        ]  # fmt: skip
        inside = torch.stack(cells).repeat_interleave(len(self.cells), dim=1)
        return inside.to(features.device)

    @torch.no_grad()
    def propose(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        sizes_px: Sequence[Size],
        within: Tensor | None = None,
    ) -> list[Tensor]:
        """Returns the proposals of each image, (P, 4), best first.

        The best anchors by logit are decoded, clipped to the image, and freed of near-duplicates.

        Args:
            logits: (N, A).
            deltas: (N, A, 4).
            anchors: (A, 4).
            sizes_px: Of the images.
            within: (N, A) anchors that an image has; all where left out.

        Differs: equal logits keep the order of the anchors; the original leaves it open.
        """
        from torchvision.ops import clip_boxes_to_image

        limits = (self.config.candidates_test, self.config.proposals_test)
        if self.training:
            limits = (self.config.candidates_train, self.config.proposals_train)
        if within is not None:
            logits = logits.masked_fill(~within, -torch.inf)
        scores, order = logits.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, : limits[0]], order[:, : limits[0]]
        chosen = deltas.gather(1, order[..., None].expand(-1, -1, 4))
        boxes = decode(chosen, anchors[order], _WEIGHTS)
        return [
            self._suppress(clip_boxes_to_image(boxes[n], size), scores[n])[: limits[1]]
            for n, size in enumerate(sizes_px)
        ]

    def _suppress(self, boxes_xyxy: Tensor, scores: Tensor) -> Tensor:
        from torchvision.ops import nms

        sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        kept = (sides > self.config.min_side_px).all(dim=1) & (scores > -torch.inf)
        boxes_xyxy, scores = boxes_xyxy[kept], scores[kept]
        return boxes_xyxy[nms(boxes_xyxy, scores, self.config.nms_iou)]

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        truth_xyxy: Sequence[Tensor],
        streams: Sequence[Stream],
        within: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns ``loss_objectness`` (cross entropy) and ``loss_proposal_boxes`` (L1).

        Both are sums over the sampled anchors, divided by the number asked for (not drawn) in all
        images: ``sampled * N``.

        Args:
            logits: (N, A).
            deltas: (N, A, 4).
            anchors: (A, 4).
            truth_xyxy: Each image's objects, (G, 4).
            streams: Each image's stream, for the sampling.
            within: (N, A) anchors that an image has; all where left out.
        """
        if within is None:
            within = torch.ones_like(logits, dtype=torch.bool)
        positives, negatives, targets = self._targets(anchors, truth_xyxy, streams, within)
        sampled = torch.cat([positives, negatives])
        is_object = logits.new_zeros(len(sampled))
        is_object[: len(positives)] = 1.0
        share = 1.0 / (self.config.sampled * len(logits))
        objectness = F.binary_cross_entropy_with_logits(
            logits.flatten()[sampled], is_object, reduction="sum"
        )
        boxes = F.l1_loss(deltas.reshape(-1, 4)[positives], targets, reduction="sum")
        return {"loss_objectness": objectness * share, "loss_proposal_boxes": boxes * share}

    @torch.no_grad()
    def _targets(
        self,
        anchors: Tensor,
        truth_xyxy: Sequence[Tensor],
        streams: Sequence[Stream],
        within: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns sampled rows of all (N * A) anchors, positive and negative, and deltas."""
        config, rows, targets = self.config, [], []
        for n, (truth, stream) in enumerate(zip(truth_xyxy, streams, strict=True)):
            own = torch.nonzero(within[n]).squeeze(1)
            assignment = assign(
                truth,
                anchors[own],
                negative_below=config.negative_iou,
                positive_from=config.positive_iou,
                rescue=True,
            )
            drawn = sample(
                assignment.role.cpu().numpy(), config.sampled, config.positive_fraction, stream
            )
            positive, negative = (torch.from_numpy(d).to(anchors.device) for d in drawn)
            rows.append((own[positive] + n * len(anchors), own[negative] + n * len(anchors)))
            if len(positive):
                found = truth[assignment.truth[positive]]
                targets.append(encode(found, anchors[own[positive]], _WEIGHTS))
        positives, negatives = (torch.cat(part) for part in zip(*rows, strict=True))
        return positives, negatives, torch.cat(targets) if targets else anchors[:0]
