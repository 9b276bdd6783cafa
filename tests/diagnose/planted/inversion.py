"""A network that was blinded is found; two arms of random networks are not."""

import copy
from pathlib import Path

import torch
from tests.diagnose.networks import alike, network, seen, world

from whytransfer.backbone.features import Centre
from whytransfer.diagnose.analyses.inversion import Config
from whytransfer.diagnose.deep_image_prior import Prior

SMALL = Prior(
    widths=(8, 8), filters=(3, 3), skip_width=2, noise_channels=4, canvas_px=32,
    learning_rate=0.01, num_steps=15,
)  # fmt: skip
QUICK = Config(
    levels=("stem",), num_images=4, view=Centre(resize_px=32, crop_px=32), prior=SMALL,
    num_moments=3, chunk_size=3, precision="32-true", num_draws=200, num_pictures=2,
)  # fmt: skip


def blinded(net):
    """The network whose first layer answers every image alike."""
    blind = copy.deepcopy(net)
    with torch.no_grad():
        blind.net.conv1.weight.zero_()
    return blind


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    runs = [seen("sighted", network()), seen("other", blinded(network()))]
    return runs, world(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is: two arms of random networks."""
    return alike(), world(folder), QUICK.model_copy(update={"trunks": ()})
