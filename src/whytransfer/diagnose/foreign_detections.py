"""Predictions that others made, held against the truth of a dataset's test split.

A COCO file of results (a JSON list; the data in the format ``coco``, whose ids it has), a folder of
VOC's text files, or a ``predictions.json`` of this package's form.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint, hash_file
from whytransfer.data.coco_results import read_coco_results, read_coco_truth
from whytransfer.data.dataset import Dataset
from whytransfer.data.formats import coco
from whytransfer.data.predictions import read_detections, truth_of
from whytransfer.data.voc_results import read_voc_results, voc_result_files
from whytransfer.ops.average_precision import Metric as Rule
from whytransfer.ops.detections import Detections, Truth

_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"

FORMS = "COCO results (.json), a folder of comp*_det_*.txt, or a predictions.json"
"""What predictions that others made look like."""


def is_foreign(path: Path) -> bool:
    """Whether a path is a file, or a folder of VOC's results, rather than an artifact."""
    return path.is_file() or (path.is_dir() and bool(voc_result_files(path)))


def holds_predictions(path: Path) -> bool:
    """Whether what is foreign is predictions: JSON, or VOC's results; else it is a checkpoint."""
    return path.is_dir() or _head(path).startswith((b"[", b"{"))


def content_hash(path: Path) -> str:
    """Names the content of a file, or of all VOC results in a folder."""
    if path.is_file():
        return hash_file(path)
    return fingerprint({file.name: hash_file(file) for file in voc_result_files(path)})


class Foreign:
    """Reads foreign predictions of one dataset; its truth is read once."""

    def __init__(self, data: Dataset | None) -> None:
        self._data = data

    @cached_property
    def truth(self) -> Truth:
        """The objects of the test split, with masks where there are any."""
        assert self._data is not None
        return truth_of(self._data.open("test"), masks=True)

    @property
    def rule(self) -> Rule:
        """How the data's format averages precision: COCO's as COCO does, others as VOC 2007."""
        is_coco = self._data is not None and isinstance(self._data.config, coco.Config)
        return "coco101" if is_coco else "voc07"

    def read(self, path: Path) -> tuple[Truth, Detections]:
        """Reads predictions of any known form.

        Raises:
            InputError: No data was given, or the file is of no known form, lacks scores, or names
                images or classes that the data does not have.
        """
        if self._data is None:
            raise InputError(
                path, "predictions without data", "the dataset that they are of",
                "name it with --data",
            )  # fmt: skip
        if path.is_dir():
            return self.truth, read_voc_results(path, self.truth)
        if _is_list(path):
            return self.truth, self._coco(path, self._data)
        return self.truth, read_detections(path, self.truth)

    def _coco(self, path: Path, data: Dataset) -> Detections:
        """Reads COCO results by the ids of the data's own annotations, which are by file name."""
        config = data.config
        if not isinstance(config, coco.Config) or config.test_annotations is None:
            raise InputError(
                path, f"COCO results, but the data are in the format {data.format}",
                "data with COCO annotations, whose ids the results name",
                "give --data coco:FOLDER, or the results in VOC's form",
            )  # fmt: skip
        annotated = read_coco_truth(config.root / config.test_annotations)
        found = read_coco_results(path, annotated)
        place = {name: number for number, name in enumerate(self.truth.images)}
        images = np.array([place[name] for name in annotated.truth.images], dtype=np.int64)
        return Detections(
            images[found.image], found.label, found.score, found.boxes_xyxy, found.masks
        )


def _is_list(path: Path) -> bool:
    """Whether a JSON file holds a list, which begins with a bracket."""
    if not holds_predictions(path):
        raise InputError(path, "is no file of predictions", FORMS, "give another file")
    return _head(path).startswith(b"[")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64).lstrip(_BEFORE_JSON)
