"""A setting that a readout chose on held-out training images: what was tried, what it scored there.

Which images those are is :mod:`whytransfer.data.held_out`'s to say. It all stays in the artifact:

    {"held_out_images": 100, "readouts": [
    {"readout": "layer4", "setting": "lr", "chosen": 3.0, "tried": [{"lr": 1.0, "top1": 40.0}]}]}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whytransfer.core.store import write_text

CHOICES = "choices.json"


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
