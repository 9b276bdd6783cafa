"""How fast are a detector's errors typed and costed? Ours against tidecv, in turns, on one core.

Two detectors as large as VOC2007's test set would give, 4,952 images of 100 detections in 20
classes. tidecv makes its point estimate: TIDE's six types and two special ones. ``vs_tidecv``: ours
makes it and Hoiem's types, counts and impact on top. ``with_intervals_vs_tidecv``: ours does all of
that, and again under 1,000 draws of the images that both detectors share, to the intervals of their
differences; tidecv still makes its point estimates. What either has read and indexed before is not
counted. Seconds are the processor's: both keep one core busy and wait for nothing, so on an idle
machine they are those of the clock, and on a shared one they are still right.

tidecv brings a full OpenCV, so it lives in an environment of its own, and is timed in a process of
its own that waits while ours runs:

    uv venv build/tidecv
    uv pip install --python build/tidecv tidecv==1.0.1
    python benchmarks/detection_errors.py --json
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _calls import shares
from _interleaved import measure, parser, ratios, report

from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_estimates import differences
from whytransfer.diagnose.error_profile import ErrorProfile, ErrorRules, error_profile
from whytransfer.ops import hoiem, tide
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.resampling import image_weights

NUM_IMAGES, PER_IMAGE, OBJECTS, NUM_DRAWS = 4952, 100, 3, 1000
CLASSES = tuple(sorted({n for group in hoiem.VOC_SIMILAR for n in group} | {
    "bottle", "pottedplant", "tvmonitor"
}))  # fmt: skip
RULES = ErrorRules(0.5, 0.1, PER_IMAGE, hoiem.VOC_SIMILAR, "top_npos", groups={}, sizes=None)
PARTS = (
    "tide_errors", "tide_gains", "hoiem_types", "counted_rows", "type_counts", "impact",
    "overlaps", "image_weights",
)  # fmt: skip
ABSENT = "no tidecv at {}: the docstring says how to install it, --tidecv where another one is"


def truth() -> Truth:
    """Draws objects of all sizes; none is difficult, since tidecv does not know that flag."""
    stream = Stream(0, "benchmark/detection_errors/truth")
    count = NUM_IMAGES * OBJECTS
    corner = stream.uniform(2 * count, 0, 250).reshape(-1, 2)
    boxes = np.concatenate([corner, corner + stream.uniform(2 * count, 30, 230).reshape(-1, 2)], 1)
    return Truth(
        images=tuple(map(str, range(NUM_IMAGES))),
        sizes=np.full((NUM_IMAGES, 2), 500),
        classes=CLASSES,
        image=np.repeat(np.arange(NUM_IMAGES), OBJECTS),
        label=stream.integers(count, len(CLASSES)),
        boxes_xyxy=boxes,
        difficult=np.zeros(count, dtype=bool),
        crowd=np.zeros(count, dtype=bool),
        area=area_xyxy(boxes),
    )


def detector(objects: Truth, seed: int) -> Detections:
    """Draws detections: a third around objects, surer the nearer, the rest faint and anywhere."""
    stream = Stream(seed, "benchmark/detection_errors/detector")
    image = np.repeat(np.arange(NUM_IMAGES), PER_IMAGE)
    count = len(image)
    of = image * OBJECTS + stream.integers(count, OBJECTS)
    near = stream.uniform(count) < 1 / 3
    reach = stream.uniform(count, 2, 60)
    moved = (
        objects.boxes_xyxy[of] + stream.uniform(4 * count, -1, 1).reshape(-1, 4) * reach[:, None]
    )
    corner = stream.uniform(2 * count, 0, 300).reshape(-1, 2)
    far = np.concatenate([corner, corner + stream.uniform(2 * count, 20, 200).reshape(-1, 2)], 1)
    right = near & (stream.uniform(count) < 0.7)
    sure = np.where(near, 1 - reach / 80, 0.1)
    return Detections(
        image=image,
        label=np.where(right, objects.label[of], stream.integers(count, len(CLASSES))),
        score=sure * stream.uniform(count, 0.3, 1),
        boxes_xyxy=np.where(near[:, None], moved, far),
    )


def ours(runs: Mapping[str, DetectionRun], num_draws: int) -> dict[str, ErrorProfile]:
    """Types and costs the errors of both detectors, and their differences under the same draws."""
    weights = image_weights(Stream(0, "benchmark/detection_errors"), NUM_IMAGES, num_draws)
    profiles = {arm: error_profile([run], RULES, weights) for arm, run in runs.items()}
    first, second = profiles.values()
    if num_draws:
        differences(second.dap, first.dap)
        differences(second.shares, first.shares)
    return profiles


@contextmanager
def peer(python: Path, runs: Mapping[str, DetectionRun]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Starts tidecv's process; what is given asks it for a round."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "columns.npz"
        objects = next(iter(runs.values())).truth
        arrays = {f"truth.{name}": getattr(objects, name) for name in ("image", "label")}
        arrays |= {"truth.boxes_xyxy": objects.boxes_xyxy, "truth.ignored": objects.crowd}
        for arm, run in runs.items():
            for field in fields(Detections):
                if field.name != "masks":
                    arrays[f"{arm}.{field.name}"] = getattr(run.detections, field.name)
        np.savez(file, **arrays)
        script = Path(__file__).with_name("_tidecv.py")
        process = subprocess.Popen(
            [python, script, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        try:
            versions = json.loads(stdout.readline())

            def ask() -> dict[str, Any]:
                print(file=stdin, flush=True)
                return {**json.loads(stdout.readline()), "versions": versions}

            yield ask
        finally:
            stdin.close()
            process.wait()


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def same(found: Mapping[str, Any], runs: Mapping[str, DetectionRun]) -> bool:
    """Whether both make the same of both detectors, to 1e-4 points, at tidecv's recalls."""
    alike = []
    for arm, values in found.items():
        errors = tide.tide_errors(runs[arm].detections, runs[arm].truth)
        gains = tide.tide_gains(errors, recalls="tidecv")
        ours = [gains.before.mean(), *gains.in_all()]
        alike.append(np.abs(ours - np.array([values[k] for k in ("AP", *tide.TYPES)])).max() < 1e-4)
    return all(alike)


