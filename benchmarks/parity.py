"""Does an optimisation change learning? Loss curves with and without it, against the seed spread.

    python benchmarks/parity.py --json
    python benchmarks/parity.py --figure docs/images/parity.svg
    python benchmarks/parity.py --variants "plain, other seeds" "all together" --json

MoCo v2 on the world's things (ResNet-10, 16 channels wide, 32 pixels, batch 32, 512 keys), 300
steps, 3 seeds. The plain run has none of the optimisations: its views are made by PIL, from the
same parameters, its BatchNorm groups are split and put together, its momentum and optimiser are
loops over parameters, its loss holds all logits. Each other run has one optimisation, the last one
all that ``auto`` settles on (compilation is not among them). Curves are means over windows of 20
steps. ``inside`` is the share of a variant's curve (mean over the seeds) that lies between the
lowest and the highest of the plain run's seeds. Of few seeds that band is narrow: "plain, other
seeds" says how much of the plain run's own curve leaves it, trained at as many further seeds.
"""

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from _interleaved import parser, report
from _moco import Case, config
from numpy.typing import NDArray

import whytransfer.pretrain.parts.discrimination
import whytransfer.pretrain.views
import whytransfer.train.norm
import whytransfer.train.optimiser
from whytransfer.core.processes import ALONE
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.data.dataset import Dataset
from whytransfer.data.stage import open_reference
from whytransfer.pretrain import stage
from whytransfer.train.optimiser import sgd

CASE = Case("small", "resnet10", 32, 32, 512, 8)
WINDOW = 20
Context = Callable[[], AbstractContextManager[object]]
PLAIN = {
    "training": {
        "precision": "32-true", "memory_format": "contiguous", "convolution": "direct",
    },
    "applier": "cpu",
}  # fmt: skip


def _plain_sgd() -> AbstractContextManager[object]:
    """Trains with torch's loop over parameters."""

    def unfused(*args: Any) -> torch.optim.SGD:
        found = sgd(*args)
        for group in found.param_groups:
            group["fused"], group["foreach"] = False, False
        return found

    return mock.patch.object(whytransfer.train.optimiser, "sgd", unfused)


def _split_and_cat() -> AbstractContextManager[object]:
    """Trains with BatchNorm groups that are split and put together again."""
    norm = whytransfer.train.norm
    return mock.patch.object(norm, "_in_slices", norm.split_and_cat)


def _naive_loss() -> AbstractContextManager[object]:
    """Trains with a loss that builds all logits and takes their cross-entropy."""
    from whytransfer.ops.contrast import Contrast
    from whytransfer.pretrain.parts import contrasts

    def naive(
        queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float
    ) -> Contrast:
        own = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([own, queries @ queue.clone().T], dim=1) / temperature
        targets = torch.zeros(len(logits), dtype=torch.long)
        found = (logits.argmax(1) == 0).float().mean()
        return Contrast(torch.nn.functional.cross_entropy(logits, targets), found)

    return mock.patch.object(contrasts, "contrastive_loss", naive)


def _followed_in_a_loop() -> AbstractContextManager[object]:
    """Trains with a momentum encoder whose parameters are moved one after the other."""

    @torch.no_grad()
    def follow(follower: torch.nn.Module, leader: torch.nn.Module, momentum: float) -> None:
        for slow, fast in zip(follower.parameters(), leader.parameters(), strict=True):
            slow.data = slow.data * momentum + fast.data * (1.0 - momentum)

    return mock.patch.object(whytransfer.pretrain.parts.discrimination, "follow", follow)


def _pil_views() -> AbstractContextManager[object]:
    """Trains on views that PIL and torchvision make: what the tests hold ours against."""
    file = Path(__file__).parents[1] / "tests" / "oracles" / "views.py"
    spec = importlib.util.spec_from_file_location("views_oracle", file)
    assert spec is not None and spec.loader is not None
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    return mock.patch.object(whytransfer.pretrain.views, "apply_view", oracle.view)


_PLAIN_FORMS = {
    "views by OpenCV": _pil_views,
    "fused SGD": _plain_sgd,
    "momentum in one call": _followed_in_a_loop,
    "grouped BatchNorm in slices": _split_and_cat,
    "loss in chunks": _naive_loss,
}
"""Optimisation → what puts its plain form in its place."""


@contextmanager
def _plain_but(*optimised: str) -> Iterator[None]:
    """Puts every plain form in its place but those."""
    with ExitStack() as stack:
        for name, plain in _PLAIN_FORMS.items():
            if name not in optimised:
                stack.enter_context(plain())
        yield


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        settings: Of the recipe, beside the plain ones.
        context: Puts plain forms in the place of fast ones.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    context: Context = _plain_but


