"""Foreign arrays in, foreign arrays out: the functions of this package on NumPy arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyphase import functional
from polyphase.errors import GeometryError
from polyphase.interop.convention import Layout, Meaning

Array = NDArray[Any]
FUNCTIONS = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def checked(x_name: str, x: object, weight_name: str, weight: object) -> int:
    """The number of spatial axes of two arrays that have the same."""
    for name, value in ((x_name, x), (weight_name, weight)):
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} must be a numpy.ndarray, got {type(value).__name__}")
        if value.ndim - 2 not in FUNCTIONS:
            raise GeometryError(
                f"{name} must have 3, 4 or 5 axes, that is 1 to 3 spatial ones, "
                f"got shape {value.shape}"
            )
    if x.ndim != weight.ndim:  # type: ignore[attr-defined]
        raise GeometryError(
            f"{x_name} and {weight_name} must have the same number of axes, got shapes "
            f"{x.shape} and {weight.shape}"  # type: ignore[attr-defined]
        )
    return x.ndim - 2  # type: ignore[attr-defined,no-any-return]


def shapes(
    x_name: str, x: Array, weight_name: str, weight: Array, layout: Layout, channels: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Spatial sizes of input and weights; ``channels`` is the axis of the input's channels."""
    rank = checked(x_name, x, weight_name, weight)
    inputs, _, *spatial = layout.permutation(rank)
    if weight.shape[inputs] != x.shape[channels]:
        raise GeometryError(
            f"axis {inputs} of {weight_name}, of shape {weight.shape}, must have as many input "
            f"channels as {x_name} has: {x.shape[channels]}, in shape {x.shape}"
        )
    size = np.moveaxis(x, channels, 1).shape[2:]
    return size, tuple(weight.shape[at] for at in spatial)


def run(
    x: Array, weight: Array, bias: Array | None, meant: Meaning, groups: int = 1, channels: int = 1
) -> Array:
    """The transposed convolution of arrays whose weights are in the order that ``meant`` says."""
    geometry = meant.geometry
    ordered = weight.transpose(meant.permutation)
    if meant.flip:
        ordered = np.flip(ordered, axis=tuple(range(2, ordered.ndim)))
    result = FUNCTIONS[geometry.rank](
        np.moveaxis(x, channels, 1),
        ordered,
        bias,
        stride=geometry.stride,
        padding=geometry.pads,
        output_padding=geometry.output_padding,
        groups=groups,
        dilation=geometry.dilation,
    )
    return np.moveaxis(result, 1, channels)
