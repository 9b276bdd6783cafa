"""MoCo v3: the base encoder is the backbone, a vision transformer or a ResNet.

Dropped: its head (``head.*`` of a transformer, ``fc.*`` of a ResNet), the momentum encoder and the
predictor. The variants with a stem of convolutions (``vit_conv_*``) are refused.

Source: facebookresearch/moco-v3, main_lincls.py (which encoder, which head); vits.py (``vit_small``
    has 12 heads of 32 channels, where everybody else's has 6 of 64).
"""

from collections.abc import Collection

HEADS = {384: 12}

_BASE = "module.base_encoder."
_DROPPED = ("module.momentum_encoder.", "module.predictor.", _BASE + "head.", _BASE + "fc.")


def matches(keys: Collection[str]) -> bool:
    """Says whether there is a base encoder."""
    return any(key.startswith(_BASE) for key in keys)


def rename(key: str) -> str | None:
    """Strips the base encoder's prefix; drops its head, the momentum encoder, the predictor."""
    return None if key.startswith(_DROPPED) else key.removeprefix(_BASE)
