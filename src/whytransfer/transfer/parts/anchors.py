"""Anchors: the boxes that a proposal network starts from, one set at every cell of the features."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(sizes_px: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Returns the anchors of one cell, centred on (0, 0), as float64: (sizes * ratios, 4).

    Args:
        sizes_px: Square roots of the areas.
        ratios: Height over width; they change fastest.

    Source: detectron2 anchor_generator.py @02b5c4e, ``generate_cell_anchors``.
    Differs: torchvision's ``AnchorGenerator`` rounds the corners to whole pixels; these are exact.
    """
    size = torch.tensor(sizes_px, dtype=torch.float64)[:, None]
    ratio = torch.tensor(ratios, dtype=torch.float64)[None]
    width = (size / ratio.sqrt()).flatten()
    height = (size * ratio.sqrt()).flatten()
    return torch.stack([-width, -height, width, height], dim=1) / 2


def grid_anchors(cell_xyxy: Tensor, height: int, width: int, stride_px: int) -> Tensor:
    """Returns the anchors of all cells, float64: (height * width * len(cell_xyxy), 4).

    Cells run row by row, the first one centred on pixel (0, 0) (offset 0); the anchors of a cell
    change fastest, as in the flattened output of the proposal network.
    """
    device = cell_xyxy.device
    y = torch.arange(height, device=device, dtype=cell_xyxy.dtype) * stride_px
    x = torch.arange(width, device=device, dtype=cell_xyxy.dtype) * stride_px
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (centres + cell_xyxy).reshape(-1, 4)


def cells_within(size_px: tuple[int, int], height: int, width: int, stride_px: int) -> Tensor:
    """Says of each cell of a map whether it belongs to an image of that size: (height * width,).

    The image lies in the map's upper left corner; what is beyond it is padding.
    """
    rows = torch.arange(height) * stride_px < size_px[0]
    columns = torch.arange(width) * stride_px < size_px[1]
    return (rows[:, None] & columns).flatten()
