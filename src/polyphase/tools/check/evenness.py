"""How evenly a transposed convolution covers its output, by its taps and by its actual weights."""

from dataclasses import dataclass
from math import prod

import numpy as np

from polyphase.arithmetic.axis import Axis
from polyphase.arithmetic.geometry import Geometry
from polyphase.tools.check.walk import Array

PHASES_LIMIT = 1 << 16


@dataclass(frozen=True)
class Evenness:
    """What each phase makes of a constant input.

    ``gains`` has one axis per spatial axis, one entry per phase: the root mean square, over all
    pairs of input and output channel, of the sum of the taps of that phase. Where there are no
    weights every tap counts 1. Source: Odena, Dumoulin & Olah 2016, distill.pub/2016/deconv-
    checkerboard.
    """

    gains: Array
    measured: bool
    pairs: int

    @property
    def unevenness(self) -> float:
        """Largest gain less smallest, in units of the mean gain; 0 is even."""
        mean = float(self.gains.mean())
        return float(np.ptp(self.gains)) / mean if mean else 0.0

    @property
    def noise(self) -> float:
        """How uneven independent random weights with even overlap may come out by chance."""
        return 6 / (2 * self.pairs) ** 0.5 if self.measured else 0.0


def evenness(geometry: Geometry, weights: Array | None) -> Evenness | None:
    """The gains of all phases; ``None`` where there are too many phases.

    >>> kernel = np.array([0.5, 1.0, 0.5])[None, None]
    >>> evenness(Geometry(3, stride=2, padding=1), kernel).unevenness
    0.0
    >>> evenness(Geometry(3, stride=2, padding=1), None).unevenness
    0.6666666666666666
    """
    if prod(axis.stride for axis in geometry.axes) > PHASES_LIMIT:
        return None
    if weights is None:
        kernel = tuple(axis.kernel_size for axis in geometry.axes)
        responses = np.ones((1, 1, *kernel))
    else:
        responses = weights.astype(np.complex128 if np.iscomplexobj(weights) else np.float64)
    for place, axis in enumerate(geometry.axes, start=2):
        moved = np.moveaxis(responses, place, -1) @ _sums(axis)
        responses = np.moveaxis(moved, -1, place)
    power = np.mean(np.abs(responses) ** 2, axis=(0, 1))
    pairs = prod(responses.shape[:2])
    return Evenness(np.sqrt(power), weights is not None, pairs)


def tap_counts(axis: Axis) -> list[int]:
    """How many taps reach each phase of one axis, in the order of the outputs.

    >>> tap_counts(Axis(3, stride=2))
    [2, 1]
    """
    return [int(n) for n in _sums(axis).sum(0)]


def _sums(axis: Axis) -> Array:
    """``(taps, phases)``: 1 where the tap belongs to the phase; the first output is phase 0."""
    sums = np.zeros((axis.kernel_size, axis.stride))
    taps = np.arange(axis.kernel_size)
    sums[taps, (axis.dilation * taps - axis.begin) % axis.stride] = 1
    return sums
