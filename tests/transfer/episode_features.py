"""Features of made-up episodes whose classes overlap, the same on any machine."""

import numpy as np
import torch

from whytransfer.core.streams import Stream


def drawn(episodes, ways, shots, queries, values, spread=1.0, seed=0):
    """Returns support (E, W, K, D) and queries (E, W·Q, D), float32."""
    stream = Stream(seed, "heads", episodes, ways, shots)
    centres = stream.uniform(episodes * ways * values, 0, 1).reshape(episodes, ways, 1, values)

    def around(count):
        shape = (episodes, ways, count, values)
        noise = stream.uniform(int(np.prod(shape)), -spread, spread).reshape(shape)
        return torch.from_numpy((centres + noise).astype(np.float32))

    support, asked = around(shots), around(queries)
    return support, asked.flatten(1, 2)
