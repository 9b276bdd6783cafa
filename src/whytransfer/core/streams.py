"""Named random streams: every draw is a pure function of (seed, name, counters).

A stream is counter-based (Philox 4×64-10, Salmon et al., SC 2011), keyed by a hash of its seed,
its name and its counters. So the draw for view 1 of image 17 in epoch 3 does not depend on what
was drawn before, on which process draws it, or on where a run was interrupted. Only the raw 64-bit
words of the bit generator are used, whose values NumPy guarantees; the distributions are made
here from IEEE additions and multiplications, so they are the same bits on any machine.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_TWO_POW_MINUS_53 = 2.0**-53


class Stream:
    """A source of random numbers fixed by (seed, name, counters).

    >>> Stream(0, "crop", 3, 17).uniform(2).tolist() == Stream(0, "crop", 3, 17).uniform(2).tolist()
    True
    """

    def __init__(self, seed: int, name: str, *counters: int) -> None:
        text = "/".join([str(int(seed)), name, *(str(int(c)) for c in counters)])
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=np.frombuffer(digest, dtype="<u8"))

    def raw(self, count: int) -> NDArray[np.uint64]:
        """Draws ``count`` words of 64 random bits."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Draws ``count`` numbers uniform in [low, high), each from the top 53 of 64 bits."""
        unit = (self.raw(count) >> np.uint64(11)).astype(np.float64) * _TWO_POW_MINUS_53
        return low + unit * (high - low)

    def one(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draws one number uniform in [low, high)."""
        return float(self.uniform(1, low, high)[0])

    def integers(self, count: int, bound: int) -> NDArray[np.int64]:
        """Draws ``count`` integers uniform in [0, bound); the bias is below bound/2⁵³."""
        return (self.uniform(count) * bound).astype(np.int64)

    def integer(self, bound: int) -> int:
        """Draws one integer uniform in [0, bound)."""
        return int(self.integers(1, bound)[0])

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Draws a permutation of ``range(count)``: the stable order of that many random words."""
        return np.argsort(self.raw(count), kind="stable").astype(np.int64)

    def torch_seed(self) -> int:
        """Draws a seed for a framework's own generator, in [0, 2⁶³)."""
        return int(self.raw(1)[0] >> np.uint64(1))


@contextmanager
def seeded_torch(stream: Stream) -> Iterator["torch.Generator"]:
    """Runs a block with torch's CPU generator seeded from a stream, and restores it afterwards.

    For code of other libraries that can only draw from the global generator (the initialisation
    inside ``nn.Module`` constructors); nothing leaks in or out.
    """
    import torch

    state = torch.get_rng_state()
    try:
        yield torch.manual_seed(stream.torch_seed())
    finally:
        torch.set_rng_state(state)