def main() -> None:
    options = parser(__doc__, rounds=3, threads=1)
    default = Path(__file__).parents[1] / "build" / "tidecv" / "bin" / "python"
    options.add_argument("--tidecv", type=Path, default=default, help="Python that has tidecv")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.tidecv.is_file():
        report({"ratios": {}, "not_measured": {"vs_tidecv": ABSENT.format(arguments.tidecv)}})
        return
    objects = truth()
    runs = {
        arm: DetectionRun(arm, 0, arm, objects, detector(objects, seed))
        for seed, arm in enumerate(("one", "other"))
    }
    point, intervals = partial(ours, runs, 0), partial(ours, runs, NUM_DRAWS)
    with peer(arguments.tidecv, runs) as ask:
        first = ask()
        assert same(first["found"], runs)
        works: dict[str, Callable[[], float]] = {
            "tidecv": lambda: float(ask()["seconds"]),
            "point": partial(processor_seconds, point),
            "intervals": partial(processor_seconds, intervals),
        }
        times = measure(works, arguments.rounds)
    wanted = {"vs_tidecv": ("tidecv", "point"), "with_intervals_vs_tidecv": ("tidecv", "intervals")}
    report(
        {
            **ratios(times, wanted),
            "detectors": len(runs),
            "detections": {arm: len(run.detections) for arm, run in runs.items()},
            "draws": NUM_DRAWS,
            "seconds": {name: round(float(np.median(rows)), 2) for name, rows in times.items()},
            "shares": {"point": shares(point, PARTS), "intervals": shares(intervals, PARTS)},
            "peer": first["versions"],
            "dap": first["found"],
        }
    )


if __name__ == "__main__":
    main()
