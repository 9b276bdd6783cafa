"""DeepLab-v3 on a dilated ResNet in plain float64: every output is a sum written out.

Written from the protocol: strides (1, 2, 1, 1) and dilations (1, 1, 2, 4) at output stride 8, or
(1, 2, 2, 1) and (1, 1, 1, 2) at 16, where the first 3×3 kernel of a dilated stage has half the
spread; a pyramid of a 1×1 kernel, 3×3 kernels of several spreads and the image's mean; one 3×3
convolution of all of it; a classifier; beside it an FCN head on stage 3. Weights are a plain
mapping of names to arrays.
"""

import math

import numpy as np

EPS = 1e-5
STRIDES = {8: (1, 2, 1, 1), 16: (1, 2, 2, 1), 32: (1, 2, 2, 2)}
DILATIONS = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}


def conv2d(x, weight, stride=1, dilation=1, bias=None, padding=None):
    """Cross-correlation of (N, C, H, W) by (O, C, k, k); outside the map there are zeros."""
    kernel = weight.shape[-1]
    padding = dilation * (kernel // 2) if padding is None else padding
    num, _, height, width = x.shape
    reach = dilation * (kernel - 1) + 1
    rows = (height + 2 * padding - reach) // stride + 1
    columns = (width + 2 * padding - reach) // stride + 1
    out = np.zeros((num, len(weight), rows, columns))
    for r in range(rows):
        for c in range(columns):
            for i in range(kernel):
                for j in range(kernel):
                    y, z = r * stride - padding + i * dilation, c * stride - padding + j * dilation
                    if 0 <= y < height and 0 <= z < width:
                        out[:, :, r, c] += x[:, :, y, z] @ weight[:, :, i, j].T
    return out if bias is None else out + bias[None, :, None, None]


def max_pool(x):
    """3×3 windows of stride 2 around every second pixel."""
    num, channels, height, width = x.shape
    out = np.empty((num, channels, (height + 1) // 2, (width + 1) // 2))
    for r in range(out.shape[2]):
        for c in range(out.shape[3]):
            top, left = max(0, 2 * r - 1), max(0, 2 * c - 1)
            out[:, :, r, c] = x[:, :, top : 2 * r + 2, left : 2 * c + 2].max(axis=(2, 3))
    return out


def relu(x):
    return np.maximum(x, 0.0)


class Network:
    """Reads weights by name.

    Args:
        weights: Name → array.
        training: BatchNorm normalises by the statistics of the whole batch, not by running ones.
    """

    def __init__(self, weights, training=False):
        self.weights, self.training = weights, training

    def norm(self, x, name):
        if self.training:
            mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        else:
            mean, variance = (self.weights[f"{name}.running_{s}"] for s in ("mean", "var"))
        scale = self.weights[f"{name}.weight"] / np.sqrt(variance + EPS)
        shift = self.weights[f"{name}.bias"] - mean * scale
        return x * scale[None, :, None, None] + shift[None, :, None, None]

    def unit(self, x, name, dilation=1):
        """A convolution, BatchNorm, ReLU: entries 0 and 1 under a name."""
        return relu(
            self.norm(conv2d(x, self.weights[f"{name}.0.weight"], 1, dilation), f"{name}.1")
        )

    def stages(self, images, output_stride, pool):
        """Returns the maps of stages 3 and 4."""
        x = relu(self.norm(conv2d(images, self.weights["conv1.weight"], 2), "bn1"))
        x = max_pool(x) if pool else x
        maps = []
        for stage in range(4):
            stride, dilation = STRIDES[output_stride][stage], DILATIONS[output_stride][stage]
            block = 0
            while f"layer{stage + 1}.{block}.conv1.weight" in self.weights:
                first = max(1, dilation // 2) if block == 0 else dilation
                name = f"layer{stage + 1}.{block}"
                x = self.block(x, name, stride if block == 0 else 1, first, dilation)
                block += 1
            maps.append(x)
        return maps[2], maps[3]

    def block(self, x, name, stride, first, dilation):
        w = self.weights
        if f"{name}.conv3.weight" in w:
            y = relu(self.norm(conv2d(x, w[f"{name}.conv1.weight"]), f"{name}.bn1"))
            y = conv2d(y, w[f"{name}.conv2.weight"], stride, first)
            y = relu(self.norm(y, f"{name}.bn2"))
            y = self.norm(conv2d(y, w[f"{name}.conv3.weight"]), f"{name}.bn3")
        else:
            y = conv2d(x, w[f"{name}.conv1.weight"], stride, first)
            y = relu(self.norm(y, f"{name}.bn1"))
            y = self.norm(conv2d(y, w[f"{name}.conv2.weight"], 1, dilation), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in w:
            x = conv2d(x, w[f"{name}.downsample.0.weight"], stride)
            x = self.norm(x, f"{name}.downsample.1")
        return relu(x + y)

    def pyramid(self, features, rates):
        """The head's logits, at the size of the features."""
        branches = [self.unit(features, "head.branches.0")]
        for number, rate in enumerate(rates, start=1):
            branches.append(self.unit(features, f"head.branches.{number}", rate))
        mean = features.mean(axis=(2, 3), keepdims=True)
        pooled = self.unit(mean, "head.pooled")
        branches.append(bilinear(pooled, features.shape[2:]))
        fused = self.unit(np.concatenate(branches, axis=1), "head.fuse")
        return self.classify(fused, "head.classify")

    def auxiliary(self, features):
        return self.classify(self.unit(features, "auxiliary.read"), "auxiliary.classify")

    def classify(self, x, name):
        return conv2d(x, self.weights[f"{name}.weight"], bias=self.weights[f"{name}.bias"])


def bilinear(x, size):
    """Resizes (N, C, H, W): pixel centres lie at halves, so corners are not aligned."""
    out = np.empty((*x.shape[:2], *size))
    for r in range(size[0]):
        for c in range(size[1]):
            (top, bottom, down), (left, right, along) = (
                _between(place, there, here)
                for place, there, here in zip((r, c), x.shape[2:], size, strict=True)
            )
            upper = (1 - along) * x[:, :, top, left] + along * x[:, :, top, right]
            lower = (1 - along) * x[:, :, bottom, left] + along * x[:, :, bottom, right]
            out[:, :, r, c] = (1 - down) * upper + down * lower
    return out


def _between(place, there, here):
    position = max(0.0, (place + 0.5) * there / here - 0.5)
    first = min(math.floor(position), there - 1)
    return first, min(first + 1, there - 1), position - first


def cross_entropy(logits, labels, ignored=255):
    """Summed over the pixels that count, by the number of all pixels."""
    total = 0.0
    for n, y, x in np.ndindex(labels.shape):
        if labels[n, y, x] != ignored:
            scores = logits[n, :, y, x]
            highest = scores.max()
            total += highest + math.log(np.exp(scores - highest).sum()) - scores[labels[n, y, x]]
    return total / labels.size
