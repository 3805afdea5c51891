"""Random parameters of other frameworks' transposed convolutions, legal and not, in their terms.

``draw(name, rng, rank)`` gives keywords for ``polyphase.interop.<name>.geometry``. Everything is
small, so that kernels shorter than the stride, pads beyond the kernel and empty results are common.
"""

from typing import Any, NamedTuple

import numpy as np

from polyphase import Geometry

# of kernel, stride and dilation; of sizes, by number of axes
MOST, SIZES = 4, {1: 6, 2: 4, 3: 3}


class Call(NamedTuple):
    """Keywords for ``geometry``, and the sizes of the input and of the kernel."""

    keywords: dict[str, Any]
    size: tuple[int, ...]
    kernel: tuple[int, ...]


def draw(name, rng, rank=1):
    size = tuple(rng.randint(1, SIZES[rank]) for _ in range(rank))
    kernel, stride, dilation = (several(rng, rank, 1, MOST) for _ in range(3))
    if rng.random() < 0.5:
        dilation = (1,) * rank
    return Call(DRAWN[name](rng, rank, size, kernel, stride, dilation), size, kernel)


def geometry_of(rng, rank):
    """Any geometry that leaves something of some input, with crops of every kind."""
    while True:
        kernel, stride, dilation = (several(rng, rank, 1, MOST) for _ in range(3))
        if rng.random() < 0.5:
            dilation = (1,) * rank
        kind = rng.choice(("torch", "free", "same"))
        if kind == "same":
            return Geometry.same(kernel, stride, dilation=dilation)
        crops = [several(rng, 2, -2, 4) for _ in range(rank)]
        extra = [0] * rank
        if kind == "torch":
            crops = [(max(a, 0), max(a, 0)) for a, _ in crops]
            extra = [rng.randint(0, s - 1) for s in stride]
        return Geometry(kernel, stride, padding=crops, output_padding=extra, dilation=dilation)


def numbers(rng, shape):
    """Small integers as float32."""
    return np.random.default_rng(rng.getrandbits(32)).integers(-4, 5, shape).astype(np.float32)


def full_size(size, kernel, stride, dilation):
    columns = zip(size, kernel, stride, dilation, strict=True)
    return [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in columns]


def several(rng, rank, low, high):
    return tuple(rng.randint(low, high) for _ in range(rank))


def _sizes_near(rng, size, kernel, stride, dilation):
    """Output sizes from 1 to a little above the full result."""
    return [rng.randint(1, full + 3) for full in full_size(size, kernel, stride, dilation)]


def _torch(rng, rank, size, kernel, stride, dilation):
    keywords = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": several(rng, rank, -1, 4),
        "output_padding": several(rng, rank, 0, 4),
        "dilation": dilation,
    }
    if rng.random() < 0.3:
        del keywords["output_padding"]
        wanted = tuple(_sizes_near(rng, size, kernel, stride, dilation))
        keywords |= {"input_size": size, "output_size": wanted}
    return keywords


