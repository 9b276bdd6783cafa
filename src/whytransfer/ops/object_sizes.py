"""How large is an object? Bands of area, within its class or by COCO's ranges.

Letters: C classes, N areas, Z bands.

``percentiles``: Hoiem's five, of the areas of boxes within each class of the truth: the smallest
tenth is extra small, the next fifth small, then two fifths medium, a fifth large, a tenth extra
large. They compare across data sets and classes, since a small bus is a large bird. A band reaches
up to the area of the object that stands at its share of the class, rounded. ``coco``: up to 32²
pixels is small, up to 96² medium, more is large, whatever the class, of the areas that the truth
gives; they compare with COCO's APs, APm, APl.

Source: Hoiem, Chodpathumwan, Dai 2012, section 4.1, and analyzeTrueDetections of its code;
pycocotools 2.0 cocoeval.py, ``areaRng``.
Differs: a class of fewer than five objects has no extra small one (the original stops with an
error). An object on the edge of two of COCO's ranges belongs to the smaller one (COCO: to both).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Truth

Sizes = Literal["percentiles", "coco"]

_SHARES = {"extra small": 0.1, "small": 0.3, "medium": 0.7, "large": 0.9, "extra large": 1.0}
_COCO = {"small": 32.0**2, "medium": 96.0**2, "large": np.inf}


@dataclass(frozen=True)
class Bands:
    """The bands of each class, the smallest first.

    Attributes:
        names: (Z,) of the bands.
        edges: (C, Z - 1) areas in pixels² up to which a band reaches, ascending.
        objects: (G,) the band of each object of the truth.
    """

    names: tuple[str, ...]
    edges: NDArray[np.float64]
    objects: NDArray[np.int64]

    def of(self, area: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the band of each area in its class, (N,) in [0, Z)."""
        return _band(self.edges, area, label)


def bands(truth: Truth, sizes: Sizes) -> Bands:
    """Returns the bands for a truth; a class without an object has all in the first one."""
    num_classes = len(truth.classes)
    if sizes == "coco":
        edges = np.tile(list(_COCO.values())[:-1], (num_classes, 1))
        return Bands(tuple(_COCO), edges, _band(edges, truth.area, truth.label))
    edges = np.full((num_classes, len(_SHARES) - 1), np.inf)
    area = area_xyxy(truth.boxes_xyxy)
    normal = ~(truth.difficult | truth.crowd)
    for label in np.unique(truth.label[normal]):
        rising = np.sort(area[normal & (truth.label == label)])
        # Halves are rounded up; below the first object there is nothing.
        place = np.floor(np.array(list(_SHARES.values())[:-1]) * len(rising) + 0.5).astype(int)
        edges[label] = np.concatenate([[-np.inf], rising])[place]
    return Bands(tuple(_SHARES), edges, _band(edges, area, truth.label))


def _band(
    edges: NDArray[np.float64], area: NDArray[np.float64], label: NDArray[np.int64]
) -> NDArray[np.int64]:
    band: NDArray[np.int64] = (area[:, None] > edges[label]).sum(axis=1)
    return band
