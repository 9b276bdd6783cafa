"""The mask head of a C4 detector: which pixels of each found box are the object?

It reads what the last stage and its norm made of a region (7x7 for a full-sized recipe), so in
training nothing is read twice.

Letters in shapes: R regions, C classes, M cells per side of a mask (14), D detections.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from whytransfer.core.config import Config
from whytransfer.data.masks import Polygons, RunLengths, Shape
from whytransfer.ops.masks import Masks, decode, encode, of_counts
from whytransfer.train.learner import Average, own_average
from whytransfer.transfer.parts.box_coding import full_precision
from whytransfer.transfer.parts.proposals import Size

_SMALLEST_SIDE_PX = 0.1


class MaskConfig(Config):
    """The mask head's settings; the defaults are detectron2's for C4.

    Attributes:
        channels: Between the two layers.
        init_std: Of the normal weights of the last layer; biases start at 0.
        threshold: Pixels at least as likely as this are the object's.

    Source: detectron2 config/defaults.py and Base-RCNN-C4.yaml @02b5c4e (no convolution before).
    """

    channels: int = 256
    init_std: float = 0.001
    threshold: float = 0.5


class MaskHead(nn.Module):
    """A 2x2 transposed convolution that doubles the cells, ReLU, and a mask for every class.

    Args:
        channels: Of the regions' features.
        num_classes: C.
        config: Its settings.

    Source: He et al. 2017, figure 4 left; detectron2 mask_head.py @02b5c4e,
        ``MaskRCNNConvUpsampleHead``.
    """

    def __init__(self, channels: int, num_classes: int, config: MaskConfig) -> None:
        super().__init__()
        self.config = config
        self.up = nn.ConvTranspose2d(channels, config.channels, 2, stride=2)
        self.masks = nn.Conv2d(config.channels, num_classes, 1)
        nn.init.kaiming_normal_(self.up.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.masks.weight, std=config.init_std)
        for layer in (self.up, self.masks):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the logits of each region's own class, (R, M, M).

        Args:
            features: (R, channels, M / 2, M / 2).
            labels: (R,) classes.
        """
        logits = self.masks(F.relu(self.up(features)))
        own: Tensor = logits[torch.arange(len(labels), device=labels.device), labels]
        return full_precision(own)

    def loss(
        self,
        features: Tensor,
        labels: Tensor,
        shapes: Sequence[Shape],
        boxes_xyxy: Tensor,
        average: Average = own_average,
    ) -> Tensor:
        """Returns the mean cross entropy of all cells of all foreground regions; 0 without any.

        Args:
            features: (R, channels, M / 2, M / 2) of the foreground regions.
            labels: (R,) the classes of the objects they show.
            shapes: (R,) those objects' masks.
            boxes_xyxy: (R, 4) the regions.
            average: How to divide by a number of cells, where other processes have more of them.
        """
        logits: Tensor = self(features, labels)
        target = targets(shapes, boxes_xyxy, logits.shape[-1]).to(logits)
        total = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return average(total, logits.numel())

    def paste(self, logits: Tensor, boxes_xyxy: Tensor, size: Size) -> Masks:
        """Returns the masks of one image's detections as run lengths.

        Args:
            logits: (D, M, M) of their own classes.
            boxes_xyxy: (D, 4) in pixels of the image.
            size: Of the image.
        """
        return encode(pasted(logits.sigmoid(), boxes_xyxy, size, self.config.threshold))


@torch.no_grad()
def targets(shapes: Sequence[Shape], boxes_xyxy: Tensor, side: int) -> Tensor:
    """Crops each region's mask to its box, (R, side, side) bool.

    Polygons are moved and scaled with the box, then drawn; masks of pixels are averaged over each
    cell (bilinear, aligned by half a pixel) and cut at one half.

    Args:
        shapes: (R,) masks, one for every region; those of one object may be the same one.
        boxes_xyxy: (R, 4) in the pixels of the masks' images.
        side: Cells per side.

    Source: detectron2 structures/masks.py @02b5c4e, ``PolygonMasks.crop_and_resize`` with
        ``rasterize_polygons_within_box``, and ``BitMasks.crop_and_resize``.
    """
    found = torch.zeros(len(shapes), side, side, dtype=torch.bool)
    boxes = boxes_xyxy.detach().cpu()
    drawn = [row for row, shape in enumerate(shapes) if isinstance(shape, Polygons)]
    polygons = [shape for shape in shapes if isinstance(shape, Polygons)]
    cells = _drawn(polygons, boxes[drawn].double().numpy(), side)
    found[drawn] = torch.from_numpy(cells)
    for row, shape in enumerate(shapes):
        if isinstance(shape, RunLengths):
            found[row] = _averaged(shape, boxes[row], side)
    return found


def _drawn(
    shapes: Sequence[Polygons], boxes_xyxy: NDArray[np.float64], side: int
) -> NDArray[np.bool_]:
    """Draws all polygons of all regions at once, each in its own box."""
    corner = boxes_xyxy[:, None, :2]
    scale = side / np.maximum(boxes_xyxy[:, None, 2:] - corner, _SMALLEST_SIDE_PX)
    rows = [row for row, shape in enumerate(shapes) for _ in shape.parts]
    parts = [
        ((part - corner[row]) * scale[row]).ravel()
        for row, shape in enumerate(shapes)
        for part in shape.parts
    ]
    cells = np.zeros((len(shapes), side, side), dtype=np.bool_)
    if not parts:
        return cells
    from faster_coco_eval.core import mask as coco

    rles = coco.frPyObjects([part.tolist() for part in parts], side, side)
    counts = of_counts([rle["counts"] for rle in rles], [(side, side)] * len(rles))
    np.logical_or.at(cells, rows, decode(counts))
    return cells


def _averaged(shape: RunLengths, box_xyxy: Tensor, side: int) -> Tensor:
    from torchvision.ops import roi_align

    pixels = torch.from_numpy(shape.pixels()).float()[None, None]
    cells: Tensor = roi_align(pixels, [box_xyxy[None].float()], side, 1.0, 0, True)[0, 0]
    return cells >= 0.5


@torch.no_grad()
def pasted(
    probabilities: Tensor, boxes_xyxy: Tensor, size: Size, threshold: float
) -> NDArray[np.bool_]:
    """Draws square masks into their boxes in an image, (D, H, W).

    A pixel takes the bilinear value at its centre, with nothing beyond the square's edge.

    Args:
        probabilities: (D, M, M) in [0, 1].
        boxes_xyxy: (D, 4) in pixels of the image.
        size: Of the image.
        threshold: Pixels with at least this value are set.

    Source: detectron2 layers/mask_ops.py @02b5c4e, ``_do_paste_mask``.
    """
    height, width = size
    found = np.zeros((len(boxes_xyxy), height, width), dtype=np.bool_)
    for canvas, square, box in zip(found, probabilities.float(), boxes_xyxy.float(), strict=True):
        # As there on a CPU: only the box and one pixel around it are looked at.
        x0, y0 = (int(v) for v in (box[:2].floor() - 1).clamp(min=0))
        x1, y1 = min(int(box[2].ceil()) + 1, width), min(int(box[3].ceil()) + 1, height)
        x = torch.arange(x0, x1, device=box.device, dtype=torch.float32) + 0.5
        y = torch.arange(y0, y1, device=box.device, dtype=torch.float32) + 0.5
        x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (y - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        values = F.grid_sample(square[None, None], grid[None], align_corners=False)[0, 0]
        canvas[y0:y1, x0:x1] = (values >= threshold).cpu().numpy()
    return found
