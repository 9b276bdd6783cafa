"""Pooled features: their values, their order, what is kept of them and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import pooling

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.features import (
    Cache,
    Centre,
    Config,
    Drawn,
    cells,
    features,
    pool,
)
from whytransfer.core.errors import InputError
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec, limited
from whytransfer.data.views import CropFlip, apply_view, center_view, sample_view, view_stream
from whytransfer.data.world import things

CENTRE = Centre(resize_px=36, crop_px=32)
ALL = ("stem", "layer1", "layer2", "layer3", "layer4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("things")
    things.write(root, things.Config(num_train=11, num_test=5, size_px=48, num_shapes=3), 0)
    return from_spec({**things.DATASET, "root": str(root)}, None, "test")


def network(kind=None):
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    if kind is not None:
        backbone.__class__ = kind
    return backbone


class Counting(type(network())):
    """A backbone that counts the images it sees."""

    seen = 0

    def run(self, x, after, upto):
        if after is None:
            Counting.seen += len(x)
        return super().run(x, after, upto)


def cache_in(folder):
    return Cache(Store(folder), backbone="b" * 64, data="d" * 64)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9),
    num_values=st.integers(1, 60), seed=st.integers(0, 99),
)  # fmt: skip
def test_pooling_is_the_oracles(channels, height, width, num_values, seed):
    maps = Stream(seed, "maps").uniform(2 * channels * height * width)
    maps = maps.reshape(2, channels, height, width)
    side = cells(channels, num_values)
    ours = pool(torch.from_numpy(maps), num_values).numpy()
    if side <= min(height, width):
        np.testing.assert_allclose(ours, pooling.pooled(maps, side), rtol=1e-12)
    assert ours.shape == (2, channels * min(side, height) * min(side, width))
    np.testing.assert_allclose(
        pool(torch.from_numpy(maps), None).numpy(), pooling.pooled(maps, 1), rtol=1e-12
    )


def test_each_level_is_seen_at_its_end_and_in_the_order_of_the_source(data):
    """Against one image at a time, one level at a time, pooled by the oracle in float64."""
    backbone, source = network().double().eval(), data.open("test")
    found = features(
        backbone, source, "test", Config(view=CENTRE, levels=ALL, num_values=64, batch_size=2)
    )
    assert tuple(found) == ALL
    for index in range(len(source)):
        view = torch.from_numpy(center_view(source[index].image, 36, 32))[None]
        for level in backbone.levels:
            with torch.no_grad():
                maps = backbone.features(backbone.preprocessing.normalise(view), level.name)
            side = min(round((64 / level.channels) ** 0.5) or 1, maps.shape[2])
            expected = pooling.pooled(maps.numpy(), side)[0]
            np.testing.assert_allclose(found[level.name][index], expected, rtol=1e-5, atol=1e-7)


def test_a_drawn_view_is_that_of_its_epoch_and_seed(data):
    source, augmentation = data.open("train"), CropFlip(crop_px=32)
    backbone = network()
    view = Drawn(augmentation=augmentation, seed=5, epoch=3)
    (found,) = features(backbone, source, "train", Config(view=view)).values()
    for index in (0, 10):
        image = source[index].image
        drawn = sample_view(augmentation, view_stream(5, 3, index, 0), *image.shape[:2])
        pixels = torch.from_numpy(apply_view(image, drawn, 32))[None]
        with torch.no_grad():
            expected = backbone.eval()(backbone.preprocessing.normalise(pixels))[0]
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_bit(data, workers):
    source = data.open("train")
    config = Config(view=Drawn(augmentation=CropFlip(crop_px=32)), batch_size=4)
    alone = features(network(), source, "train", config)
    again = features(network(), source, "train", config, workers=workers)
    assert torch.equal(alone["layer4"], again["layer4"])


def test_the_backbone_is_left_as_it_was(data):
    backbone = network().train()
    backbone.net.layer1.eval()
    modes = [module.training for module in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    features(backbone, data.open("test"), "test", Config(view=CENTRE))
    assert [module.training for module in backbone.modules()] == modes
    after = backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_is_kept_is_not_computed_again(data, tmp_path):
    source, config = data.open("train"), Config(view=CENTRE, levels=ALL, num_values=64)
    backbone, cache = network(Counting), cache_in(tmp_path)
    plain = features(network(), source, "train", config)
    Counting.seen = 0
    first = features(backbone, source, "train", config, cache=cache)
    assert Counting.seen == len(source)
    again = features(backbone, source, "train", config, cache=cache_in(tmp_path))
    assert Counting.seen == len(source)
    for name in ALL:
        assert torch.equal(first[name], plain[name])
        assert torch.equal(again[name], plain[name])
    assert first["layer4"].dtype == torch.float32


def test_all_that_determines_features_names_them(data, tmp_path):
    train, test = data.open("train"), data.open("test")
    cache, config = cache_in(tmp_path), Config(view=CENTRE, levels=("layer4",))
    steps = [
        cache.step(config, train, "train"),
        cache.step(config, test, "test"),
        cache.step(config, limited(train, 4), "train"),
        Cache(cache.store, "c" * 64, cache.data).step(config, train, "train"),
        Cache(cache.store, cache.backbone, "e" * 64).step(config, train, "train"),
        *(
            cache.step(config.model_copy(update=change), train, "train")
            for change in (
                {"view": Centre(resize_px=40, crop_px=32)},
                {"view": Drawn(augmentation=CropFlip(crop_px=32), epoch=0)},
                {"view": Drawn(augmentation=CropFlip(crop_px=32), epoch=1)},
                {"levels": ("layer3",)},
                {"num_values": 64},
                {"precision": "bf16-mixed"},
                {"batch_size": 8},
            )
        ),
    ]
    assert len({step.fingerprint for step in steps}) == len(steps)
    assert cache.step(config, train, "train").fingerprint == steps[0].fingerprint


def test_altered_features_are_refused_and_a_half_written_artifact_is_made_anew(
    data, tmp_path, monkeypatch
):
    source, config, cache = data.open("test"), Config(view=CENTRE, batch_size=2), cache_in(tmp_path)

    def killed(self, x, after, upto):
        Counting.seen += 1
        if Counting.seen == 2:
            raise KeyboardInterrupt
        return super(Counting, self).run(x, after, upto)

    Counting.seen = 0
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            features(network(Counting), source, "test", config, cache=cache)
    assert list(cache.store.all()) == []
    features(network(), source, "test", config, cache=cache)
    (artifact,) = cache.store.all()
    path = artifact.path / "layer4.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"layer4\.npy: altered or missing"):
        features(network(), source, "test", config, cache=cache)


def test_a_file_of_features_can_not_be_altered_through_what_was_read(data, tmp_path):
    source, config, cache = data.open("test"), Config(view=CENTRE), cache_in(tmp_path)
    features(network(), source, "test", config, cache=cache)
    found = features(network(), source, "test", config, cache=cache)["layer4"]
    kept = found.clone()
    found.zero_()
    again = features(network(), source, "test", config, cache=cache)["layer4"]
    assert torch.equal(again, kept)


def test_a_level_that_the_backbone_lacks_is_refused(data):
    with pytest.raises(InputError, match=r"no level 'layer5'; expected some of stem, .*'layer4'\?"):
        features(network(), data.open("test"), "test", Config(levels=("layer5",)))


def test_features_that_are_not_finite_name_the_image(data, tmp_path, monkeypatch):
    backbone, source = network(), data.open("test")
    plain = backbone.run

    def broken(x, after, upto):
        maps = plain(x, after, upto)
        maps[1, 0, 0, 0] = float("nan")
        return maps

    monkeypatch.setattr(backbone, "run", broken)
    name = str(source.path(1))
    cache = cache_in(tmp_path)
    with pytest.raises(InputError, match="its features at layer4 are not finite") as error:
        features(backbone, source, "test", Config(view=CENTRE), cache=cache)
    assert error.value.where == name
    assert list(cache.store.all()) == []
