"""A signal that comes at a known step of a training, in one of its processes."""

import signal
from contextlib import contextmanager

from whytransfer.core.processes import here
from whytransfer.train import loop


@contextmanager
def signal_at(step: int, rank: int, signum: signal.Signals):
    """Sends one process a signal in its n-th step from here on."""
    calls, numbers = [], loop.numbers

    def signalling(scalars):
        calls.append(step)
        if len(calls) == step and here().rank == rank:
            signal.raise_signal(signum)
        return numbers(scalars)

    loop.numbers = signalling
    try:
        yield
    finally:
        loop.numbers = numbers
