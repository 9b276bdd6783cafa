"""Makes lpips_constants.json: what the released package says of pictures and weights drawn here.

In an environment of its own, with torch, torchvision and lpips 0.1.4:

    python tests/oracles/make_lpips_constants.py

Neither the trunk's ImageNet weights nor the package's linear layers are used: both are replaced by
numbers that `drawn` makes from the name of a tensor, so that nothing needs to be downloaded.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

SIDE_PX = 64


def drawn(name, shape):
    """Returns numbers that depend on the name alone: of a filter's usual size, or in [0, 1)."""
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = draw.random(shape)
    if name.startswith(("lin", "picture", "original")):
        return torch.from_numpy(values).float()
    fan_in = max(1, int(np.prod(shape[1:])))
    return torch.from_numpy((values - 0.45) * (24 / fan_in) ** 0.5).float()


def main():
    import lpips
    import torchvision

    found = {"lpips": "0.1.4", "torch": torch.__version__, "torchvision": torchvision.__version__}
    shape = (2, 3, SIDE_PX, SIDE_PX)
    for net in ("alex", "vgg", "squeeze"):
        model = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
        trunk = {}
        for name in model.net.state_dict():
            # net.sliceN.PLACE.REST is torchvision's features.PLACE.REST
            rest = name.split(".", 1)[1]
            trunk[name] = drawn(f"features.{rest}", tuple(model.net.state_dict()[name].shape))
        model.net.load_state_dict(trunk)
        for layer, linear in enumerate(model.lins):
            weight = linear.model[1].weight
            weight.data.copy_(drawn(f"lin{layer}", tuple(weight.shape)))
        with torch.no_grad():
            distance = model(drawn("picture", shape), drawn("original", shape), normalize=True)
        found[net] = distance.flatten().tolist()
    path = Path(__file__).with_name("lpips_constants.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
