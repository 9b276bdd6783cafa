"""Semantic segmentation as on Cityscapes: DeepLab-v3 at the paper's crop, length and learning rate.

Segmenter, views, test and score are those of ``semantic_segmentation``. Fixed by the paper are the
crops of 512 by 1024 pixels, 40k steps of 8 images (4 GPUs of 2, synchronised BatchNorm), learning
rate 0.01 with polynomial decay, and that all layers are trained. Whatever else is in the recipe is
mmsegmentation's, which has the same numbers, and marked as assumed; docs/protocols/segmentation.md
says what each choice is known to move.

Source: Zhao et al. 2021, section 3; mmsegmentation
    configs/deeplabv3/deeplabv3_r50-d8_512x1024_40k_cityscapes.py.
Differs: as ``semantic_segmentation``.
"""

from pydantic import PositiveFloat, PositiveInt

from whytransfer.transfer.parts.pixels import PixelViews
from whytransfer.transfer.tasks import semantic_segmentation
from whytransfer.transfer.tasks.semantic_segmentation import Task as Task


class CityscapesSgd(semantic_segmentation.SegmentationSgd):
    """The paper's learning rate."""

    lr: PositiveFloat = 0.01


class CityscapesTraining(semantic_segmentation.SegmentationTraining):
    """The paper's 40k steps of 8 images (4 GPUs of 2)."""

    steps: PositiveInt | None = 40000
    batch_size: PositiveInt = 8
    sgd: CityscapesSgd = CityscapesSgd()


class CityscapesViews(PixelViews):
    """The paper's crop."""

    crop_px: tuple[PositiveInt, PositiveInt] = (512, 1024)


class Config(semantic_segmentation.Config):
    """All settings of the recipe; those that are not here are ``semantic_segmentation``'s.

    Attributes:
        training: Steps, batch, optimiser and schedule.
        views: Crop, scales, flips and colours.
    """

    training: CityscapesTraining = CityscapesTraining()
    views: CityscapesViews = CityscapesViews()
