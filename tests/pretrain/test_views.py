"""Views of a training run: pure in (seed, epoch, index), cached or not."""

import logging

import numpy as np
import pytest
import torch
from tests.data.range_server import serve

from whytransfer.core.errors import InputError, UnreadableImage
from whytransfer.data import make
from whytransfer.data.dataset import look
from whytransfer.data.device_views import apply_photometry
from whytransfer.data.formats import _folders, shards
from whytransfer.data.loader import EpochOrder, load
from whytransfer.data.sample import Sample
from whytransfer.data.views import Augmentation
from whytransfer.pretrain.views import Views, collate


class _Source:
    """Counts how often each image is decoded."""

    classes = ("a", "b")

    def __init__(self, labelled=True, broken=()):
        self.decoded = []
        self.labelled = labelled
        self.broken = broken

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.decoded.append(index)
        if index in self.broken:
            raise UnreadableImage(f"{index}.jpg", "can't be decoded")
        pixels = np.random.Generator(np.random.Philox(index)).integers(0, 256, (40, 50, 3))
        return Sample(pixels.astype(np.uint8), str(index), self.label(index))

    def name(self, index):
        return str(index)

    def label(self, index):
        return index % 2 if self.labelled else None


def _views(source=None, **arguments):
    return Views(source or _Source(), Augmentation(crop_px=16), 2, seed=1, **arguments)


def test_views_of_an_image_differ_from_each_other_and_from_those_of_the_next_epoch():
    views = _views()
    first, again, later = views(0, 3), _views()(0, 3), views(1, 3)
    assert first.index == 3
    assert first.label == 1
    assert all(np.array_equal(a, b) for a, b in zip(first.views, again.views, strict=True))
    assert not np.array_equal(first.views[0], first.views[1])
    assert not np.array_equal(first.views[0], later.views[0])


def test_the_cache_decodes_each_image_once_and_changes_no_pixel():
    source = _Source()
    cached, plain = _views(source), _views(cache_bytes=0)
    for place in ((epoch, index) for epoch in range(3) for index in range(4)):
        for a, b in zip(cached(*place).views, plain(*place).views, strict=True):
            assert np.array_equal(a, b)
    assert source.decoded == [0, 1, 2, 3]


def test_a_full_cache_decodes_the_rest_each_time():
    source = _Source()
    views = _views(source, cache_bytes=2 * 40 * 50 * 3)
    for _ in range(2):
        for index in range(4):
            views(0, index)
    assert source.decoded == [0, 1, 2, 3, 2, 3]


def test_a_batch_stacks_views_labels_and_indices():
    views = _views()
    batch = collate([views(0, index) for index in (2, 1, 3)])
    assert [tuple(view.shape) for view in batch.views] == [(3, 16, 16, 3)] * 2
    assert batch.views[0].dtype == torch.uint8
    assert batch.labels.tolist() == [0, 1, 1]
    assert batch.indices.tolist() == [2, 1, 3]
    assert torch.equal(batch.views[1][2], torch.from_numpy(views(0, 3).views[1]))


def test_a_batch_without_labels_has_none():
    views = _views(_Source(labelled=False))
    assert collate([views(0, 0), views(0, 1)]).labels is None


def _same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


class TestDeviceApplier:
    """The CPU cuts the crops, the device does the rest: the same views from the same parameters."""

    def test_views_agree_with_the_cpus(self):
        ours, theirs = _views(crops_only=True), _views()
        batch = collate([ours(2, index) for index in range(4)])
        expected = collate([theirs(2, index) for index in range(4)])
        assert expected.photometry is None
        for crops, given, whole in zip(batch.views, batch.photometry, expected.views, strict=True):
            done = apply_photometry(crops, given)
            assert done.shape == whole.shape and done.dtype == whole.dtype == torch.uint8
            assert (done.float() - whole.float()).abs().mean() <= 2
            assert not torch.equal(crops, whole)

    def test_one_decoding_serves_all_views(self):
        source = _Source()
        _views(source, crops_only=True, cache_bytes=0)(0, 1)
        assert source.decoded == [1]