def _onnx(rng, rank, size, kernel, stride, dilation):
    keywords = {"kernel_shape": list(kernel), "strides": list(stride), "dilations": list(dilation)}
    if rng.random() < 0.5:
        keywords["output_padding"] = list(several(rng, rank, 0, 3))
    mode = rng.choice(("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if mode != "NOTSET" or rng.random() < 0.3:
        keywords["auto_pad"] = mode
    if rng.random() < 0.4:
        keywords["output_shape"] = _sizes_near(rng, size, kernel, stride, dilation)
        keywords["input_size"] = size
    elif mode == "NOTSET" or rng.random() < 0.1:
        keywords["pads"] = list(several(rng, 2 * rank, -rng.getrandbits(1), 4))
    return keywords


def _openvino(rng, rank, size, kernel, stride, dilation):
    keywords = {
        "kernel_size": kernel,
        "strides": list(stride),
        "pads_begin": list(several(rng, rank, 0, 4)),
        "pads_end": list(several(rng, rank, 0, 4)),
        "dilations": list(dilation),
        "auto_pad": rng.choice(("explicit", "explicit", "valid", "same_upper", "same_lower")),
        "output_padding": list(several(rng, rank, 0, 5)),
    }
    if rng.random() < 0.5:
        keywords["output_shape"] = _sizes_near(rng, size, kernel, stride, dilation)
        keywords["input_size"] = size
    return keywords


def _keras(rng, rank, size, kernel, stride, dilation):
    keywords = {
        "kernel_size": kernel,
        "strides": stride,
        "padding": rng.choice(("valid", "same")),
        "dilation_rate": dilation,
    }
    if rng.random() < 0.6:
        keywords["output_padding"] = several(rng, rank, 0, 4)
    return keywords


def _tensorflow(rng, rank, size, kernel, stride, dilation):
    padding = rng.choice(("SAME", "VALID"))
    low = [(n - 1) * s for n, s in zip(size, stride, strict=True)]
    wanted = [
        rng.randint(max(base - 2, 0), full + 2)
        for base, full in zip(low, full_size(size, kernel, stride, dilation), strict=True)
    ]
    if rank == 2 and rng.random() < 0.4:
        pads = [list(several(rng, 2, 0, 3)) for _ in range(2)]
        padding = [[0, 0], *pads, [0, 0]]
        wanted = [
            max(full - sum(pair) + rng.randint(-1, 4), 0)
            for full, pair in zip(full_size(size, kernel, stride, dilation), pads, strict=True)
        ]
    elif rng.random() < 0.7:
        # the others are refused nearly always
        starts = [
            base + (1 if padding == "SAME" else (k - 1) * d + 1)
            for base, k, d in zip(low, kernel, dilation, strict=True)
        ]
        wanted = [least + rng.randint(0, s - 1) for least, s in zip(starts, stride, strict=True)]
    return {
        "kernel_size": kernel,
        "input_size": size,
        "output_shape": [1, *wanted, 1],
        "strides": stride,
        "padding": padding,
        "dilations": dilation,
    }


def _tflite(rng, rank, size, kernel, stride, dilation):
    keywords = _tensorflow(rng, rank, size, kernel, stride, (1,) * rank)
    if not isinstance(keywords["padding"], str):
        keywords["padding"] = "VALID"
    del keywords["dilations"], keywords["strides"]
    return {**keywords, "stride_h": stride[0], "stride_w": stride[1]}


def _jax(rng, rank, size, kernel, stride, dilation):
    keywords = {"kernel_size": kernel, "strides": stride, "rhs_dilation": dilation}
    keywords["padding"] = rng.choice(("SAME", "VALID", *[None] * 3))
    if keywords["padding"] is None:
        keywords["padding"] = [several(rng, 2, -2, 6) for _ in range(rank)]
    keywords["use_consistent_padding"] = rng.random() < 0.3
    keywords["transpose_kernel"] = rng.random() < 0.5
    return keywords


def _flax(rng, rank, size, kernel, stride, dilation):
    keywords = _jax(rng, rank, size, kernel, stride, dilation)
    del keywords["use_consistent_padding"], keywords["rhs_dilation"]
    if not isinstance(keywords["padding"], str) and rng.random() < 0.4:
        keywords["padding"] = rng.choice((rng.randint(0, 5), list(several(rng, rank, 0, 5))))
    return {**keywords, "kernel_dilation": dilation}


def _coreml(rng, rank, size, kernel, stride, dilation):
    keywords = {
        "kernel_size": kernel,
        "strides": list(stride),
        "pad_type": rng.choice(("valid", "same", "custom", "custom")),
        "dilations": list(dilation),
    }
    if keywords["pad_type"] == "custom":
        keywords["pad"] = list(several(rng, 2 * rank, 0, 4))
    elif rng.random() < 0.4:
        wanted = _sizes_near(rng, size, kernel, stride, dilation)
        keywords |= {"output_shape": [1, 1, *wanted], "input_size": size}
    return keywords


def _mlx(rng, rank, size, kernel, stride, dilation):
    return {
        "kernel_size": kernel,
        "stride": stride,
        "padding": several(rng, rank, 0, 4),
        "dilation": dilation,
        "output_padding": several(rng, rank, 0, 5),
    }


def _paddle(rng, rank, size, kernel, stride, dilation):
    keywords = {"kernel_size": kernel, "stride": stride, "dilation": dilation}
    kind = rng.choice(("word", "one", "each", "ends", "ends", "all"))
    pairs = [list(several(rng, 2, 0, 3)) for _ in range(rank)]
    keywords["padding"] = {
        "word": rng.choice(("SAME", "VALID", "same")),
        "one": rng.randint(-1, 3),
        "each": list(several(rng, rank, 0, 3)),
        "ends": [entry for pair in pairs for entry in pair],
        "all": [[0, 0], [0, 0], *pairs],
    }[kind]
    keywords["input_size"] = size
    if rng.random() < 0.3:
        keywords["output_size"] = _sizes_near(rng, size, kernel, stride, dilation)
    elif rng.random() < 0.5:
        keywords["output_padding"] = list(several(rng, rank, 0, 4))
    return keywords


def _mxnet(rng, rank, size, kernel, stride, dilation):
    keywords = {
        "kernel": kernel,
        "stride": stride,
        "dilate": dilation,
        "pad": several(rng, rank, 0, 4),
        "adj": several(rng, rank, 0, 4),
    }
    if rng.random() < 0.4:
        wanted = tuple(_sizes_near(rng, size, kernel, stride, dilation))
        keywords |= {"target_shape": wanted, "input_size": size}
    return keywords


def _caffe(rng, rank, size, kernel, stride, dilation):
    pads = several(rng, rank, 0, 4)
    return {"kernel_size": kernel, "stride": stride, "pad": pads, "dilation": dilation}


DRAWN = {
    "torch": _torch,
    "onnx": _onnx,
    "openvino": _openvino,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "tflite": _tflite,
    "jax": _jax,
    "flax": _flax,
    "coreml": _coreml,
    "mlx": _mlx,
    "paddle": _paddle,
    "mxnet": _mxnet,
    "caffe": _caffe,
    "r_torch": _torch,
}
