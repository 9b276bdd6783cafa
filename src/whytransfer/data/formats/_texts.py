"""Many short texts in two arrays, so that a million of them are cheap to keep and to send."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Texts:
    """A sequence of texts.

    Attributes:
        data: All of them in UTF-8, one after the other.
        ends: (N,) int64, where each ends in ``data``.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, items: Iterable[str]) -> Self:
        """Packs texts.

        >>> list(Texts.of(["a", "", "ö"]))
        ['a', '', 'ö']
        """
        encoded = [item.encode() for item in items]
        ends = np.cumsum([len(item) for item in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Puts sequences one behind the other."""
        sizes = [len(part.data) for part in parts]
        starts = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        ends = [part.ends + start for part, start in zip(parts, starts, strict=True)]
        return cls(np.concatenate([part.data for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start, end = self._start(index), int(self.ends[index])
        return self.data[start:end].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        data, start = self.data.tobytes(), 0
        for end in self.ends.tolist():
            yield data[start:end].decode()
            start = end

    def part(self, first: int, stop: int) -> Self:
        """Returns the texts ``first``, ..., ``stop - 1``."""
        start = self._start(first)
        end = int(self.ends[stop - 1]) if stop > first else start
        return type(self)(self.data[start:end], self.ends[first:stop] - start)

    def _start(self, index: int) -> int:
        return int(self.ends[index - 1]) if index > 0 else 0
