"""timm's names of a vision transformer, which DINO, MAE, DeiT and iBOT share.

Dropped: classifiers and projection heads (``head.*``), MAE's decoder and mask token. ``module.``
comes from DataParallel, ``backbone.`` from DINO's wrapper of backbone and head. Anything else is
left for the loader to report.

Source: timm, models/vision_transformer.py; facebookresearch/dino, utils.py
    (``load_pretrained_weights`` strips both prefixes); facebookresearch/mae, models_mae.py.
"""

from collections.abc import Collection

_PREFIXES = ("module.backbone.", "backbone.", "module.", "")
_FIRST = ("cls_token", "patch_embed.proj.weight")
_DROPPED = ("head.", "decoder_", "mask_token")


def matches(keys: Collection[str]) -> bool:
    """Says whether there is a class token, or a layer that makes tokens of patches."""
    return any(prefix + name in keys for prefix in _PREFIXES for name in _FIRST)


def rename(key: str) -> str | None:
    """Strips the prefix; drops heads, the decoder and its token."""
    prefix = next(prefix for prefix in _PREFIXES if key.startswith(prefix))
    name = key.removeprefix(prefix)
    return None if name.startswith(_DROPPED) else name
