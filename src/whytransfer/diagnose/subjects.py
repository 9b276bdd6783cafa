"""What an analysis is asked about: finished runs by arm, seed and variant, or others' files."""

import re
from dataclasses import dataclass
from pathlib import Path

from whytransfer.core.store import Artifact
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.foreign_detections import content_hash

AGAINST = "against"
"""Role of what an arm was pretrained on among the inputs of an analysis: ``against/ARM/NUMBER``."""

_ROLE = re.compile(r"(.*)/seed(-?\d+)(?::([^/:]+))?")


@dataclass(frozen=True)
class Subject:
    """A finished run, or somebody else's file, as the analysis is to call it.

    Attributes:
        found: The artifact; the path of what is from elsewhere, a checkpoint or predictions (a
            file, or a folder of VOC's results); ``None`` for pretraining data alone, of which
            nothing was made yet.
        variant: Name of the further run that it is; empty for a run as it is.
        against: What the arm was pretrained on, for an analysis that reads it; empty for a network
            that was not trained, ``None`` where nobody said.
    """

    arm: str
    seed: int
    found: Artifact | Path | None
    variant: str = ""
    against: tuple[Dataset, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """Names the content: of the artifact, or of what is from elsewhere."""
        if self.found is None:
            return ""
        if isinstance(self.found, Artifact):
            return self.found.fingerprint
        return content_hash(self.found)

    @property
    def inputs(self) -> dict[str, str]:
        """Role → fingerprint of the run, and of what it is held against."""
        own = input_name(self.arm, self.seed, self.variant)
        sets = enumerate(self.against or ())
        roles = {against_name(self.arm, number): found.fingerprint for number, found in sets}
        return {own: self.fingerprint, **roles}


def input_name(arm: str, seed: int, variant: str = "") -> str:
    """Names a run among the inputs of an analysis."""
    return f"{arm}/seed{seed}" + (f":{variant}" if variant else "")


def read_input_name(name: str) -> tuple[str, int, str]:
    """Reads the arm, the seed and the variant that :func:`input_name` wrote."""
    found = _ROLE.fullmatch(name)
    assert found is not None, name
    return found[1], int(found[2]), found[3] or ""


def against_name(arm: str, number: int) -> str:
    """Names a dataset that an arm was pretrained on among the inputs of an analysis."""
    return f"{AGAINST}/{arm}/{number}"


def read_against_name(name: str) -> str:
    """Reads the arm that :func:`against_name` wrote."""
    return name.removeprefix(f"{AGAINST}/").rpartition("/")[0]