class TestUnreadable:
    """An image that can't be read: an error, or another one in its place."""

    def test_is_an_error_that_names_it(self):
        with pytest.raises(InputError, match=r"2\.jpg: can't be decoded.* in epoch 3$"):
            _views(_Source(broken=(2,)))(3, 2)

    def test_is_replaced_by_the_next_that_can_be_read(self, caplog):
        views = _views(_Source(broken=(2, 3)), skip_unreadable=True)
        with caplog.at_level(logging.WARNING):
            found = [views(0, index) for index in range(4)]
            views(1, 2)
        assert [item.index for item in found] == [0, 1, 0, 0]
        assert [item.label for item in found] == [0, 1, 0, 0]
        assert [item.unreadable for item in found] == [False, False, True, True]
        assert not _same(found[0].views, found[2].views)  # in views of its own
        said = [record.getMessage() for record in caplog.records]
        assert [message.split(":")[0] for message in said] == ["2.jpg", "3.jpg"]
        assert collate(found).unreadable.tolist() == [False, False, True, True]

    def test_the_one_in_its_place_depends_on_nothing_that_was_read_before(self):
        order = [(0, 3), (0, 1), (1, 2), (0, 2), (1, 0)]
        views = _views(_Source(broken=(1, 2)), skip_unreadable=True)
        forth = {place: views(*place) for place in order}
        views = _views(_Source(broken=(1, 2)), skip_unreadable=True, cache_bytes=0)
        back = {place: views(*place) for place in reversed(order)}
        for place in order:
            assert forth[place].index == back[place].index
            assert _same(forth[place].views, back[place].views)

    def test_no_readable_image_at_all_is_an_error(self):
        views = _views(_Source(broken=range(4)), skip_unreadable=True)
        for _ in range(2):
            with pytest.raises(InputError, match="not one image"):
                views(0, 1)


class TestWhereImagesLie:
    """A server or a shard that fails is one error, not an unreadable image after the other."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        settings = {"num_train": 12, "num_test": 8, "size_px": 40, "num_shapes": 4}
        config = make.configure("things", settings, "test")
        make.make("things", tmp_path / "shards", config, seed=0, images_per_shard=6)
        return tmp_path / "shards"

    def test_a_server_that_is_down_is_asked_for_one_image(self, folder, monkeypatch):
        pauses, attempts, attempt = [], [], _folders._attempt
        monkeypatch.setattr(_folders.time, "sleep", pauses.append)
        with serve(folder) as served:
            source = shards.open(shards.Config(**shards.recognise_url(served.url)), "train")
            views = _views(source, skip_unreadable=True)
            assert not views(0, 3).unreadable
        monkeypatch.setattr(_folders, "_attempt", lambda r: attempts.append(r) or attempt(r))
        with pytest.raises(InputError, match=r"a server that answers.* can be resumed") as caught:
            views(0, 4)
        assert type(caught.value) is InputError
        assert len(attempts) == 1 + len(pauses) == 1 + len(_folders.PAUSES_SECONDS)
        with serve(folder) as served:  # back again: no image is thought to be bad
            views.source = shards.open(shards.Config(**shards.recognise_url(served.url)), "train")
            assert not views(0, 4).unreadable

    @pytest.mark.parametrize("damage", ["cut", "gone"])
    def test_a_shard_that_is_damaged_later_is_named(self, folder, damage):
        fields = {key: value for key, value in look(folder).items() if key != "format"}
        source = shards.open(shards.Config(**fields), "train")
        shard = source.path(0)
        shard.write_bytes(shard.read_bytes()[:700]) if damage == "cut" else shard.unlink()
        views = _views(source, skip_unreadable=True)
        with pytest.raises(InputError, match=shard.name) as caught:
            views(0, 5)
        assert ("shard ends at byte 700" if damage == "cut" else "no such") in str(caught.value)

    def test_a_member_that_is_no_image_is_skipped(self, folder):
        fields = {key: value for key, value in look(folder).items() if key != "format"}
        source = shards.open(shards.Config(**fields), "train")
        shard, start = source.path(0), int(source.index.start[1])
        data = bytearray(shard.read_bytes())
        data[start : start + int(source.index.size[1])] = bytes(int(source.index.size[1]))
        shard.write_bytes(data)
        found = _views(source, skip_unreadable=True)(0, 1)
        assert found.unreadable and found.index == 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("crops_only", [False, True])
def test_workers_change_no_bit(crops_only):
    batches = []
    for workers in (0, 1, 3):
        views = _views(_Source(broken=(1,)), crops_only=crops_only, skip_unreadable=True)
        found = load(views, EpochOrder(4, 2, seed=0), collate, 1, 3, workers)
        batches.append(list(found))
    for others in batches[1:]:
        for one, other in zip(batches[0], others, strict=True):
            assert _same(one.views, other.views)
            assert torch.equal(one.indices, other.indices)
            assert torch.equal(one.unreadable, other.unreadable)
            for a, b in zip(one.photometry or (), other.photometry or (), strict=True):
                assert all(np.array_equal(vars(a)[name], vars(b)[name]) for name in vars(a))
