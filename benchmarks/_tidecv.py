"""tidecv's point estimate, timed where it is installed: a process that answers line by line.

It is no part of this package's environment, because it brings a full OpenCV that would overwrite
the headless one. So nothing of this package or of torch is imported here: columns come as arrays in
a file, an empty line asks for one round, and the answer is one line of JSON.
"""

import importlib.metadata
import json
import sys
import time
from typing import Any

import numpy as np
from tidecv import TIDE, Data


def data(name: str, columns: dict[str, Any], limit: int) -> Data:
    """Returns truth or detections as tidecv wants them; what it indexes is not timed."""
    found = Data(name, max_dets=limit)
    boxes = columns["boxes_xyxy"].copy()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(columns["image"].tolist(), columns["label"].tolist(), boxes.tolist(), strict=True)
    if "score" in columns:
        for (image, label, box), score in zip(rows, columns["score"].tolist(), strict=True):
            found.add_detection(image, label, score, box=box)
        return found
    for (image, label, box), ignored in zip(rows, columns["ignored"].tolist(), strict=True):
        add = found.add_ignore_region if ignored else found.add_ground_truth
        add(image, label, box=box)
    return found


def estimate(truth: Data, detections: Data) -> dict[str, float]:
    """Returns AP and the gain of each fix, in points, by tidecv's own names."""
    tide = TIDE()
    run = tide.evaluate(truth, detections, mode=TIDE.BOX)
    main, special = tide.get_main_errors(), tide.get_special_errors()
    return {"AP": run.ap, **main[detections.name], **special[detections.name]}


def main() -> None:
    with np.load(sys.argv[1]) as arrays:
        columns: dict[str, dict[str, Any]] = {}
        for key in arrays.files:
            name, _, column = key.partition(".")
            columns.setdefault(name, {})[column] = arrays[key]
    truth = data("truth", columns.pop("truth"), limit=100)
    arms = [data(name, found, limit=100) for name, found in columns.items()]
    version = {name: importlib.metadata.version(name) for name in ("tidecv", "numpy")}
    print(json.dumps(version), flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        found = {arm.name: estimate(truth, arm) for arm in arms}
        seconds = time.process_time() - started
        print(json.dumps({"seconds": seconds, "found": found}), flush=True)


if __name__ == "__main__":
    main()
