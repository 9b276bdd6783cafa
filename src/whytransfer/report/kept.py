"""The results that studies left in a store, from which a page is rebuilt."""

import json
from pathlib import Path

from whytransfer.report.content import StudyResult

FOLDER = "studies"
"""The folder of a store in which each study keeps its result, as ``NAME.json``."""


def read_all(store: Path) -> list[StudyResult]:
    """Reads the results of all studies that a store has seen, by name."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((store / FOLDER).glob("*.json"))]
    return [StudyResult.model_validate(json.loads(text)["result"]) for text in texts]
