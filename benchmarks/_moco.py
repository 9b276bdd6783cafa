"""MoCo v2 as three libraries train it: ours, the reference's way written plainly, and lightly's."""

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from whytransfer.backbone.build import build as build_backbone
from whytransfer.core.stage import Execution
from whytransfer.pretrain import stage
from whytransfer.pretrain.learner import Pretext
from whytransfer.pretrain.method import Setting, ViewBatch
from whytransfer.pretrain.methods import moco_v2
from whytransfer.train.loop import Run, fit
from whytransfer.train.norm import convert_groups

TEMPERATURE, MOMENTUM, DIMS, LR, SGD_MOMENTUM, DECAY = 0.2, 0.999, 128, 0.03, 0.9, 1e-4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIGHTLY_EPOCHS = 10
LIGHTLY_ABSENT = (
    "lightly is not installed: `uv pip install --constraint constraints.txt lightly` (or pip)"
)

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: As the ratios begin.
        network: torchvision's name.
        size_px: Side of a view.
        batch_size: Images per step.
        num_keys: Length of the queue.
        group_size: Images per BatchNorm group of our run with groups.
    """

    name: str
    network: str
    size_px: int
    batch_size: int
    num_keys: int
    group_size: int


R18 = Case("r18", "resnet18", 64, 128, 4096, 32)
R50 = Case("r50", "resnet50", 224, 8, 65536, 4)


def config(
    case: Case, steps: int, precision: str = "auto", groups: bool = False, **more: Any
) -> moco_v2.Config:
    """Returns our recipe; BatchNorm is over the whole batch where not in groups, as theirs."""
    values = {
        "architecture": {"name": case.network},
        "augmentation": {"crop_px": case.size_px},
        "bn_group_size": case.group_size if groups else None,
        "num_keys": case.num_keys,
        "training": {
            "epochs": None, "steps": steps, "batch_size": case.batch_size, "precision": precision,
            "memory_format": "auto", "convolution": "auto", "checkpoint_every_steps": 10**6,
        },
    }  # fmt: skip
    found = stage.resolve("moco_v2", {**values, **more}, "benchmark")
    assert isinstance(found, moco_v2.Config)
    return found


def views(case: Case) -> tuple[Tensor, Tensor]:
    """Returns two batches of views as they leave our loader: (N, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch_size, case.size_px, case.size_px, 3)
    first, second = (
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)
    )
    return first, second


def normalised(images: Tensor, device: str) -> Tensor:
    """Does to a batch of views what ToTensor and Normalize do: (N, 3, H, W) float32.

    The bytes go to the device first, which is less to carry than the peers have.
    """
    floats = images.to(device).permute(0, 3, 1, 2).float().div(255)
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    return floats.sub_(mean).div_(std).contiguous()


def train(
    recipe: moco_v2.Config,
    batches: Callable[[int], Iterator[ViewBatch]],
    device: str = "auto",
    seed: int = 0,
) -> nn.Module:
    """Trains by our own loop, as the stage does, and returns the method."""
    setting = Setting(num_images=recipe.num_keys, seed=seed)
    backbone = build_backbone(recipe.architecture, setting.stream("backbone"), recipe.preprocessing)
    convert_groups(backbone, recipe.bn_group_size)
    method = moco_v2.Method(recipe, backbone, setting)
    execution = Execution(progress=False, device=device)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "training.jsonl")
        run = Run(Path(folder), log, execution, seed, steps_per_epoch=10**6, title="benchmark")
        fit(Pretext(method), batches, recipe.training, run)
    return method


def optimiser(parameters: Any) -> torch.optim.SGD:
    """Returns torch's SGD as it comes."""
    return torch.optim.SGD(parameters, LR, momentum=SGD_MOMENTUM, weight_decay=DECAY)


class Reference:
    """The reference's step in one process: float32, NCHW, loops over parameters, plain BatchNorm.

    The queue is held as columns and cloned at every step, the logits are put together and go
    through cross-entropy, as algorithm 1 of the paper has it.
    """

    def __init__(self, case: Case, device: str = "cpu", amp: bool = False) -> None:
        torch.manual_seed(0)
        self.query = self._encoder(case).to(device)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.queue = F.normalize(torch.randn(DIMS, case.num_keys), dim=0).to(device)
        self.position = 0
        self.optimiser = optimiser(self.query.parameters())
        self.amp, self.device = amp, device

    def step(self, pair: Pair) -> float:
        """Trains on one pair of batches, (N, 3, H, W) float32 each; returns the loss."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.amp):
            loss = self._loss(*pair)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def _loss(self, query_images: Tensor, key_images: Tensor) -> Tensor:
        queries = F.normalize(self.query(query_images), dim=1)
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
                slow.data = slow.data * MOMENTUM + fast.data * (1.0 - MOMENTUM)
            order = torch.randperm(len(key_images), device=key_images.device)
            keys = F.normalize(self.key(key_images[order]), dim=1)[order.argsort()]
        own = (queries * keys).sum(1, keepdim=True)
        others = queries @ self.queue.clone().to(queries.dtype)
        logits = torch.cat([own, others], dim=1) / TEMPERATURE
        targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        self.queue[:, self.position : self.position + len(keys)] = keys.T
        self.position = (self.position + len(keys)) % self.queue.shape[1]
        return F.cross_entropy(logits, targets)

    @staticmethod
    def _encoder(case: Case) -> nn.Module:
        net = getattr(torchvision.models, case.network)()
        width = net.fc.in_features
        net.fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, DIMS))
        return net


def lightly_installed() -> bool:
    """Says whether the peer is there."""
    return importlib.util.find_spec("lightly") is not None


class Lightly:
    """lightly's MoCo as its documented example has it, of which the first epoch is timed.

    Its head, its loss with a memory bank, its momentum update of backbone and head by its cosine
    schedule per epoch, SGD with a rate of 0.06 and nothing else, a loss that is summed and not
    read. Only the network, the batch and the length of the queue are the case's.

    Source: https://docs.lightly.ai/self-supervised-learning/examples/moco.html
    """

    def __init__(self, case: Case, device: str = "cpu", amp: bool = False) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad, update_momentum
        from lightly.utils.scheduler import cosine_schedule

        torch.manual_seed(0)
        net = getattr(torchvision.models, case.network)()
        width = net.fc.in_features
        self.backbone = nn.Sequential(*list(net.children())[:-1]).to(device)
        self.head = MoCoProjectionHead(width, width, DIMS).to(device)
        self.key_backbone, self.key_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        deactivate_requires_grad(self.key_backbone)
        deactivate_requires_grad(self.key_head)
        self.criterion = NTXentLoss(memory_bank_size=(case.num_keys, DIMS)).to(device)
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.SGD(parameters, lr=0.06)
        self.follow = update_momentum
        self.momentum = cosine_schedule(0, LIGHTLY_EPOCHS, 0.996, 1)
        self.total = torch.zeros((), device=device)
        self.amp, self.device = amp, device

    def step(self, pair: Pair) -> None:
        """Trains on one pair of batches, (N, 3, H, W) float32 each."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.amp):
            self.follow(self.backbone, self.key_backbone, m=self.momentum)
            self.follow(self.head, self.key_head, m=self.momentum)
            queries = self.head(self.backbone(pair[0]).flatten(start_dim=1))
            keys = self.key_head(self.key_backbone(pair[1]).flatten(start_dim=1)).detach()
            loss: Tensor = self.criterion(queries, keys)
        self.total += loss.detach()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
