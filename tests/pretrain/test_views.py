"""Views of a training run: pure in (seed, epoch, index), cached or not."""

import numpy as np
import torch

from whytransfer.data.sample import Sample
from whytransfer.data.views import Augmentation
from whytransfer.pretrain.views import Views, collate


class _Source:
    """Counts how often each image is decoded."""

    classes = ("a", "b")

    def __init__(self, labelled=True):
        self.decoded = []
        self.labelled = labelled

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.decoded.append(index)
        pixels = np.random.Generator(np.random.Philox(index)).integers(0, 256, (40, 50, 3))
        return Sample(pixels.astype(np.uint8), str(index), self.label(index))

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
