"""Writes easyfsl_constants.json: what the released package guesses for given features.

    python -m tests.oracles.make_easyfsl_constants

Run it in an environment that has easyfsl beside this package (``pip install easyfsl``); the file
says which versions it was made with. PrototypicalNetworks rank by the Euclidean distance to mean
features, which is the order of cosines for one shot of length 1; SimpleShot ranks by the cosine to
mean features.
"""

import importlib.metadata
import json
import platform
from pathlib import Path

import torch
from easyfsl.methods import PrototypicalNetworks, SimpleShot
from tests.transfer.episode_features import drawn

CASES = (
    ("prototypical, 1 shot", PrototypicalNetworks, 1, True),
    ("simple shot, 1 shot", SimpleShot, 1, False),
    ("simple shot, 5 shots", SimpleShot, 5, False),
)


def guesses(method, support, queries):
    """Asks the package, episode by episode."""
    ways, shots = support.shape[1:3]
    labels = torch.arange(ways).repeat_interleave(shots)
    found = []
    for learned, asked in zip(support, queries, strict=True):
        method.process_support_set(learned.flatten(0, 1), labels)
        found.append(method(asked).argmax(dim=1).tolist())
    return found


def main():
    cases = []
    for name, kind, shots, unit_length in CASES:
        given = {"episodes": 12, "ways": 5, "shots": shots, "queries": 4, "values": 7}
        support, queries = drawn(**given)
        if unit_length:
            support, queries = (
                torch.nn.functional.normalize(x, dim=-1) for x in (support, queries)
            )
        answer = {"guesses": guesses(kind(), support, queries)}
        cases.append({"name": name, **given, "unit_length": unit_length, **answer})
    versions = {name: importlib.metadata.version(name) for name in ("easyfsl", "torch", "numpy")}
    content = {"versions": {**versions, "python": platform.python_version()}, "cases": cases}
    path = Path(__file__).with_name("easyfsl_constants.json")
    path.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
