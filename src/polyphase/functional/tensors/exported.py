"""What a transposed convolution becomes in ``torch.onnx.export``: nodes with explicit pads.

Every runtime agrees on what they mean, so that the model needs no rewriting.
"""

from typing import Any

import torch
from torch import Tensor

from polyphase.arithmetic.axis import transposed_size
from polyphase.functional.tensors import elsewhere
from polyphase.functional.tensors.spatial import Spatial


def conv_transpose(x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    """One ``ConvTranspose`` where its attributes can say it; else it gives what is then cropped.

    The exporter that traces a model for TorchScript, and older versions of PyTorch, cannot be given
    nodes; they get PyTorch's own convolution.
    """
    if torch.jit.is_tracing() or not hasattr(torch.onnx, "ops"):  # type: ignore[attr-defined]
        return elsewhere.conv_transpose(x, w, b, s)
    if x.dim() < w.dim():
        return conv_transpose(x[None], w, b, s)[0]
    most = _most(s)
    crops = most.folded().padding
    if all(a >= 0 and -b < stride for (a, b), stride in zip(crops, s.stride, strict=True)):
        y = _node(x, w, b, most)
    else:
        none = (0,) * len(crops)
        whole = s._replace(padding=tuple((0, 0) for _ in none), output_padding=none)
        y = elsewhere.padded(_node(x, w, None, whole), [(-a, -b) for a, b in crops])
        y = y if b is None else y + b.reshape(-1, *(1,) * len(crops))
    for axis, (op, size) in enumerate(zip(s.output_padding, _size(x, w, s), strict=True), start=2):
        if isinstance(op, torch.SymInt):
            y = y.narrow(axis, 0, size)
    return y


def _most(s: Spatial) -> Spatial:
    """With as much output padding as there can be where it is known only when the model runs."""
    extra = tuple(
        max(stride, dilation) - 1 if isinstance(op, torch.SymInt) else op
        for op, stride, dilation in zip(s.output_padding, s.stride, s.dilation, strict=True)
    )
    return s._replace(output_padding=extra)


def _node(x: Tensor, w: Tensor, b: Tensor | None, s: Spatial) -> Tensor:
    crops = s.folded().padding
    # what an end gains is output_padding; pads are at least 0
    extra = [max(-end, 0) for _, end in crops]
    return torch.onnx.ops.symbolic(
        "ConvTranspose",
        (x, w) if b is None else (x, w, b),
        {
            "kernel_shape": [int(k) for k in w.shape[2:]],
            "strides": list(s.stride),
            "dilations": list(s.dilation),
            "pads": [begin for begin, _ in crops] + [max(end, 0) for _, end in crops],
            "output_padding": extra,
            "group": s.groups,
        },
        dtype=x.dtype,
        shape=[x.shape[0], w.shape[1] * s.groups, *_size(x, w, s)],
    )


def _size(x: Tensor, w: Tensor, s: Spatial) -> list[Any]:
    axes = zip(x.shape[2:], w.shape[2:], s.stride, s.dilation, s.folded().padding, strict=True)
    return [transposed_size(n, k, stride, d, a, b) for n, k, stride, d, (a, b) in axes]