def _training(**values: str) -> dict[str, Any]:
    return {"training": {**PLAIN["training"], **values}}  # type: ignore[dict-item]


OTHER_SEEDS = "plain, other seeds"
VARIANTS = {
    "plain": Variant(),
    OTHER_SEEDS: Variant(),
    "bfloat16": Variant(_training(precision="bf16-mixed")),
    "channels_last": Variant(_training(memory_format="channels_last")),
    "convolutions as products": Variant(_training(convolution="product")),
    **{name: Variant(context=partial(_plain_but, name)) for name in _PLAIN_FORMS},
    "photometry on the device": Variant({"applier": "device"}),
    "all together": Variant(
        {
            **_training(precision="auto", memory_format="auto", convolution="auto"),
            "applier": "auto",
        },
        nullcontext,
    ),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = open_reference("world:things", Store(folder))
        curves = {
            name: np.array([
                curve(data, variant, options.steps, seed + (name == OTHER_SEEDS) * options.seeds)
                for seed in range(options.seeds)
            ])
            for name, variant in VARIANTS.items()
            if name in {"plain", *options.variants}
        }  # fmt: skip
    inside = {name: share_inside(found, curves["plain"]) for name, found in curves.items()}
    differences = {
        name: float(found.mean() - curves["plain"].mean()) for name, found in curves.items()
    }
    if options.figure:
        draw(curves, options.steps, options.figure)
    report(
        {
            "inside": {name: round(share, 3) for name, share in inside.items()},
            "all_inside": all(s == 1.0 for name, s in inside.items() if name != OTHER_SEEDS),
            "mean_difference": {name: round(found, 4) for name, found in differences.items()},
            "seed_spread": round(float(np.ptp(curves["plain"], axis=0).mean()), 4),
            "steps": options.steps,
            "seeds": options.seeds,
        }
    )


def _options() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--figure", type=Path, default=None)
    options.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME",
        help="only these, beside the plain run",
    )  # fmt: skip
    return options.parse_args()


def curve(data: Dataset, variant: Variant, steps: int, seed: int) -> NDArray[np.float64]:
    """Returns the loss of every window of one run."""
    settings = {**PLAIN, **variant.settings}
    training = {
        **settings.pop("training"), "steps": steps, "epochs": None, "batch_size": CASE.batch_size,
        "log_every_steps": WINDOW, "checkpoint_every_steps": 10**6,
    }  # fmt: skip
    network = {"name": "resnet10", "width": 16, "stem_pool": False}
    recipe = config(CASE, steps, groups=True, architecture=network, training=training, **settings)
    step = stage.step_for("moco_v2", data.fingerprint, recipe, seed)
    quiet = Execution(progress=False, device="cpu")
    with tempfile.TemporaryDirectory() as folder, variant.context():
        payload = Path(folder, "payload")
        payload.mkdir()
        stage.Pretraining(step, recipe, data, quiet, ALONE).compute(payload, Path(folder))
        rows = (payload / stage.LOG).read_text().splitlines()
        return np.array([json.loads(row)["loss"] for row in rows])


def share_inside(found: NDArray[np.float64], plain: NDArray[np.float64]) -> float:
    """Returns the share of windows whose mean over the seeds lies in the plain run's spread."""
    mean = found.mean(axis=0)
    fits = (mean >= plain.min(axis=0)) & (mean <= plain.max(axis=0))
    return float(fits.mean())


def draw(curves: dict[str, NDArray[np.float64]], steps: int, file: Path) -> None:
    """Draws every variant's mean over the band of the plain run's seeds."""
    import altair as alt

    plain = curves["plain"]
    at = np.minimum(WINDOW * (1 + np.arange(plain.shape[1])), steps)
    band = [
        {"step": int(step), "low": float(low), "high": float(high)}
        for step, low, high in zip(at, plain.min(axis=0), plain.max(axis=0), strict=True)
    ]
    rows = [
        {"step": int(step), "loss": float(loss), "run": name}
        for name, found in curves.items()
        for step, loss in zip(at, found.mean(axis=0), strict=True)
    ]
    scale = alt.Scale(zero=False)
    area = alt.Chart(alt.Data(values=band)).mark_area(opacity=0.25, color="grey")
    line = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.5)
    chart = area.encode(
        x=alt.X("step:Q", title="step"),
        y=alt.Y("low:Q", scale=scale, title="loss, mean of 20 steps"),
        y2="high:Q",
    ) + line.encode(x="step:Q", y=alt.Y("loss:Q", scale=scale), color=alt.Color("run:N", title=""))
    file.parent.mkdir(parents=True, exist_ok=True)
    chart.properties(width=560, height=320).save(str(file))


if __name__ == "__main__":
    main()
