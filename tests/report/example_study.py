"""Made-up studies: a realistic one, and the same with names that want out of the page."""

import itertools
import json
import math
from pathlib import Path

import cv2
import numpy as np

from whytransfer.core.records import (
    Assumption,
    Box,
    Comparison,
    Finding,
    Metric,
    Picture,
    Record,
    Table,
    Volatile,
)
from whytransfer.report.content import (
    Curve,
    Failure,
    FindingResult,
    Provenance,
    Run,
    StudyResult,
    TaskResult,
)

ARMS = ("random_init", "supervised", "moco_v2", "exemplar_v2")
TYPES = ("correct", "localisation", "similar", "other", "background")
TIDE = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")

HOSTILE = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }} ünïcødé 漢字 </script>"
)


def example_study(folder: Path, seeds: tuple[int, ...] = (0,)) -> StudyResult:
    return StudyResult(
        name="demo",
        description="A small procedural world: four pretrainings, two tasks, minutes on two cores.",
        caveats=(
            "Differences at this budget are not the finding: runs of minutes favour supervision, "
            "as they do on real data early in training.",
            "The paper's comparison is at 200 epochs; metric against pretraining length is the "
            "figure that tells.",
        ),
        reference="supervised",
        seeds=seeds,
        arms=ARMS,
        arm_descriptions={
            "random_init": "No pretraining: the backbone as it is initialised.",
            "supervised": "Cross-entropy on category labels.",
            "moco_v2": "Instance discrimination with a momentum encoder and a queue of keys.",
            "exemplar_v2": "Instance discrimination that leaves same-label keys out.",
        },
        tasks=(
            task("linear_readout", "top1", (15.2, 94.1, 33.4, 35.0), 1.4, seeds, 2000),
            task("voc07_detection", "AP", (9.4, 20.1, 19.7, 20.4), 1.1, seeds, 500),
        ),
        findings=(detection_errors(folder), levels()),
        curves=curves(seeds),
        provenance=provenance(),
        failures=(
            Failure(
                label="voc07_detection / exemplar_v2 / seed 2",
                reason="TrainingError: the loss is not finite at step 312",
                log="step 310 loss 1.21\nstep 311 loss 48.7\nstep 312 loss nan",
            ),
        ),
    )  # fmt: skip


def task(
    name: str, headline: str, values: tuple[float, ...], half: float, seeds: tuple[int, ...], n: int
) -> TaskResult:
    runs = tuple(
        Run(
            arm=arm,
            seed=seed,
            metrics=(*(
                Metric(name=metric, value=value * f + 0.7 * k, unit="%", n=n,
                       low=value * f + 0.7 * k - half, high=value * f + 0.7 * k + half,
                       interval="images")
                for metric, f in ((headline, 1.0), (f"{headline}50", 1.7), (f"{headline}75", 0.8))
            ),
               Metric(name=f"{headline}/tram", value=None, unit="%", n=0, interval="no instances"),
               Metric(name="loss", value=0.4321, n=n, higher_is_better=False)),
        )
        for arm, value in zip(ARMS, values, strict=True)
        for k, seed in enumerate(seeds)
    )  # fmt: skip
    mean = dict(zip(ARMS, values, strict=True))
    pairs = tuple(
        comparison(name, headline, a, b, mean[a] - mean[b], half * 1.3, seeds, n)
        for a, b in itertools.combinations(ARMS, 2)
    )
    return TaskResult(
        name=name, plugin=name, headline=headline, runs=runs, comparisons=pairs,
        description="Fine-tunes a detector on the labelled pictures of a small set.",
    )  # fmt: skip


def comparison(
    task: str, metric: str, arm: str, reference: str, gap: float, half: float,
    seeds: tuple[int, ...], n: int,
) -> Comparison:  # fmt: skip
    points = tuple(gap + 0.3 * k for k in range(len(seeds)))
    return Comparison(
        task=task, metric=metric, unit="%", arm=arm, reference=reference, difference=gap,
        low=gap - half, high=gap + half, num_images=n, seeds=seeds, points=points,
        interval="images (these fixed models)" if len(seeds) < 3 else "seeds then images",
        seed_spread=None if len(seeds) < 3 else 0.3,
        smallest_detectable=1.43 * half, shown=abs(gap) > half,
    )  # fmt: skip


