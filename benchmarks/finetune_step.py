"""How fast is a C4 detector's training step? Ours against torchvision's Faster R-CNN as a C4.

    python benchmarks/finetune_step.py --json
    python benchmarks/finetune_step.py --network resnet50 --rounds 3 --json

The peer is torchvision's stock ``FasterRCNN`` around the same network: the map of ``layer3`` with
an anchor generator of the same sizes, ``layer4`` and an average as its box head, its own sampler,
box coder, losses and RoI pooling (2×2 points in a cell, where ours takes as many as a cell covers),
its own normalisation of images; the numbers of anchors, proposals and regions are the same, and so
are images, boxes and SGD's settings. Both train all layers with BatchNorm over the batch, in
float32. Ours has the norm after ``layer4`` that the peer lacks, and runs in the library's own
training loop, logging and checks included.

``shares`` is where the time of our step goes, forward and backward: ``backbone`` to layer3;
``rpn``: its head, matching, sampling and losses; ``nms``: proposals out of its outputs;
``regions``: their matching and sampling; ``roi_align``; ``res5``: layer4; ``losses``: norm, mean,
linear layers and their losses; ``optimiser``; ``rest``: what is between them.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
from _interleaved import Apart, Rounds, merge, parser, rates, ratios, report
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.model import Backbone
from whytransfer.core.stage import Execution
from whytransfer.core.streams import Stream
from whytransfer.train.learner import Context
from whytransfer.train.loop import Run, fit
from whytransfer.train.optimiser import sgd
from whytransfer.transfer.parts.c4 import C4Config, C4Detector
from whytransfer.transfer.parts.proposals import ProposalNetwork
from whytransfer.transfer.parts.regions import BoxPredictor
from whytransfer.transfer.parts.scenes import Scene, SceneBatch, collate
from whytransfer.transfer.tasks.voc07_detection import DetectionTraining

WARM_UP, BATCH, SIZE, NUM_CLASSES, NUM_OBJECTS = 2, 2, (192, 256), 20, 4
SIZES_PX, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
ANCHORS, CANDIDATES, PROPOSALS, REGIONS, POOLED = 256, 2000, 300, 24, 14
WIDTH = 32  # half of the usual, for a CPU
CONFIG = {
    "proposals": {
        "sampled": ANCHORS, "candidates_train": CANDIDATES, "proposals_train": PROPOSALS,
    },
    "regions": {"sampled": REGIONS, "pooled": POOLED},
}  # fmt: skip
LR = 1e-4  # so that neither model diverges on noise


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    batch = _batch()
    peer = Apart(_stepping, options.network, batch)
    rounds = Rounds("ours", {"torchvision": peer}, WARM_UP)
    total = WARM_UP + options.rounds + 1
    training = DetectionTraining(steps=total, batch_size=BATCH, sgd={"lr": LR, "momentum": 0.9})

    def batches(first_step: int) -> Iterator[SceneBatch]:
        return rounds.around(iter([batch] * (total - first_step)))

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        how = Execution(device="cpu", progress=False)
        run = Run(
            work=place / "work", log=place / "log", execution=how, seed=0, steps_per_epoch=1,
            title="finetune_step",
        )  # fmt: skip
        fit(_ours(options.network), batches, training, run)
    result = merge(
        ratios(rounds.times, {"vs_torchvision": ("torchvision", "ours")}),
        {"images_per_second": rates(rounds.times, BATCH)},
        {"shares": _shares(options.network, batch)},
    )
    report({**result, "network": options.network, "rounds": options.rounds})


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=9)
    options.add_argument("--network", choices=["resnet18", "resnet50"], default="resnet18")
    return options.parse_args()


def _batch() -> SceneBatch:
    """Two pictures of noise in coarse squares, each with a few boxes."""
    height, width = SIZE
    scenes = []
    for index in range(BATCH):
        stream = Stream(0, "scene", index)
        squares = stream.integers(height // 16 * (width // 16) * 3, 256)
        grid = torch.from_numpy(squares.reshape(height // 16, width // 16, 3)).to(torch.uint8)
        image = grid.repeat_interleave(16, 0).repeat_interleave(16, 1)
        low = torch.from_numpy(stream.uniform(2 * NUM_OBJECTS, 0, 110).reshape(-1, 2))
        boxes = torch.cat([low, low + 30 + low.flip(0) * 0.4], dim=1).float()
        labels = torch.from_numpy(stream.integers(NUM_OBJECTS, NUM_CLASSES))
        scenes.append(Scene(image.contiguous(), boxes, labels, index, SIZE))
    return collate(scenes)


def _network(name: Any) -> Backbone:
    return build(Architecture(name=name, width=WIDTH), Stream(0, "backbone"))


def _ours(name: str) -> C4Detector:
    torch.manual_seed(0)
    model = C4Detector(_network(name), NUM_CLASSES, C4Config.model_validate(CONFIG))
    return model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


class _Map(nn.Module):
    """The network up to layer3, as torchvision wants a backbone."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        self.out_channels = network.level("layer3").channels

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images, upto="layer3")


