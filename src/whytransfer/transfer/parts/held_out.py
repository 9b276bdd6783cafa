"""Choosing a setting on images held out of the training split, never on the test split.

The same images are held out for every backbone and every seed, so that all arms choose on equal
terms; what was tried, and what it scored there, stays in the artifact.

    {"held_out_images": 100, "readouts": [
    {"readout": "layer4", "setting": "lr", "chosen": 3.0, "tried": [{"lr": 1.0, "top1": 40.0}]}]}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.store import write_text
from whytransfer.core.streams import Stream

CHOICES = "choices.json"


def hold_out(num_images: int, share: float) -> NDArray[np.bool_]:
    """Says of each training image whether it is held out: a fixed random choice, (N,).

    At least one is, and at least one is not.
    """
    count = min(max(1, round(share * num_images)), num_images - 1)
    held = np.zeros(num_images, dtype=np.bool_)
    held[Stream(0, "held_out").permutation(num_images)[:count]] = True
    return held


@dataclass(frozen=True)
class Choice:
    """One setting, chosen among several.

    Attributes:
        readout: What it was chosen for.
        setting: Its name.
        values: That were tried.
        correct: How many held-out images each got right.
        num_images: The held-out images.
    """

    readout: str
    setting: str
    values: tuple[float, ...]
    correct: tuple[int, ...]
    num_images: int

    @property
    def index(self) -> int:
        """Which value is chosen: the one that got most right; of equals the first."""
        return self.correct.index(max(self.correct))

    @property
    def value(self) -> float:
        """The value that is chosen."""
        return self.values[self.index]


def write_choices(folder: Path, choices: Sequence[Choice]) -> None:
    """Writes what was tried and what was chosen; nothing where there was nothing to choose."""
    if not choices:
        return
    content = {
        "held_out_images": choices[0].num_images,
        "readouts": [_plain(choice) for choice in choices],
    }
    write_text(folder / CHOICES, json.dumps(content, indent=1) + "\n")


def _plain(choice: Choice) -> dict[str, Any]:
    shares = [round(100.0 * count / choice.num_images, 4) for count in choice.correct]
    tried = zip(choice.values, shares, strict=True)
    return {
        "readout": choice.readout,
        "setting": choice.setting,
        "chosen": choice.value,
        "tried": [{choice.setting: value, "top1": share} for value, share in tried],
    }
