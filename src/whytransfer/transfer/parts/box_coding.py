"""The code of one box relative to another: shift of the centre, log of the change of size."""

import math

import torch
from torch import Tensor

LOG_SCALE_CLAMP = math.log(1000.0 / 16.0)
"""The largest log-change of size that is decoded: a 16 px box becomes at most 1000 px."""

Weights = tuple[float, float, float, float]
"""Factors on (dx, dy, dw, dh)."""


def encode(boxes_xyxy: Tensor, anchors_xyxy: Tensor, weights: Weights) -> Tensor:
    """Returns the deltas (dx, dy, dw, dh) that turn anchors into boxes; both are (..., 4).

    Source: Girshick et al. 2014, appendix C; detectron2 box_regression.py @02b5c4e.
    """
    centre, size = _centre_and_size(boxes_xyxy)
    anchor_centre, anchor_size = _centre_and_size(anchors_xyxy)
    deltas = torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=-1)
    return deltas * deltas.new_tensor(weights)


def decode(deltas: Tensor, anchors_xyxy: Tensor, weights: Weights) -> Tensor:
    """Returns the boxes that deltas make of anchors, shape (..., 4) with broadcasting.

    The logs of the change of size are clamped from above, so that an early, wild network can't
    overflow.
    """
    anchor_centre, anchor_size = _centre_and_size(anchors_xyxy)
    scaled = deltas / deltas.new_tensor(weights)
    shift, log_scale = scaled[..., :2], scaled[..., 2:]
    centre = anchor_centre + shift * anchor_size
    half = anchor_size * log_scale.clamp(max=LOG_SCALE_CLAMP).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def full_precision(values: Tensor) -> Tensor:
    """Returns a network's output in float32, or in float64 where it has that.

    Boxes and scores are computed so whatever the network computes in.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _centre_and_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low = boxes_xyxy[..., :2]
    size = boxes_xyxy[..., 2:] - low
    return low + size / 2, size