class _Head(nn.Module):
    """layer4 and an average over space."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, pooled: Tensor) -> Tensor:
        found: Tensor = self.stage(pooled).mean(dim=(2, 3))
        return found


class _Peer(nn.Module):
    """torchvision's detector and an optimiser of the same settings as ours."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        network = _network(name)
        stage, network.net.layer4 = network.net.get_submodule("layer4"), nn.Identity()
        features = network.num_features
        self.detector = FasterRCNN(
            _Map(network),
            min_size=min(SIZE), max_size=max(SIZE),
            rpn_anchor_generator=AnchorGenerator((SIZES_PX,), (RATIOS,)),
            rpn_pre_nms_top_n_train=CANDIDATES, rpn_post_nms_top_n_train=PROPOSALS,
            rpn_batch_size_per_image=ANCHORS, box_batch_size_per_image=REGIONS,
            box_roi_pool=MultiScaleRoIAlign(["0"], POOLED, sampling_ratio=2),
            box_head=_Head(stage),
            box_predictor=torchvision.models.detection.faster_rcnn.FastRCNNPredictor(
                features, NUM_CLASSES + 1
            ),
        ).train()  # fmt: skip
        self.optimiser = torch.optim.SGD(
            self.detector.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4
        )


def _stepping(network: str, batch: SceneBatch) -> Callable[[], None]:
    peer = _Peer(network)
    images = [image.permute(2, 0, 1) for image in batch.images]
    targets = [
        {"boxes": boxes, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes_xyxy, batch.labels, strict=True)
    ]

    def step() -> None:
        losses = peer.detector([image.float() / 255 for image in images], targets)
        loss = torch.stack(list(losses.values())).sum()
        assert loss.isfinite()  # as our loop asks for every step
        peer.optimiser.zero_grad()
        loss.backward()
        peer.optimiser.step()

    return step


class _Clock:
    """Adds what has passed since the last mark to what it was spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.last = time.perf_counter()

    def mark(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now

    def around(self, part: str, work: Callable[..., Any], above: str = "") -> Callable[..., Any]:
        """Wraps a function; where its result's gradient is there, ``above`` has gone back."""

        def timed(*args: Any, **named: Any) -> Any:
            self.mark("rest")
            found = work(*args, **named)
            self.mark(part)
            first = found[0] if isinstance(found, tuple) else found
            if above:
                first.register_hook(lambda _grad: self.mark(above))
            return found

        return timed


def _shares(name: str, batch: SceneBatch) -> dict[str, float]:
    """Returns each part's share of our step.

    Autograd goes back in the order in which the parts came, so a part's own way back lies between
    the gradients of its output and of its input.
    """
    model, clock, steps = _ours(name), _Clock(), 4
    optimiser = sgd(model, DetectionTraining(batch_size=BATCH, sgd={"lr": LR}).sgd)
    parts = [
        (C4Detector, "_features", "backbone", "rpn"),
        (ProposalNetwork, "forward", "rpn", "roi_align"),
        (ProposalNetwork, "anchors", "rpn", ""), (ProposalNetwork, "within", "rpn", ""),
        (ProposalNetwork, "losses", "rpn", ""), (ProposalNetwork, "propose", "nms", ""),
        (C4Detector, "_sample", "regions", ""), (torchvision.ops, "roi_align", "roi_align", "res5"),
        (BoxPredictor, "forward", "losses", ""), (BoxPredictor, "losses", "losses", ""),
    ]  # fmt: skip
    with ExitStack() as stack:
        for owner, method, part, above in parts:
            timed = clock.around(part, getattr(owner, method), above)
            stack.enter_context(mock.patch.object(owner, method, timed))
        plain = Backbone.run
        stage = clock.around("res5", plain, "losses")
        stack.enter_context(mock.patch.object(Backbone, "run", _only_from_map(stage, plain)))
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                clock.seconds.clear()
            clock.mark("rest")
            loss = model.loss(batch, Context(step, 0, gather=lambda t: t))["loss"]
            optimiser.zero_grad()
            clock.mark("rest")
            loss.backward()
            clock.mark("backbone")
            optimiser.step()
            clock.mark("optimiser")
    total = sum(clock.seconds.values())
    return {part: round(seconds / total, 3) for part, seconds in sorted(clock.seconds.items())}


def _only_from_map(timed: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """The run from the images on is inside ``_features``, and timed there."""

    def run(self: Backbone, x: Tensor, after: str | None, upto: str) -> Any:
        return (plain if after is None else timed)(self, x, after=after, upto=upto)

    return run


if __name__ == "__main__":
    main()
