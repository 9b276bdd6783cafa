"""How large is an object? Bands of area, within its class or by COCO's ranges.

Letters: C classes, N areas, Z bands.

``percentiles``: Hoiem's five, within each class of the truth: the smallest tenth is extra small,
the next fifth small, then two fifths medium, a fifth large, a tenth extra large. They compare
across data sets and classes, since a small bus is a large bird. ``coco``: up to 32² pixels is
small, up to 96² medium, more is large, whatever the class; they compare with COCO's APs, APm, APl.

Source: Hoiem, Chodpathumwan, Dai 2012, section 4.1; pycocotools 2.0 cocoeval.py, ``areaRng``.
Differs: an object on the edge of two bands belongs to the smaller one (COCO: to both).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whytransfer.ops.detections import Truth

Sizes = Literal["percentiles", "coco"]

_PERCENTILES = {"extra small": 10, "small": 30, "medium": 70, "large": 90, "extra large": 100}
_COCO = {"small": 32.0**2, "medium": 96.0**2, "large": np.inf}


@dataclass(frozen=True)
class Bands:
    """The bands of each class, the smallest first.

    Attributes:
        names: (Z,) of the bands.
        edges: (C, Z - 1) areas in pixels² up to which a band reaches, ascending.
    """

    names: tuple[str, ...]
    edges: NDArray[np.float64]

    def of(self, area: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the band of each area in its class, (N,) in [0, Z)."""
        band: NDArray[np.int64] = (area[:, None] > self.edges[label]).sum(axis=1)
        return band


def bands(truth: Truth, sizes: Sizes) -> Bands:
    """Returns the bands for a truth; a class without an object has all in the first one."""
    num_classes = len(truth.classes)
    if sizes == "coco":
        edges = np.tile(list(_COCO.values())[:-1], (num_classes, 1))
        return Bands(tuple(_COCO), edges)
    edges = np.full((num_classes, len(_PERCENTILES) - 1), np.inf)
    normal = ~(truth.difficult | truth.crowd)
    for label in np.unique(truth.label[normal]):
        own = truth.area[normal & (truth.label == label)]
        edges[label] = np.percentile(own, list(_PERCENTILES.values())[:-1])
    return Bands(tuple(_PERCENTILES), edges)
