"""How fast is feature inversion? Against one image at a time, as the authors run it.

    python benchmarks/inversion.py --json
    python benchmarks/inversion.py --device cuda --json

ResNet-50 with random weights, layer4, 224 px of a canvas of 256, per image and iteration: the peer
in float32 with BatchNorm in the network and torch's Adam; ours in the precision that `auto` takes
there, a chunk of pictures at a time: 4 on a CPU, 32 on a GPU. `loss_difference` is that of the
first step, where both begin with the same weights; `mb_per_picture` is what a chunk grows by with
each picture, on Linux or a GPU.
"""

import importlib.util
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import torch
from _interleaved import compare, parser, ratios, report
from torch import Tensor, nn

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.folding import folded
from whytransfer.backbone.model import Backbone
from whytransfer.core.devices import native_bfloat16
from whytransfer.core.streams import Stream
from whytransfer.diagnose.deep_image_prior import Fit, Group, Prior, generator, noise

LEVEL, CROP_PX, PRIOR = "layer4", 224, Prior()
CHUNK = {"cpu": 4, "cuda": 32}
SINGLE_STEPS = 2


def oracle() -> ModuleType:
    """Loads the authors' procedure, written plainly for the tests."""
    file = Path(__file__).parents[1] / "tests" / "oracles" / "inversion.py"
    spec = importlib.util.spec_from_file_location("plain_inversion", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def single(backbone: Backbone, image: Tensor, z: Tensor) -> Callable[[], float]:
    """Returns the peer's work: some iterations of one image; gives the first one's loss."""
    plain = oracle()
    net = plain.skip_network(PRIOR.widths, PRIOR.filters, PRIOR.skip_width, PRIOR.noise_channels)
    plain.copy_weights(net, generator(PRIOR, Stream(0, "generator")))
    net.to(z.device)
    optimiser = torch.optim.Adam(net.parameters(), lr=PRIOR.learning_rate)
    target = backbone.features(image, LEVEL).detach()

    def iteration() -> float:
        optimiser.zero_grad()
        seen = backbone.features(net(z)[:, :, :CROP_PX, :CROP_PX], LEVEL)
        loss = nn.functional.mse_loss(seen, target)
        loss.backward()
        optimiser.step()
        value: float = loss.item()
        return value

    def work() -> float:
        losses = [iteration() for _ in range(SINGLE_STEPS)]
        return losses[0]

    return work


def batched(backbone: Backbone, images: Tensor, z: Tensor, mixed: bool) -> Callable[[], float]:
    """Returns our work: a step of a chunk; gives the first picture's loss."""
    small = folded(backbone)

    def see(pictures: Tensor) -> Tensor:
        return small.features(pictures.contiguous(memory_format=torch.channels_last), LEVEL)

    device = z.device
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        targets = see(images).float()
    generators = [generator(PRIOR, Stream(k, "generator")).to(device) for k in range(len(images))]
    groups, together = [Group(see, targets)], device.type == "cuda"
    fit = Fit(PRIOR, generators, [z] * len(images), groups, CROP_PX, mixed, together)
    return lambda: fit.step()[0].item()


def inputs(count: int, device: str) -> tuple[Backbone, Tensor, Tensor]:
    """Makes the frozen network, images and a generator's input."""
    backbone = build(Architecture(), Stream(0, "backbone")).eval().requires_grad_(False)
    images = torch.randn(count, 3, CROP_PX, CROP_PX, generator=torch.Generator().manual_seed(0))
    z = noise(PRIOR, Stream(0, "noise")).float()
    return backbone.to(device), images.to(device), z.to(device)


def peak_mb(count: int, mixed: bool, device: str) -> float:
    """Measures what is held at the peak of a chunk's second step: by a process, or on a GPU."""
    torch.set_num_threads(1)
    work = batched(*inputs(count, device), mixed)
    work()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 1e6
    Path("/proc/self/clear_refs").write_text("5")
    work()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6


def mb_per_picture(mixed: bool, device: str) -> float:
    """Measures it, in new processes."""
    found = []
    for count in (1, CHUNK[device]):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(peak_mb, count, mixed, device).result())
    return (found[1] - found[0]) / (CHUNK[device] - 1)


def main() -> None:
    known = parser(__doc__, rounds=7)
    known.add_argument("--device", choices=list(CHUNK), default="cpu")
    options = known.parse_args()
    device, chunk = options.device, CHUNK[options.device]
    torch.set_num_threads(options.threads)
    mixed = native_bfloat16(device)
    backbone, images, z = inputs(chunk, device)
    works = {
        "single": single(backbone, images[:1], z),
        "ours": batched(backbone, images, z, mixed),
    }
    first = {name: work() for name, work in works.items()}
    times = compare(works, options.rounds)
    of_one = {
        "single": [seconds / SINGLE_STEPS for seconds in times["single"]],
        "ours": [seconds / chunk for seconds in times["ours"]],
    }
    report(
        ratios(of_one, {"vs_single": ("single", "ours")})
        | {
            "precision": "bf16-mixed" if mixed else "32-true",
            "milliseconds": {
                name: round(1e3 * statistics.median(found), 1) for name, found in of_one.items()
            },
            "each_round": [
                round(a / b, 3) for a, b in zip(of_one["single"], of_one["ours"], strict=True)
            ],
            "loss_difference": abs(first["single"] - first["ours"]) / first["single"],
            "mb_per_picture": round(mb_per_picture(mixed, device)),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "chunk": chunk,
            "rounds": options.rounds,
        }
    )


if __name__ == "__main__":
    main()
