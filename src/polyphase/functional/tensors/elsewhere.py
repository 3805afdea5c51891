"""The operators by PyTorch's own convolution with exactly our meaning, for other devices."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad

from polyphase.functional.tensors.spatial import Spatial


def conv_transpose(x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """The transposed convolution, cropped or extended where PyTorch's own cannot say it."""
    if x.dim() < w.dim():
        return conv_transpose(x[None], w, b, s)[0]
    crops = s.folded().padding
    begins = [begin for begin, _ in crops]
    rests = [begin - end for begin, end in crops]
    direct = all(
        begin >= 0 and 0 <= rest < max(stride, dilation)
        for begin, rest, stride, dilation in zip(begins, rests, s.stride, s.dilation, strict=True)
    )
    if direct:
        return torch.ops.aten.convolution(
            x, w, b, s.stride, begins, s.dilation, True, rests, s.groups
        )
    whole = torch.ops.aten.convolution(
        x, w, None, s.stride, [0] * len(crops), s.dilation, True, [0] * len(crops), s.groups
    )
    y = padded(whole, [(-begin, -end) for begin, end in crops])
    return y if b is None else y + b.reshape(-1, *(1,) * len(crops))


def conv(y: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """The strided convolution, of an input that is padded beforehand where both ends differ."""
    if y.dim() < w.dim():
        return conv(y[None], w, b, s)[0]
    begins = [begin for begin, _ in s.padding]
    if any(begin != end or begin < 0 for begin, end in s.padding):
        y = padded(y, s.padding)
        begins = [0] * len(begins)
    none = [0] * len(begins)
    return torch.ops.aten.convolution(y, w, b, s.stride, begins, s.dilation, False, none, s.groups)


def weight_grad(x: Tensor, y: Tensor, kernel_size: tuple[int, ...], s: Spatial) -> Tensor:
    """The gradient of the weights of the convolution from ``y`` to ``x``."""
    rank = len(kernel_size)
    if x.dim() == rank + 1:
        x, y = x[None], y[None]
    w = x.new_empty(x.shape[1], y.shape[1] // s.groups, *kernel_size)
    none = [0] * rank
    y = padded(y, s.padding)
    mask = [False, True, False]
    _, gradient, _ = torch.ops.aten.convolution_backward(
        x, y, w, None, s.stride, none, s.dilation, False, none, s.groups, mask
    )
    return gradient


def padded(tensor: Tensor, pads: Iterable[tuple[int, int]]) -> Tensor:
    """With zeros added where padding is positive, and positions removed where it is negative."""
    pairs = tuple(pads)
    # PyTorch lists the last axis first
    tensor = pad(tensor, [max(end, 0) for pair in reversed(pairs) for end in pair])
    for axis, (begin, end) in enumerate(pairs, start=2):
        first, last = max(-begin, 0), tensor.shape[axis] - max(-end, 0)
        tensor = tensor.narrow(axis, first, last - first)
    return tensor
