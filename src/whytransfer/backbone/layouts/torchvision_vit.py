"""torchvision's names of a vision transformer, such as ``vit_b_16``, with or without ``module.``.

Every tensor has the shape that timm's has: queries, keys and values lie in ``in_proj_weight`` one
above the other, as in timm's ``qkv``.

Source: torchvision, models/vision_transformer.py; its released weights have the MLP's first names,
    ``linear_1`` and ``linear_2`` (``MLPBlock._load_from_state_dict``).
"""

from collections.abc import Collection

_WHOLE = {
    "class_token": "cls_token",
    "encoder.pos_embedding": "pos_embed",
    "conv_proj.weight": "patch_embed.proj.weight",
    "conv_proj.bias": "patch_embed.proj.bias",
    "encoder.ln.weight": "norm.weight",
    "encoder.ln.bias": "norm.bias",
}
_BLOCK = "encoder.layers.encoder_layer_"
_IN_A_BLOCK = {
    "ln_1": "norm1",
    "self_attention.in_proj_": "attn.qkv.",
    "self_attention.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
    "mlp.linear_1": "mlp.fc1",
    "mlp.linear_2": "mlp.fc2",
}


def matches(keys: Collection[str]) -> bool:
    """Says whether the layer that makes tokens of patches has torchvision's name."""
    return "conv_proj.weight" in keys or "module.conv_proj.weight" in keys


def rename(key: str) -> str | None:
    """Gives timm's name; drops the classifier."""
    name = key.removeprefix("module.")
    if name.startswith("heads."):
        return None
    if not name.startswith(_BLOCK):
        return _WHOLE.get(name, name)
    number, _, rest = name.removeprefix(_BLOCK).partition(".")
    for theirs, ours in _IN_A_BLOCK.items():
        if rest.startswith(theirs):
            return f"blocks.{number}.{ours}{rest.removeprefix(theirs)}"
    return name
