"""Tiny networks with a known fault, and a small world for them to look at."""

import copy
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.data.dataset import from_spec
from whytransfer.data.world import things
from whytransfer.diagnose.analysis import BackboneRun, FineTunedRun

TINY = Architecture(name="resnet10", width=8, stem_pool=False)


def network(seed=0):
    """A random network; its BatchNorm is as at the start of a training."""
    return build(TINY, Stream(seed, "planted")).eval()


def nudged(net, seed=0, size=0.02):
    """The network a little further on: all weights moved by a share of their spread."""
    moved = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in moved.parameters():
            if weight.ndim == 4:
                weight += size * weight.std() * torch.randn(weight.shape, generator=generator)
    return moved


def redrawn(net, level, seed=9):
    """The network with one level's weights drawn anew."""
    changed, other = copy.deepcopy(net), network(seed)
    getattr(changed.net, level).load_state_dict(getattr(other.net, level).state_dict())
    return changed


def colour_blind(net):
    """The network whose first layer reads the brightness of a pixel, as OpenCV weighs it, alone."""
    blind = copy.deepcopy(net)
    luma = torch.tensor([0.299, 0.587, 0.114]) * torch.tensor(net.preprocessing.std)
    with torch.no_grad():
        weight = blind.net.conv1.weight
        strength = weight.sum(dim=1, keepdim=True)
        weight.copy_(strength * (luma / luma.sum())[None, :, None, None])
    return blind


def colour_only(net):
    """The network whose first layer sees red against blue alone, the mean of each window."""
    flat = copy.deepcopy(net)
    signs = torch.tensor([1.0, 0.0, -1.0]) * torch.tensor(net.preprocessing.std)
    with torch.no_grad():
        weight = flat.net.conv1.weight
        strength = weight.mean(dim=(1, 2, 3), keepdim=True)
        weight.copy_((strength * signs[None, :, None, None]).expand_as(weight))
    return flat


TINTS = {"blue": -50, "grey": 0, "red": 50}


def tint(name, split, index, size_px=32):
    """An RGB image whose class is a tint of red or blue under strong noise."""
    drawn = Stream(0, f"{split}/{name}", index)
    size = size_px // 8
    coarse = drawn.uniform(size * size, 40, 215).reshape(size, size, 1)
    image = np.repeat(cv2.resize(coarse, (size_px, size_px))[..., None], 3, axis=2)
    image += drawn.uniform(3, -15, 15)[::-1]
    image[..., 0] += TINTS[name]
    image[..., 2] -= TINTS[name]
    return image.clip(0, 255).astype(np.uint8)


def tinted(root: Path, num_per_class=16, size_px=32):
    """Writes such images, of three classes, and opens them."""
    for split, count in (("train", 1), ("val", num_per_class)):
        for name in TINTS:
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image = tint(name, split, index, size_px)
                cv2.imwrite(str(folder / f"{index:02d}.png"), image[..., ::-1])
    return from_spec({"format": "imagefolder", "root": str(root)}, None, "test")


@cache
def collapsed(seed=0, most_steps=400):
    """A network that was trained to tell tints until it kept little else of them.

    Cross-entropy with weight decay and without augmentation, which collapses classes (Papyan, Han
    and Donoho 2020), until less than 5 % of the training images' variance lies within a class.
    """
    net = network(seed)
    images = np.stack([tint(name, "fit", index) for name in TINTS for index in range(32)])
    labels = torch.arange(len(TINTS)).repeat_interleave(32)
    shown = net.preprocessing.normalise(torch.from_numpy(images))
    with seeded_torch(Stream(seed, "collapsed")):
        classify = torch.nn.Linear(net.levels[-1].channels, len(TINTS))
        orders = [torch.randperm(len(labels))[:24] for _ in range(most_steps)]
    parameters = [*net.parameters(), *classify.parameters()]
    optimiser = torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-2)
    for step, chosen in enumerate(orders):
        if step % 25 == 0 and within_classes(net.eval(), shown) < 0.05:
            return net
        guesses = classify(net.train()(shown[chosen]))
        loss = torch.nn.functional.cross_entropy(guesses, labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    raise AssertionError(f"no collapse in {most_steps} steps: {within_classes(net.eval(), shown)}")


@torch.no_grad()
def within_classes(net, shown):
    """The share of the features' variance within a class; of each as many images, in order."""
    found = net(shown).reshape(len(TINTS), -1, net.levels[-1].channels)
    return float(found.var(dim=1).mean(dim=0).sum() / found.flatten(0, 1).var(dim=0).sum())


def world(root: Path, num_train=24, num_test=64, num_shapes=3, size_px=32):
    """Writes pictures of single objects and opens them."""
    if not (root / "world.json").exists():
        config = things.Config(
            num_train=num_train, num_test=num_test, num_shapes=num_shapes, size_px=size_px
        )
        things.write(root, config, 0)
    return from_spec({**things.DATASET, "root": str(root)}, None, "test")


def loader(net):
    return lambda: copy.deepcopy(net)


def seen(arm, net, seed=0):
    return BackboneRun(arm, seed, f"{arm}{seed}", loader(net))


def alike():
    """Two arms of three random networks each, all different and none unlike the others."""
    return [seen(arm, network(3 * k + s), s) for k, arm in enumerate("ab") for s in range(3)]


def fine_tuned(arm, before, after, seed=0):
    return FineTunedRun(arm, seed, f"{arm}{seed}", loader(before), loader(after))
