"""Convolutions computed as products of matrices: the same numbers, up to rounding.

A processor's kernels for convolutions are made for maps of many pixels. A late layer of a network
on small views has few (2 x 2 after ResNet-18's last stage at 64 pixels) and large weights, and
there one product with the patches beside each other takes a half to a tenth of the time, above all
for the gradient of the weights; a layer of kernel 1 is a product in any case.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MAX_PIXELS = 16
"""Up to that many pixels of its output a convolution is a product; beyond, the kernels win."""

Pair = tuple[int, int]


class ProductConv2d(nn.Conv2d):
    """A convolution that is one product of matrices where that is the faster way.

    That is: kernel 1, or an output of at most ``MAX_PIXELS`` pixels; without groups or dilation,
    padded with zeros. Everything else is left to ``nn.Conv2d``, whose state dict it has.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolves (N, C, H, W); the result lies channels-last in memory where it is a product."""
        if not self._is_product(input):
            return super().forward(input)
        rows = input.permute(0, 2, 3, 1)
        if self._is_pointwise():
            rows = rows[:, :: self.stride[0], :: self.stride[1]]
        else:
            args = rows, self.kernel_size, self.stride, self.padding
            rows = cast(Tensor, _Patches.apply(*args))
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        # Two-dimensional, because the linear layer repeats its weights over what it can't flatten.
        product = F.linear(rows.reshape(-1, rows.shape[-1]), weight, self.bias)
        return product.view(*rows.shape[:3], self.out_channels).permute(0, 3, 1, 2)

    def _is_pointwise(self) -> bool:
        return self.kernel_size == (1, 1) and self.padding == (0, 0)

    def _is_product(self, input: Tensor) -> bool:
        usual = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        if not usual or isinstance(self.padding, str) or input.dim() != 4:
            return False
        height, width = (
            (length + 2 * pad - kernel) // stride + 1
            for length, pad, kernel, stride in zip(
                input.shape[2:], self.padding, self.kernel_size, self.stride, strict=True
            )
        )
        if height < 1 or width < 1 or input.shape[1] != self.in_channels:
            return False  # nn.Conv2d says what is wrong
        return self._is_pointwise() or height * width <= MAX_PIXELS


class _Patches(torch.autograd.Function):
    """Lays out what a kernel sees at each place: (N, H', W', kernel * kernel * C) of (N, H, W, C).

    Autograd's own way through overlapping windows adds up an index for each value.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
        ctx.shape, ctx.window = input.shape, (kernel, stride, padding)
        padded = F.pad(input, (0, 0, padding[1], padding[1], padding[0], padding[0]))
        windows = padded.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        kernel, stride, (above, left) = ctx.window
        number, height, width, channels = ctx.shape
        windows = grad.reshape(*grad.shape[:3], *kernel, channels)
        total = grad.new_zeros(number, height + 2 * above, width + 2 * left, channels)
        places = total.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
        for row in range(kernel[0]):
            for column in range(kernel[1]):  # of which no two windows have the same pixel
                places[..., row, column] += windows[:, :, :, row, column]
        return total[:, above : above + height, left : left + width], None, None, None


def convert_convolutions(module: nn.Module) -> None:
    """Makes every convolution inside a module a :class:`ProductConv2d`, in place, parameters kept.

    Args:
        module: Whose convolutions are replaced; it can't be one itself. Subclasses of
            ``nn.Conv2d`` stay as they are.
    """
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, _converted(child))
        else:
            convert_convolutions(child)


def _converted(layer: nn.Conv2d) -> ProductConv2d:
    with torch.device("meta"):  # no weights are drawn, which would move the random generator
        converted = ProductConv2d(
            layer.in_channels, layer.out_channels, cast(Pair, layer.kernel_size),
            cast(Pair, layer.stride), cast(Any, layer.padding), cast(Pair, layer.dilation),
            layer.groups, layer.bias is not None, layer.padding_mode,
        )  # fmt: skip
    converted.weight, converted.bias = layer.weight, layer.bias
    return converted.train(layer.training)
