"""Does bfloat16 change what inversion finds? Its pictures against those of other starts in float32.

    python benchmarks/inversion_precision.py --json

Two photographs that scikit-image and scikit-learn bundle, at the authors' sizes (224 px of a canvas
of 256), from one level of a ResNet-50 with random weights; three starts of the generator, the same
in both precisions. Per photograph and measure, ``spread`` is what the starts differ by in float32
(largest less smallest) and ``difference`` the mean over the starts in bfloat16 less that in
float32; ``inside`` says whether every such mean lies between the lowest and the highest start of
float32. It says nothing of time; ``inversion.py`` does.
"""

from typing import Any

import cv2
import numpy as np
import torch
from _interleaved import parser, report
from torch import Tensor

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.folding import folded
from whytransfer.core.streams import Stream
from whytransfer.diagnose.deep_image_prior import Fit, Group, Prior, generator, noise
from whytransfer.ops.image_quality import feature_distance, psnr, ssim

CROP_PX, STARTS, PRIOR = 224, 3, Prior()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs() -> Tensor:
    """Returns the middle of each, (N, 3, H, W) in [0, 1]."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    found = []
    for image in (skimage.data.chelsea(), load_sample_image("china.jpg")):
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        square = image[top : top + side, left : left + side]
        found.append(cv2.resize(square, (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 255


def measured(level: str, steps: int, mixed: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Fits every photograph from every start; returns (photographs, starts) by measure."""
    backbone = build(Architecture(), Stream(0, "backbone")).eval().requires_grad_(False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    originals = photographs()
    small = folded(backbone)

    def see(pictures: Tensor) -> Tensor:
        return small.features(pictures.contiguous(memory_format=torch.channels_last), level)

    wanted = originals.repeat_interleave(STARTS, dim=0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        targets = see((wanted - mean) / std).float()
    starts = [start for _ in originals for start in range(STARTS)]
    fit = Fit(
        PRIOR,
        [generator(PRIOR, Stream(start, "generator")) for start in starts],
        [noise(PRIOR, Stream(start, "noise")).float() for start in starts],
        [Group(see, targets)], CROP_PX, mixed,
    )  # fmt: skip
    for _ in range(steps):
        fit.step()
    pictures = (fit.pictures().float() * std + mean).clamp(0, 1)
    with torch.no_grad():
        seen = [backbone.features((images - mean) / std, level) for images in (pictures, wanted)]
    found = {
        "psnr": psnr(pictures, wanted),
        "ssim": ssim(pictures, wanted),
        "distance": feature_distance(*seen),
    }
    return {name: values.double().view(-1, STARTS).numpy() for name, values in found.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--level", default="layer2")
    options.add_argument("--steps", type=int, default=150)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    plain, mixed = (measured(chosen.level, chosen.steps, m) for m in (False, True))
    inside, told = True, {}
    for name, values in plain.items():
        means = mixed[name].mean(axis=1)
        inside &= bool(((means >= values.min(axis=1)) & (means <= values.max(axis=1))).all())
        told[name] = {
            "float32": np.round(values, 4).tolist(),
            "bfloat16": np.round(mixed[name], 4).tolist(),
            "spread": np.round(np.ptp(values, axis=1), 4).tolist(),
            "difference": np.round(means - values.mean(axis=1), 4).tolist(),
        }
    report({"inside": inside, "level": chosen.level, "steps": chosen.steps, "measures": told})


if __name__ == "__main__":
    main()
