"""The reference's way of making views: PIL decodes, torchvision transforms PIL images."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter
from torch.utils.data import Dataset
from torchvision import transforms as T


class Files(Dataset[Any]):
    """JPEG files, each decoded by PIL and transformed."""

    def __init__(self, paths: Iterable[Path], transform: Callable[[Image.Image], Any]) -> None:
        self.paths = sorted(paths)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image)


class PilBlur:
    """Gaussian blur whose radius is drawn anew for every image."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def two_views(size_px: int) -> Callable[[Image.Image], Any]:
    """Returns MoCo v2's augmentation of one image, twice: (3, size, size) float32 each."""
    chain = T.Compose(
        [
            T.RandomResizedCrop(size_px, scale=(0.2, 1.0)),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomApply([PilBlur()], p=0.5),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return lambda image: (chain(image), chain(image))
