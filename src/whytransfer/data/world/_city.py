"""Turns a picture of a street into one of Cityscapes': its label ids, its objects, its voids.

The camera of Cityscapes stands in a car whose bonnet is to be seen, and its pictures are rectified:
some pixels at the rim show nothing. Both are void, as are the pixels that a score leaves out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.world._street import CLASSES

LABEL_IDS = {
    "road": 7, "lane marking": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13,
    "pole": 17, "traffic light": 19, "traffic sign": 20, "vegetation": 21, "sky": 23,
    "pedestrian": 24, "rider": 25, "car": 26, "bus": 28, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""The streets' classes with their label ids in Cityscapes."""

EGO_VEHICLE, RECTIFICATION_BORDER, OUT_OF_ROI = 1, 2, 3
"""Label ids of the bonnet, of the upper rim and of the others."""

TRAIN_CITIES = ("altstadt", "bergheim", "talbruck")
VAL_CITIES = ("neustadt", "seeburg")

FIRST_TRAIN_STREET = 1 << 20
"""Streets count from here: pictures for pretraining on streets show others."""

INSTANCES_PER_LABEL = 1000
"""A pixel of an object is its label id times this, plus the object's number."""

_RIM_SHARE = 128  # of the width
_BONNET_RADII = (0.46, 0.22)  # by the width, by the height
_BONNET_BELOW = 0.1  # by the height
_PAINT = (38.0, 40.0, 46.0)


@dataclass(frozen=True)
class CityPicture:
    """A picture as Cityscapes has it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label_ids: (H, W) uint8.
        instance_ids: (H, W) uint16: label id · 1000 + object where there is one, else label id.
    """

    image: NDArray[np.uint8]
    label_ids: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16]


def frame_name(number: int, cities: tuple[str, ...]) -> str:
    """Returns ``CITY/CITY_SEQUENCE_FRAME`` of a picture; the cities take turns."""
    city = cities[number % len(cities)]
    return f"{city}/{city}_000000_{number:06d}"


def as_cityscapes(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], instances: NDArray[np.uint16]
) -> CityPicture:
    """Renumbers a rendered street and lays bonnet and rim over it.

    Args:
        image: (H, W, 3), RGB; a new one is returned.
        labels: (H, W) numbers of the streets' classes.
        instances: (H, W) number of the object, 0 for none.
    """
    table = np.zeros(256, dtype=np.uint8)
    for name, number in CLASSES.items():
        table[number] = LABEL_IDS[name]
    label_ids, image, instances = table[labels], image.copy(), instances.copy()
    for mask, label, shade in _voids(labels.shape):
        label_ids[mask], instances[mask] = label, 0
        image[mask] = (np.asarray(_PAINT) * shade[mask][:, None]).astype(np.uint8)
    instance_ids = label_ids.astype(np.uint16)
    for label in np.unique(label_ids[instances > 0]).tolist():
        numbers = np.unique(instances[(label_ids == label) & (instances > 0)])
        for place, number in enumerate(numbers.tolist()):
            instance_ids[instances == number] = label * INSTANCES_PER_LABEL + place
    return CityPicture(image, label_ids, instance_ids)


def _voids(
    size: tuple[int, ...],
) -> tuple[tuple[NDArray[np.bool_], int, NDArray[np.float64]], ...]:
    """Returns where the bonnet and the rims are, their labels, and how bright each pixel is."""
    height, width = size
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / width)[None, :]
    across, up = (x - 0.5) / _BONNET_RADII[0], (1.0 + _BONNET_BELOW - y) / _BONNET_RADII[1]
    inside = across * across + up * up
    rim = max(1, width // _RIM_SHARE)
    sides = np.zeros(size, dtype=np.bool_)
    sides[:, :rim] = sides[:, -rim:] = sides[-rim:] = True
    top = np.zeros(size, dtype=np.bool_)
    top[:rim] = True
    dark = np.zeros(size)
    return (
        (inside < 1.0, EGO_VEHICLE, 0.6 + 0.9 * inside),
        (top, RECTIFICATION_BORDER, dark),
        (sides, OUT_OF_ROI, dark),
    )
