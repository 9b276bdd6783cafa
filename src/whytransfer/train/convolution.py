"""Convolutions computed as products of matrices: the same numbers, up to rounding.

A processor's kernels for convolutions are made for maps of many pixels. A late layer of a network
on small views has few (2 x 2 after ResNet-18's last stage at 64 pixels) and large weights, and
there one product with the patches beside each other takes a half to a tenth of the time, above all
for the gradient of the weights; a layer of kernel 1 is a product in any case. How few is few
depends on the processor: :mod:`whytransfer.train.capabilities` has the rule.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MAX_PIXELS: Mapping[str, int] = {"product": 16, "product_4": 4}
"""``training.convolution`` → to maps of how many pixels, at most, a convolution is a product."""

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair]
"""Kernel, stride and padding, as (height, width) each."""


class ProductConv2d(nn.Conv2d):
    """A convolution that is one product of matrices where that is the faster way.

    That is: kernel 1, or an output of few pixels; without groups or dilation, padded with zeros.
    Everything else is left to ``nn.Conv2d``, whose state dict it has.

    Attributes:
        max_pixels: Up to that many pixels of its output a convolution is a product.
    """

    max_pixels: int

    def forward(self, input: Tensor) -> Tensor:
        """Convolves (N, C, H, W); the result lies channels-last in memory where it is a product."""
        if not self._is_product(input):
            return super().forward(input)
        rows = input.permute(0, 2, 3, 1)
        if self._is_pointwise():
            rows = rows[:, :: self.stride[0], :: self.stride[1]]
            weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
            # Two-dimensional, because it repeats the weights over what it can't flatten.
            flat = F.linear(rows.reshape(-1, self.in_channels), weight, self.bias)
            product = flat.view(*rows.shape[:3], self.out_channels)
        else:
            window = self.kernel_size, self.stride, self.padding
            bias = None if self.bias is None else _as_computed(self.bias)
            args = _as_computed(rows), _as_computed(self.weight), bias, window
            product = cast(Tensor, _Product.apply(*args))
        return product.permute(0, 3, 1, 2)

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
        return self._is_pointwise() or height * width <= self.max_pixels


def _as_computed(tensor: Tensor) -> Tensor:
    """Returns a tensor in the precision that mixed precision computes products in, where it is."""
    kind = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return tensor
    return tensor.to(torch.get_autocast_dtype(kind))


class _Product(torch.autograd.Function):
    """The product of all patches of (N, H, W, C) with weights (O, C, h, w): (N, H', W', O).

    The gradients are products, too. Each number is rounded once, as by torch's kernels; at a stride
    above 1 the parts of the gradient of the rows are, too. That matters: where nine bfloat16 parts
    were added up in bfloat16, MoCo v2 on the world's things ended at a loss of 4.64, not 4.2 (one
    seed).
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, window: Window
    ) -> Tensor:
        patches = _patches(rows, *window)
        ctx.save_for_backward(patches, weight)
        ctx.shape, ctx.window = rows.shape, window
        product = F.linear(patches.flatten(0, 2), _last(weight).flatten(1), bias)
        return product.view(*patches.shape[:3], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        patches, weight = ctx.saved_tensors
        grad, for_rows, for_weight, for_bias = grad.contiguous(), None, None, None
        if ctx.needs_input_grad[0]:
            plain = ctx.window[1] == (1, 1)
            for_rows = (_turned if plain else _summed)(grad, weight, ctx.window, ctx.shape)
        if ctx.needs_input_grad[1]:
            product = grad.flatten(0, 2).T @ patches.flatten(0, 2)
            for_weight = product.view_as(_last(weight)).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            for_bias = grad.sum((0, 1, 2))
        return for_rows, for_weight, for_bias, None


def _last(weight: Tensor) -> Tensor:
    """Shows weights (O, C, h, w) with their channels last, as patches have them."""
    return weight.permute(0, 2, 3, 1)


def _patches(rows: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Lays out what a kernel sees at each place: (N, H', W', h * w * C) of (N, H, W, C)."""
    padded = F.pad(rows, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


def _turned(grad: Tensor, weight: Tensor, window: Window, shape: torch.Size) -> Tensor:
    """Returns the gradient of the rows at stride 1: a convolution, with the kernel turned round."""
    (height, width), stride, (above, left) = window
    patches = _patches(grad, (height, width), stride, (height - 1 - above, width - 1 - left))
    turned = weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
    return (patches.flatten(0, 2) @ turned).view(shape)


def _summed(grad: Tensor, weight: Tensor, window: Window, shape: torch.Size) -> Tensor:
    """Returns the gradient of the rows at any stride: each pixel's sum over its windows."""
    kernel, stride, (above, left) = window
    number, height, width, channels = shape
    parts = (grad.flatten(0, 2) @ _last(weight).flatten(1)).view(*grad.shape[:3], *kernel, channels)
    # Up to as many parts as the kernel has places: in bfloat16 each sum would be rounded.
    exact = torch.promote_types(grad.dtype, torch.float32)
    whole = number, height + 2 * above, width + 2 * left, channels
    total = grad.new_zeros(whole, dtype=exact)
    places = total.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
    for row in range(kernel[0]):
        for column in range(kernel[1]):  # of which no two windows have the same pixel
            places[..., row, column] += parts[:, :, :, row, column]
    return total[:, above : above + height, left : left + width].to(grad.dtype)


def convert_convolutions(module: nn.Module, max_pixels: int) -> None:
    """Makes every convolution inside a module a :class:`ProductConv2d`, in place, parameters kept.

    Args:
        module: Whose convolutions are replaced; it can't be one itself. Subclasses of
            ``nn.Conv2d`` stay as they are.
        max_pixels: See :data:`MAX_PIXELS`.
    """
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, _converted(child, max_pixels))
        else:
            convert_convolutions(child, max_pixels)


def _converted(layer: nn.Conv2d, max_pixels: int) -> ProductConv2d:
    with torch.device("meta"):  # no weights are drawn, which would move the random generator
        converted = ProductConv2d(
            layer.in_channels, layer.out_channels, cast(Pair, layer.kernel_size),
            cast(Pair, layer.stride), cast(Any, layer.padding), cast(Pair, layer.dilation),
            layer.groups, layer.bias is not None, layer.padding_mode,
        )  # fmt: skip
    converted.weight, converted.bias = layer.weight, layer.bias
    converted.max_pixels = max_pixels
    return converted.train(layer.training)
