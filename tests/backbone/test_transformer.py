"""Vision transformers are timm's and torchvision's, at any size of image; others are refused."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models.vision_transformer import VisionTransformer

from whytransfer.backbone import artifact
from whytransfer.backbone.architecture import TRANSFORMERS, levels_of
from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.features import Config, named_levels, num_values, pool, pooled
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream

NARROW = Architecture(name="vit_tiny_16", width=8)
NAMES = ["embed", "block3", "block6", "block9", "block12", "class_token"]


def images(*shape):
    return torch.from_numpy(Stream(0, "x").uniform(torch.Size(shape).numel())).float().view(shape)


def backbone(architecture=NARROW, grid=4):
    """One whose class token and biases are not zero, as they are at the start."""
    made = build(architecture, Stream(1, "weights"), grid=grid).eval()
    with torch.no_grad():
        for name, value in made.net.named_parameters():
            if value.ndim == 1 or name in ("cls_token", "pos_embed"):
                value.add_(images(*value.shape) - 0.5)
    return made


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 48), (224, 224)])
def test_levels_are_timms_to_the_bit(size):
    ours, x = backbone(), images(2, 3, *size)
    maps = dict(ours.maps(x, NAMES))
    assert list(maps) == NAMES == [level.name for level in ours.levels]
    last = ours.net.forward_features(x)
    assert torch.equal(maps["class_token"][:, :, 0, 0], last[:, 0])
    assert torch.equal(maps["block12"].flatten(2).transpose(1, 2), last[:, 1:])
    _, middle = ours.net.forward_intermediates(x, indices=[2, 5, 8])
    for name, theirs in zip(("block3", "block6", "block9"), middle, strict=True):
        assert torch.equal(maps[name], theirs)
    assert torch.equal(ours(x), last[:, 0])
    for level in ours.levels:
        shape = (1, 1) if level.whole else (size[0] // level.stride, size[1] // level.stride)
        assert maps[level.name].shape == (2, level.channels, *shape)
        assert torch.equal(ours.features(x, level.name), maps[level.name])


@torch.no_grad()
def test_positions_are_interpolated_for_images_of_another_size():
    ours, x = backbone(), images(2, 3, 96, 80)
    own = ours.net.pos_embed
    grid = own[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (6, 5), mode="bicubic", antialias=True)
    fixed = VisionTransformer((96, 80), num_classes=0, embed_dim=24, depth=12, num_heads=3).eval()
    state = dict(ours.net.state_dict())
    state["pos_embed"] = torch.cat([own[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    fixed.load_state_dict(state)
    assert not torch.equal(own[:, 1:17], state["pos_embed"][:, 1:17])
    torch.testing.assert_close(ours(x), fixed(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_side_that_is_no_multiple_of_a_patch_is_filled_up_with_the_mean_colour():
    ours, x = backbone(), images(2, 3, 50, 64)
    filled = F.pad(x, (0, 0, 0, 14))
    assert torch.equal(ours.features(x, "block6"), ours.features(filled, "block6"))


@torch.no_grad()
def test_a_readout_takes_the_class_token_unless_it_is_told_to_take_the_patches():
    ours = backbone()
    pixels = (255 * images(2, 64, 64, 3)).to(torch.uint8)
    x = ours.preprocessing.normalise(pixels)
    last = ours.net.forward_features(x)
    (found,) = pooled(ours, pixels, Config()).items()
    assert found[0] == "class_token" and torch.equal(found[1], last[:, 0])
    mean = pooled(ours, pixels, Config(levels=("block12",)))["block12"]
    torch.testing.assert_close(mean, last[:, 1:].mean(dim=1))


@pytest.mark.parametrize("wanted", [None, 50, 9216])
def test_values_are_counted_as_they_are_pooled(wanted):
    ours = backbone()
    for name, maps in ours.maps(images(1, 3, 50, 50), NAMES):
        (level,) = named_levels(ours, [name])
        assert pool(maps, wanted).shape[1] == num_values(level, 50, wanted)


def test_every_parameter_belongs_to_one_level():
    ours = backbone()
    every = [name for level in NAMES[:-1] for name in ours.weights_of(level)]
    assert sorted(every) == sorted(name for name, _ in ours.net.named_parameters())
    assert ours.weights_of("class_token") == ours.weights_of("block12")
    for level in NAMES[:-1]:
        own = {p for module in ours.modules_of(level) for p in module.parameters()}
        named = {n for n, p in ours.net.named_parameters() if p in own}
        extra = {"cls_token", "pos_embed"} if level == "embed" else set()
        assert named | extra == set(ours.weights_of(level))
    assert ours.modules_of("class_token") == ()


def test_it_does_not_begin_in_the_middle():
    ours = backbone()
    with pytest.raises(ValueError, match="from the images on, not from 'block3'"):
        ours.run(images(1, 24, 4, 4), after="block3", upto="block6")
    with pytest.raises(ValueError, match="no level 'layer4': there are embed, block3"):
        ours.features(images(1, 3, 32, 32), "layer4")


def test_sizes_are_the_published_ones():
    published = {"vit_tiny_16": 192, "vit_small_16": 384, "vit_base_16": 768, "vit_large_16": 1024}
    found = {name: levels_of(Architecture(name=name))[-1].channels for name in TRANSFORMERS}
    assert found == published
    last = [levels_of(Architecture(name=name))[-2].name for name in TRANSFORMERS]
    assert last == ["block12", "block12", "block12", "block24"]
    assert build(NARROW, Stream(0, "w")).net.pos_embed.shape == (1, 14 * 14 + 1, 24)
    with pytest.raises(ValueError, match="stem_pool is a ResNet's, and vit_tiny_16 has no stem"):
        Architecture(name="vit_tiny_16", stem_pool=False)


def test_a_saved_one_comes_back_to_the_bit_with_its_positions(tmp_path):
    ours = backbone(grid=3)
    artifact.save(tmp_path, ours, {})
    loaded = artifact.load(tmp_path).eval()
    assert loaded.architecture == NARROW and loaded.net.pos_embed.shape == (1, 10, 24)
    assert torch.equal(loaded(images(1, 3, 64, 64)), ours(images(1, 3, 64, 64)))


@torch.no_grad()
@pytest.mark.parametrize("older", [False, True])
def test_torchvisions_own_file_gives_torchvisions_features(tmp_path, older):
    with torch.random.fork_rng():
        sizes = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
        theirs = torchvision.models.VisionTransformer(64, 16, **sizes, num_classes=5).eval()
    for value in theirs.parameters():
        value.add_(0.02 * (images(*value.shape) - 0.5))
    state = theirs.state_dict()
    if older:  # the names in which torchvision's weights were released
        new = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
        for now, then in new.items():
            state = {name.replace(now, then): value for name, value in state.items()}
    torch.save(state, tmp_path / "vit.pth")
    ours = artifact.load(tmp_path / "vit.pth").eval()
    theirs.heads = torch.nn.Identity()
    x = images(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("container", ["model", "state_dict", "teacher", None])
def test_timms_names_load_from_any_container(tmp_path, prefix, container):
    ours = backbone(Architecture(name="vit_tiny_16"))
    state = {prefix + name: value for name, value in ours.net.state_dict().items()}
    state |= {"head.mlp.0.weight": torch.ones(4, 4)}
    torch.save({container: state} if container else state, tmp_path / "dino.pth")
    loaded = artifact.load(tmp_path / "dino.pth")
    assert loaded.architecture == ours.architecture
    for name, value in ours.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value), name


def test_moco_v3s_small_one_has_twelve_heads_and_others_six(tmp_path):
    state = backbone(Architecture(name="vit_small_16")).net.state_dict()
    torch.save(state, tmp_path / "dino.pth")
    moco = {f"module.base_encoder.{name}": value for name, value in state.items()}
    torch.save({"state_dict": moco}, tmp_path / "moco.pth")
    loaded = [artifact.load(tmp_path / f"{name}.pth") for name in ("dino", "moco")]
    assert [one.net.blocks[0].attn.num_heads for one in loaded] == [6, 12]
    assert loaded[1].architecture == Architecture(name="vit_base_16", width=32)


def test_moco_v3s_resnet_is_read_too(tmp_path):
    ours = build(Architecture(name="resnet18", width=8), Stream(0, "weights"))
    state = {f"module.base_encoder.{n}": v for n, v in ours.net.state_dict().items()}
    state |= {"module.base_encoder.fc.0.weight": torch.ones(4, 4)}
    torch.save({"state_dict": state}, tmp_path / "moco.pth")
    assert artifact.load(tmp_path / "moco.pth").architecture == ours.architecture


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("deit_tiny_distilled_patch16_224", "a distillation token, 198 positions"),
        ("vit_tiny_r_s16_p8_224", "patches of 64×8×8"),
        ("vit_small_patch14_reg4_dinov2", "patches of 3×14×14, register tokens, scaled layers"),
        ("swin_tiny_patch4_window7_224", "3×4×4, relative positions, stages, .*no cls_token"),
        ("vit_relpos_small_patch16_224", "relative positions.*no pos_embed"),
        ("deit3_small_patch16_224", "scaled layers, 196 positions"),
        ("vit_tiny_patch16_224", "a norm behind the pooling"),
    ],
)
def test_other_transformers_are_refused_with_what_was_found(tmp_path, model, said):
    changes = {"global_pool": "avg"} if model == "vit_tiny_patch16_224" else {}
    small = {"depth": 2} if "swin" not in model else {"depths": (1, 1, 1, 1)}
    with torch.random.fork_rng():
        state = timm.create_model(model, num_classes=0, **changes, **small).state_dict()
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=f"a vision transformer with .*{said}.*; expected a plain"):
        artifact.load(tmp_path / "other.pth")


def test_unknown_widths_are_refused_unless_they_are_named(tmp_path):
    ours = backbone()
    torch.save(ours.net.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(InputError, match=r"12 blocks of 24 channels; .*vit_base_16 \(12 of 768\)"):
        artifact.load(tmp_path / "narrow.pth")
    loaded = artifact.load_checkpoint(tmp_path / "narrow.pth", NARROW)
    assert torch.equal(loaded.eval()(images(1, 3, 64, 64)), ours(images(1, 3, 64, 64)))


def test_one_lost_or_one_strange_weight_is_named(tmp_path):
    state = dict(backbone(Architecture(name="vit_tiny_16")).net.state_dict())
    bias = state.pop("blocks.3.attn.qkv.bias")
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"1 missing: blocks\.3\.attn\.qkv\.bias"):
        artifact.load(tmp_path / "m.pth")
    state |= {"blocks.3.attn.qkv.bias": bias, "pre_logits.fc.weight": torch.ones(2, 2)}
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"1 unknown: pre_logits\.fc\.weight"):
        artifact.load(tmp_path / "m.pth")