def detection_errors(folder: Path) -> FindingResult:
    shares = ((20.0, 44.0, 7.0, 10.0, 19.0), (41.5, 26.0, 9.5, 8.0, 15.0),
              (43.0, 19.0, 12.0, 9.0, 17.0), (44.0, 18.0, 11.0, 9.0, 18.0))  # fmt: skip
    gains = ((3.1, 8.2, 1.0, 0.4, 5.0, 9.1), (2.2, 6.0, 0.9, 0.5, 4.4, 7.7),
             (2.6, 4.1, 0.8, 0.4, 4.9, 7.2), (2.5, 4.0, 0.8, 0.3, 5.1, 7.4))  # fmt: skip
    finding = Finding(
        analysis="detection_errors",
        question="Which detection errors does one backbone make less of?",
        answer="exemplar_v2 makes fewer localisation errors than supervised: −8.0 points of its "
        "false positives [−11.2, −4.9].",
        headline=Metric(name="localisation, exemplar_v2 − supervised", value=-8.0, unit="%",
                        low=-11.2, high=-4.9, n=500, interval="images"),
        caveat="A better detector has other errors anyway; this compares detectors of unequal AP.",
        metrics=tuple(
            Metric(name=f"hoiem/{arm}/{kind}", value=None if kind == "similar" and i == 0
                   else shares[i][j], n=500, unit="%", low=shares[i][j] - 3,
                   high=shares[i][j] + 3, interval="images")
            for i, arm in enumerate(ARMS) for j, kind in enumerate(TYPES)
        ),
        tables=(
            Table(title="False positives per object, by type", columns=("arm", *TYPES),
                  rows=tuple({"arm": arm, **dict(zip(TYPES, shares[i], strict=True))}
                             for i, arm in enumerate(ARMS))),
            Table(title="Instances", columns=("class", "instances", "AP"),
                  rows=({"class": "ring", "instances": 412, "AP": 31.25},
                        {"class": "tram", "instances": 0, "AP": None})),
        ),
        figures={
            "hoiem_share": tuple({"arm": arm, "type": kind, "share": shares[i][j]}
                                 for i, arm in enumerate(ARMS) for j, kind in enumerate(TYPES)),
            "tide_dap": tuple({"arm": arm, "type": kind, "dap": gains[i][j]}
                              for i, arm in enumerate(ARMS) for j, kind in enumerate(TIDE)),
        },
        pictures=pictures(folder),
    )  # fmt: skip
    return FindingResult(
        name="detection_errors", task="voc07_detection", finding=finding, folder=folder
    )


