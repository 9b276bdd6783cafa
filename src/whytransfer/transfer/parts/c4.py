"""The C4 detector (Faster or Mask R-CNN): a map gives proposals, the last stage reads regions.

In ResNet's own names: ``layer3`` makes the map (stride 16), ``layer4`` reads the pooled regions.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config
from whytransfer.core.errors import InputError
from whytransfer.train.learner import Context
from whytransfer.train.norm import convert_groups, regions_of
from whytransfer.transfer.parts.frozen import frozen_modules
from whytransfer.transfer.parts.mask_head import MaskConfig, MaskHead
from whytransfer.transfer.parts.proposals import ProposalConfig, ProposalNetwork, Size
from whytransfer.transfer.parts.regions import (
    BoxPredictor,
    Found,
    RegionConfig,
    Regions,
    sample_regions,
)
from whytransfer.transfer.parts.scenes import SceneBatch, alike
from whytransfer.transfer.parts.stages import C4, require_levels

_MAP, _HEAD = C4


class C4Config(Config):
    """The detector's settings.

    Attributes:
        proposals: Of the proposal network.
        regions: Of the region head.
        masks: Of the mask head; ``None`` for boxes alone.
        bn_group_size: Images whose statistics a BatchNorm in training shares; ``None`` is all of
            a batch, which is what synchronised BatchNorm computes on any number of GPUs. Regions
            keep the group of their image.
        frozen_levels: This many levels, the stem being the first, keep their weights and use
            their running statistics: detectron2's ``FREEZE_AT``, 2 by its own default, 0 by MoCo's.
        frozen_norms: All BatchNorm of the backbone keeps its scale, shift and running statistics,
            and uses them: detectron2's ``FrozenBN``, its own default.
        padded_together: Consecutive images that one GPU of the reference pads to a common size.
            In training, anchors beyond that size are left out, as if the rest of the batch were
            elsewhere; ``None`` keeps them all. In a test every image has its own anchors only.

    Source: moco detection/configs/Base-RCNN-C4-BN.yaml @132aea9 (synchronised, nothing frozen);
        detectron2 config/defaults.py and modeling/backbone/resnet.py ``freeze`` @02b5c4e.
    """

    proposals: ProposalConfig = ProposalConfig()
    regions: RegionConfig = RegionConfig()
    masks: MaskConfig | None = None
    bn_group_size: int | None = None
    frozen_levels: int = Field(default=0, ge=0, le=5)
    frozen_norms: bool = False
    padded_together: PositiveInt | None = 2


class C4Detector(nn.Module):
    """A Faster R-CNN, or with masks a Mask R-CNN, on stage 4 of a ResNet.

    Sampling draws from streams named by step and image, so it depends neither on the number of
    processes nor on the other images of the batch.

    Args:
        backbone: Fine-tuned in place.
        num_classes: C; background comes on top.
        config: All its settings.

    Raises:
        InputError: The backbone lacks one of the two stages.

    Source: Ren et al. 2015; He et al. 2017; detectron2 Base-RCNN-C4.yaml and roi_heads.py
        @02b5c4e, ``Res5ROIHeads``; moco detection/train_net.py @132aea9 (BatchNorm after the last
        stage).
    """

    def __init__(self, backbone: Backbone, num_classes: int, config: C4Config) -> None:
        super().__init__()
        self.backbone, self.num_classes, self.config = backbone, num_classes, config
        require_levels(backbone, C4, "a C4 detector")
        level, head = backbone.level(_MAP), backbone.level(_HEAD)
        self.stride_px = level.stride
        self.proposals = ProposalNetwork(level.channels, level.stride, config.proposals)
        has_norm = config.regions.extra_norm
        self.extra_norm = nn.BatchNorm2d(head.channels) if has_norm else nn.Identity()
        self.predictor = BoxPredictor(head.channels, num_classes, config.regions)
        self.mask_head = None
        if config.masks is not None:
            self.mask_head = MaskHead(head.channels, num_classes, config.masks)
        convert_groups(self, config.bn_group_size)
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "C4Detector":
        """Sets the mode of everything but the frozen levels, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def loss(self, batch: SceneBatch, context: Context) -> dict[str, Tensor]:
        """Returns the losses of a batch, four or with masks five, and under ``loss`` their sum."""
        batch = alike(batch, context)
        features = self._features(batch)
        logits, deltas = self.proposals(features)
        anchors = self.proposals.anchors(features)
        truth = [boxes.to(anchors) for boxes in batch.boxes_xyxy]
        labels = [label.to(self._device) for label in batch.labels]
        within = self.proposals.within(features, batch.sizes_px, self.config.padded_together)
        streams = [context.stream("anchors", index) for index in batch.indices]
        losses = self.proposals.losses(logits, deltas, anchors, truth, streams, within)
        proposals = self.proposals.propose(logits, deltas, anchors, batch.sizes_px, within)
        regions = self._sample(proposals, truth, labels, batch.indices, context)
        read = self._read(features, [r.boxes_xyxy for r in regions])
        losses |= self.predictor.losses(*self._boxes(read), regions, context.average)
        if self.mask_head is not None:
            losses["loss_masks"] = self._mask_loss(read, regions, batch, context)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def after_step(self) -> None:
        """Nothing is left to do after an optimiser step."""

    @torch.no_grad()
    def detect(self, batch: SceneBatch) -> list[Found]:
        """Returns each image's detections, boxes in pixels of its original size.

        Raises:
            InputError: The network's outputs are not numbers.
        """
        features = self._features(batch)
        logits, deltas = self.proposals(features)
        anchors = self.proposals.anchors(features)
        within = self.proposals.within(features, batch.sizes_px, together=1)
        proposals = self.proposals.propose(logits, deltas, anchors, batch.sizes_px, within)
        class_logits, box_deltas = self._boxes(self._read(features, proposals))
        _require_finite(batch.indices, logits, deltas, class_logits, box_deltas)
        counts = [len(boxes) for boxes in proposals]
        split = torch.split(class_logits, counts), torch.split(box_deltas, counts)
        found = [
            self.predictor.detections(scores, deltas, boxes, size)
            for scores, deltas, boxes, size in zip(*split, proposals, batch.sizes_px, strict=True)
        ]
        sizes = list(zip(batch.sizes_px, batch.originals, strict=True))
        if self.mask_head is None:
            return [_at_size(image, *size)[0] for image, size in zip(found, sizes, strict=True)]
        return self._with_masks(self.mask_head, features, found, sizes)

    def _with_masks(
        self,
        head: MaskHead,
        features: Tensor,
        found: Sequence[Found],
        sizes: Sequence[tuple[Size, Size]],
    ) -> list[Found]:
        """Reads the features of the final boxes and adds a mask to each; at the original sizes."""
        read = self._read(features, [image.boxes_xyxy for image in found])
        logits = head(read, torch.cat([image.labels for image in found]))
        result = []
        parts = torch.split(logits, [len(image.labels) for image in found])
        for image, own, (size, original) in zip(found, parts, sizes, strict=True):
            scaled, kept = _at_size(image, size, original)
            masks = head.paste(own[kept], scaled.boxes_xyxy, original)
            result.append(replace(scaled, masks=masks))
        return result

    def _mask_loss(
        self, read: Tensor, regions: Sequence[Regions], batch: SceneBatch, context: Context
    ) -> Tensor:
        """Returns the loss of the foreground regions' masks, from features that are there."""
        foreground = torch.cat([r.labels for r in regions]) < self.num_classes
        boxes = torch.cat([r.boxes_xyxy for r in regions])[foreground]
        labels = torch.cat([r.labels for r in regions])[foreground]
        shapes = []
        for of_image, own in zip(regions, batch.shapes, strict=True):
            assert of_image.objects is not None
            shapes += [own[row] for row in of_image.objects.tolist()]
        assert self.mask_head is not None
        return self.mask_head.loss(read[foreground], labels, shapes, boxes, context.average)

    def _sample(
        self,
        proposals: Sequence[Tensor],
        truth: Sequence[Tensor],
        labels: Sequence[Tensor],
        indices: Sequence[int],
        context: Context,
    ) -> list[Regions]:
        """Draws the regions of each image from a stream of its own."""
        config = self.config.regions
        images = zip(proposals, truth, labels, indices, strict=True)
        return [
            sample_regions(
                boxes, objects, classes, self.num_classes, config, context.stream("regions", index)
            )
            for boxes, objects, classes, index in images
        ]

    def _features(self, batch: SceneBatch) -> Tensor:
        """Returns the map of a batch; padding enters as zeros, the mean colour."""
        images = self.backbone.preprocessing.normalise(batch.images.to(self._device))
        for image, (height, width) in zip(images, batch.sizes_px, strict=True):
            image[:, height:] = 0.0
            image[:, :, width:] = 0.0
        return self.backbone.features(images, upto=_MAP)

    def _boxes(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Returns class logits (R, C + 1) and deltas (R, C, 4) of what was read of regions."""
        result: tuple[Tensor, Tensor] = self.predictor(read.mean(dim=(2, 3)))
        return result

    def _read(self, features: Tensor, boxes_xyxy: Sequence[Tensor]) -> Tensor:
        """Returns what last stage and norm make of regions, (R, channels, P / 2, P / 2)."""
        from torchvision.ops import roi_align

        config = self.config.regions
        pooled = roi_align(
            features,
            [boxes.to(torch.promote_types(boxes.dtype, features.dtype)) for boxes in boxes_xyxy],
            config.pooled,
            spatial_scale=1.0 / self.stride_px,
            sampling_ratio=config.sampling_ratio,
            aligned=config.aligned,
        )
        with regions_of(self, [len(boxes) for boxes in boxes_xyxy]):
            read: Tensor = self.extra_norm(self.backbone.run(pooled, after=_MAP, upto=_HEAD))
        return read

    def _frozen(self) -> list[nn.Module]:
        modules = frozen_modules(self.backbone, self.config.frozen_levels)
        if self.config.frozen_norms:
            inside = self.backbone.net.modules()
            modules += [module for module in inside if isinstance(module, nn.BatchNorm2d)]
        return modules

    @property
    def _device(self) -> torch.device:
        return self.predictor.classes.weight.device


def _require_finite(indices: Sequence[int], *outputs: Tensor) -> None:
    """What is not a number would be dropped on the way, and the image look empty."""
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        raise InputError(
            f"test images {', '.join(map(str, indices))}",
            "the detector's scores or boxes are not finite",
            "finite numbers",
            "the model diverged: lower its learning rate",
        )


def _at_size(found: Found, size: Size, original: Size) -> tuple[Found, Tensor]:
    """Scales boxes from the resized image to the original one and drops those without area.

    Returns:
        What is left, and (D,) which of the detections that is.
    """
    scale = found.boxes_xyxy.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
    limit = found.boxes_xyxy.new_tensor([original[1], original[0]] * 2)
    boxes = torch.minimum(found.boxes_xyxy * scale, limit)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return Found(boxes[kept], found.scores[kept], found.labels[kept]), kept
