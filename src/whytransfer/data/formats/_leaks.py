"""Images of the test split that are trained on: what the checks of several formats look for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.data.sample import Split

_SHOWN = 3


def shared(where: Path, splits: Mapping[Split, Iterable[tuple[str, Path]]]) -> list[InputError]:
    """Returns one problem if images of the test split are among those that are trained on.

    They are if they are the same file, or another file of the same content.

    Args:
        where: What the problem is said of.
        splits: Name and file of every image; files that are not there are passed over.
    """
    digests = {
        split: {hash_file(path): name for name, path in reversed(list(images)) if path.is_file()}
        for split, images in splits.items()
    }
    train, test = digests.get("train", {}), digests.get("test", {})
    both = sorted((name, train[digest]) for digest, name in test.items() if digest in train)
    if not both:
        return []
    named = ", ".join(a if a == b else f"{a} as {b}" for a, b in both[:_SHOWN])
    more = f" and {len(both) - _SHOWN} more" if len(both) > _SHOWN else ""
    return [
        InputError(
            where, f"{len(both)} test images are trained on: {named}{more}", "splits apart",
            "take them out of one split; a score on them measures memory",
        )
    ]  # fmt: skip