def sheets(folder: Path, num_rows: int = 8, num_tiles: int = 4) -> FindingResult:
    """Contact sheets of pictures of 224 px: a large one, a row of it, and a very large one."""
    made = []
    for name, rows in (("sheet", num_rows), ("row", 1), ("wall", 10 * num_rows)):
        height, width = 26 + 228 * rows, 228 * num_tiles
        slope = np.add.outer(np.arange(height), np.arange(width))
        pixels = np.stack([slope % 256, slope // 3 % 256, slope // 7 % 256], axis=2)
        cv2.imwrite(str(folder / f"{name}.png"), pixels.astype(np.uint8))
        made.append(Picture(file=f"{name}.png", width=width, height=height, caption=name, tags={}))
    finding = Finding(
        analysis="inversion", question="What do the features still hold?", answer="Much.",
        headline=Metric(name="psnr", value=20.0, unit="dB", n=8), caveat="Look.",
        pictures=tuple(made),
    )  # fmt: skip
    return FindingResult(name="inversion", task="", finding=finding, folder=folder)


def levels() -> FindingResult:
    """What is measured per level and along a number, of two seeds."""
    rows = [
        (arm, level, seed, 0.2 + 0.1 * i * (k + 1) + 0.03 * seed)
        for i, arm in enumerate(ARMS)
        for k, level in enumerate(("stem", "layer1", "layer2", "layer3", "layer4"))
        for seed in (0, 1)
    ]
    collapse = tuple(
        {"arm": a, "level": level, "seed": s, "value": v, "low": v - 0.1, "high": v + 0.1}
        for a, level, s, v in rows
    )
    similarity = tuple(
        {"arm": arm, "x": 10.0**k, "value": (1 + i) / (2 + k), "low": i / 9, "high": 1.0}
        for i, arm in enumerate(ARMS)
        for k in range(4)
    )
    finding = Finding(
        analysis="invariance",
        question="How far does pretraining collapse a category?",
        answer="No difference shown to random_init at any level.",
        headline=Metric(name="collapse, layer4", value=0.1, n=500, low=-0.2, high=0.4),
        caveat="A collapsed category may still be told from others.",
        figures={"collapse": collapse, "similarity_by_iteration": similarity},
    )
    return FindingResult(name="invariance", task="", finding=finding, folder=Path())


def pictures(folder: Path) -> tuple[Picture, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index in range(12):
        draw_scene(folder / f"scene_{index % 6}.png", index % 6)
        kind, arm = TYPES[index % 4 + 1], ARMS[index % 3 + 1]
        x = 14.0 + 6 * (index % 6)
        made.append(
            Picture(
                file=f"scene_{index % 6}.png", width=96, height=96,
                caption=f"{arm}: {kind}", tags={"type": kind, "arm": arm},
                boxes=(
                    Box(xyxy=(x, 20, x + 32, 52), role="truth", label="ring"),
                    Box(xyxy=(x + 9, 26, x + 44, 61), role="wrong", label="ring 0.87, IoU 0.38"),
                    Box(xyxy=(8, 62, 30, 86), role="detection", label="star 0.93"),
                ),
            )
        )  # fmt: skip
    return tuple(made)


def draw_scene(path: Path, index: int) -> None:
    image = np.full((96, 96, 3), (196, 188, 176), np.uint8)
    image += np.arange(96, dtype=np.uint8)[:, None, None] // 4
    x = 14 + 6 * index
    cv2.circle(image, (x + 16, 36), 13, (90, 60 + 20 * index, 200), 6, cv2.LINE_AA)
    cv2.rectangle(image, (10, 64), (28, 84), (160, 110, 40), -1, cv2.LINE_AA)
    cv2.imwrite(str(path), image)


def curves(seeds: tuple[int, ...]) -> tuple[Curve, ...]:
    steps = tuple(range(0, 1500, 5))
    made = []
    for rank, arm in enumerate(ARMS[1:], start=1):
        for seed in seeds:
            loss = tuple(
                (1.1 + rank) * math.exp(-s / 500) + 0.6 + 0.05 * math.sin(s / 7 + seed)
                for s in steps
            )
            found = tuple(60 * (1 - math.exp(-s / (400 * rank))) + math.sin(s / 9) for s in steps)
            made += [
                Curve(stage="pretrain", arm=arm, task="", seed=seed, name="loss", steps=steps,
                      values=loss),
                Curve(stage="pretrain", arm=arm, task="", seed=seed, name="accuracy", steps=steps,
                      values=found),
                Curve(stage="transfer", arm=arm, task="voc07_detection", seed=seed, name="loss",
                      steps=steps[:1], values=loss[:1]),
            ]  # fmt: skip
    return tuple(made)


def provenance() -> tuple[Provenance, ...]:
    made = []
    for index, (stage, plugin) in enumerate(
        [("data", "things"), *(("pretrain", arm) for arm in ARMS),
         ("transfer", "voc07_detection"), ("diagnose", "detection_errors")]
    ):  # fmt: skip
        record = Record(
            stage=stage, plugin=plugin, fingerprint=f"{index:02x}" * 32, seed=0,
            inputs={"data": "ab" * 32},
            config={"training": {"epochs": 20, "sgd": {"lr": 0.03, "momentum": 0.9}},
                    "queue": 512, "milestones": [120, 160], "note": None},
            assumed=(Assumption(field="queue", value=512,
                                reason="the sources give 65,536 for 1.28 million images"),),
            versions={"whytransfer": "0.1.0", "torch": "2.15"},
            commit="0123abcd" if index else None,
            volatile=Volatile(host="laptop", seconds=71.3, peak_memory_mb=812.0,
                              finished="2026-11-02T10:11:12"),
        )  # fmt: skip
        made.append(
            Provenance(label=f"{plugin}, seed 0", record=record, folder=Path(f"runs/{stage}/x"))
        )
    return tuple(made)


def hostile_study(folder: Path) -> StudyResult:
    """The example with every name, text, key and path replaced by something that wants out."""
    plain = example_study(folder)
    names = {arm: f"{arm}{HOSTILE}" for arm in ARMS}
    text = plain.model_dump_json()
    for old, new in names.items():
        text = text.replace(f'"{old}"', json.dumps(new))
    for old in ("demo", "voc07_detection", "localisation", "queue", "AP", "ring", "images", "type"):
        for quoted in (f'"{old}":', f'"{old}",', f'"{old}"}}', f'"{old}"]'):
            text = text.replace(quoted, quoted.replace(f'"{old}"', json.dumps(old + HOSTILE)))
    text = text.replace('"type' + json.dumps(HOSTILE)[1:-1] + '":', '"type":')
    study = StudyResult.model_validate_json(text)
    failure = Failure(label=HOSTILE, reason=HOSTILE, log=HOSTILE)
    finding = study.findings[0].finding
    picture = Picture(
        file="scene_0.png", width=96, height=96, caption=HOSTILE, tags={HOSTILE: HOSTILE},
        boxes=(Box(xyxy=(1, 2, 3, 4), role=f'x" onload="alert(3)" {HOSTILE}', label=HOSTILE),),
    )  # fmt: skip
    found = study.findings[0].model_copy(
        update={
            "folder": folder,
            "finding": finding.model_copy(update={"pictures": (*finding.pictures, picture)}),
        }
    )
    odd = study.provenance[0].model_copy(update={"folder": Path("caf\udce9") / HOSTILE})
    return study.model_copy(
        update={
            "failures": (failure,), "caveats": (HOSTILE,), "findings": (found, *study.findings[1:]),
            "provenance": (odd, *study.provenance[1:]),
        }
    )  # fmt: skip
