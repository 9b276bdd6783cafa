"""What is put on a backbone to pretrain it, and is thrown away afterwards."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.streams import Stream, seeded_torch


def linear_head(num_features: int, num_outputs: int, stream: Stream) -> nn.Linear:
    """Makes one linear layer with torch's initialisation, drawn from the stream."""
    with seeded_torch(stream):
        return nn.Linear(num_features, num_outputs)


def mlp_head(num_features: int, num_outputs: int, stream: Stream) -> nn.Sequential:
    """Makes linear, ReLU, linear, with a hidden layer as wide as the input.

    Source: moco moco/builder.py @132aea9 (``mlp``): Linear(2048, 2048), ReLU, Linear(2048, 128).
    """
    with seeded_torch(stream):
        return nn.Sequential(
            nn.Linear(num_features, num_features),
            nn.ReLU(),
            nn.Linear(num_features, num_outputs),
        )


class Embedding(nn.Module):
    """A backbone and a head that map images (N, H, W, 3) uint8 to vectors (N, D) of length 1."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Embeds a batch of images."""
        pooled = self.backbone(self.backbone.preprocessing.normalise(images))
        vectors = self.head(pooled)
        # In float32 at least: of bfloat16's eight bits no vector has length 1.
        return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)
