"""Other frameworks' transposed convolutions: exactly, or :class:`~polyphase.Unsupported`.

One module for each framework. ``geometry(...)`` takes the framework's own parameters and says what
they mean: a geometry, a permutation of the weights, and whether the kernel is flipped.
``parameters(geometry, groups)`` is the way back. ``onnx``, ``keras`` and ``jax`` also have
``conv_transpose(...)`` on NumPy arrays, with the framework's exact meaning.

>>> from polyphase import interop
>>> interop.keras.geometry((3, 3), 2, "same").geometry
Geometry(kernel_size=(3, 3), stride=(2, 2), padding=((0, 1), (0, 1)))
"""

from typing import Any

from numpy.typing import NDArray

from polyphase.errors import GeometryError
from polyphase.interop import (
    caffe,
    coreml,
    flax,
    jax,
    keras,
    mlx,
    mxnet,
    onnx,
    openvino,
    paddle,
    r_torch,
    tensorflow,
    tflite,
    torch,
)
from polyphase.interop.convention import Convention, Meaning
from polyphase.interop.exact import Instead, NoExactCall
from polyphase.interop.weights import channel_axis_of, converted, spread_taps

__all__ = [
    "FRAMEWORKS",
    "Instead",
    "Meaning",
    "NoExactCall",
    "caffe",
    "channel_axis",
    "convert",
    "coreml",
    "flax",
    "jax",
    "keras",
    "mlx",
    "mxnet",
    "onnx",
    "openvino",
    "paddle",
    "r_torch",
    "spread_taps",
    "tensorflow",
    "tflite",
    "torch",
]

# in the order of the page
_MODULES = (
    torch,
    onnx,
    openvino,
    keras,
    tensorflow,
    tflite,
    jax,
    flax,
    coreml,
    mlx,
    paddle,
    mxnet,
    caffe,
    r_torch,
)
FRAMEWORKS = {module.CONVENTION.name: module for module in _MODULES}


def convert(weight: NDArray[Any], *, source: str, target: str, groups: int = 1) -> NDArray[Any]:
    """Weights of one framework as another has them, in a new array.

    Names are those of the modules. JAX and Flax are meant with their default
    ``transpose_kernel=False``; with ``True`` their weights are those of ``keras``.

    >>> import numpy as np
    >>> weight = np.arange(16 * 8 * 3 * 3).reshape(16, 8, 3, 3)
    >>> convert(weight, source="torch", target="keras").shape
    (3, 3, 8, 16)
    >>> grouped = convert(weight, source="torch", target="mlx", groups=2)
    >>> grouped.shape
    (16, 3, 3, 8)
    >>> bool((convert(grouped, source="mlx", target="torch", groups=2) == weight).all())
    True

    Raises :class:`~polyphase.GeometryError` for a shape that does not fit, and
    :class:`~polyphase.Unsupported` for groups or axes that the framework does not have.
    """
    return converted(weight, _convention("source", source), _convention("target", target), groups)


def channel_axis(framework: str, rank: int, groups: int = 1) -> int:
    """The axis of a framework's weights along which scales per output channel are kept.

    It is what ``axis`` of a quantised tensor has to be.

    >>> channel_axis("onnx", rank=2), channel_axis("tflite", rank=2), channel_axis("keras", rank=2)
    (1, 0, 2)

    Raises :class:`~polyphase.Unsupported` where the axis counts the channels of one group only.
    """
    return channel_axis_of(_convention("framework", framework), rank, groups)


def _convention(name: str, value: str) -> Convention:
    module = FRAMEWORKS.get(value)
    if module is None:
        raise GeometryError(f"{name} must be one of {', '.join(FRAMEWORKS)}, got {value!r}")
    convention: Convention = module.CONVENTION
    return convention
