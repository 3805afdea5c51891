"""Parameters that mend a layer, as they are typed, and whether PyTorch's own layers take them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd

from polyphase.arithmetic.axis import Axis, extent
from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.values import brief, each

# kernels that are tried: this many multiples of the stride
MULTIPLES = 3


@dataclass(frozen=True, slots=True)
class AxisMend:
    """Parameters of one axis; ``front`` and ``back`` are the taps that are new at either end."""

    kernel_size: int
    begin: int
    end: int
    output_padding: int
    front: int = 0
    back: int = 0


@dataclass(frozen=True, slots=True)
class Mend:
    """Parameters of all axes, next to those of the layer as it is."""

    before: Geometry
    axes: tuple[AxisMend, ...]

    @property
    def torch_takes(self) -> bool:
        """Whether the layers of ``torch.nn`` take them, too."""
        return all(
            axis.begin == axis.end >= 0 and axis.output_padding < max(old.stride, old.dilation)
            for axis, old in zip(self.axes, self.before.axes, strict=True)
        )

    @property
    def typed(self) -> str:
        """What is typed in place of the layer's own parameters.

        >>> before = Geometry(5, stride=2, padding=((0, 0),))
        >>> Mend(before, (AxisMend(6, 0, 1, 0),)).typed
        'kernel_size=6, padding=((0, 1),)'
        """
        words = []
        kernels = tuple(axis.kernel_size for axis in self.axes)
        if kernels != tuple(axis.kernel_size for axis in self.before.axes):
            words.append(f"kernel_size={brief(kernels)}")
        pads = [(axis.begin, axis.end) for axis in self.axes]
        even = all(begin == end >= 0 for begin, end in pads)
        words.append(f"padding={brief(tuple(begin for begin, _ in pads)) if even else tuple(pads)}")
        extra = tuple(axis.output_padding for axis in self.axes)
        if any(extra) or any(each(self.before.output_padding)):
            words.append(f"output_padding={brief(extra)}")
        return ", ".join(words)

    @property
    def where(self) -> str:
        """Words behind the parameters that say who takes them."""
        return "" if self.torch_takes else " in polyphase.nn (torch.nn takes no such pairs)"

    @property
    def grown(self) -> str:
        """The call that makes weights of this kernel out of those of the layer."""
        amounts = [n for axis in reversed(self.axes) for n in (axis.front, axis.back)]
        return f"torch.nn.functional.pad(weight, {tuple(amounts)})"


def widened(geometry: Geometry, wanted: Sequence[bool], fixed: bool = True) -> Mend:
    """Kernels that are multiples of the stride and fill all of the same outputs.

    Axes that are not ``wanted`` stay. With ``fixed`` the output size is the same; otherwise it is
    the reachable sizes that stay, for calls with ``output_size``. New taps go where the old
    weights, padded with zeros, give the old result.

    >>> widened(Geometry(3, stride=2, padding=1, output_padding=1), [True]).typed
    'kernel_size=4, padding=1, output_padding=0'
    >>> widened(Geometry(5, stride=2), [True]).typed
    'kernel_size=6, padding=1, output_padding=1'
    >>> widened(Geometry(3, stride=2, padding=1), [True], fixed=False).typed
    'kernel_size=4, padding=((1, 2),)'
    """
    old = each(geometry.output_padding)
    return Mend(
        geometry,
        tuple(
            (_fixed(axis) if fixed else _reaching(axis, op))
            if chosen
            else AxisMend(axis.kernel_size, axis.begin, axis.end + op, op)
            for axis, op, chosen in zip(geometry.axes, old, wanted, strict=True)
        ),
    )


def _fixed(axis: Axis) -> AxisMend:
    """The shortest kernel that does, with a crop that PyTorch can say where there is one."""
    least = -(-axis.kernel_size // axis.stride) * axis.stride
    for kernel in range(least, least + MULTIPLES * axis.stride, axis.stride):
        new = kernel - axis.kernel_size
        found = []
        for front in range(new + 1):
            begin = axis.begin + front * axis.dilation
            end = axis.end + (new - front) * axis.dilation
            # PyTorch pads both ends alike and then gives back output_padding at the end
            if begin >= end >= 0 and begin - end < max(axis.stride, axis.dilation):
                found.append(AxisMend(kernel, begin, begin, begin - end, front, new - front))
        if found:
            return min(found, key=lambda one: one.output_padding)
        pair = _reaching(axis, 0)
        if kernel == least and min(pair.begin, pair.end) >= 0:
            return pair
    return _reaching(axis, 0)


def _reaching(axis: Axis, output_padding: int) -> AxisMend:
    new = -axis.kernel_size % axis.stride
    front = new // 2
    return AxisMend(
        axis.kernel_size + new,
        axis.begin + front * axis.dilation,
        axis.end + output_padding + (new - front) * axis.dilation,
        output_padding,
        front,
        new - front,
    )


def serving(
    geometry: Geometry, asked: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> Mend | None:
    """Parameters with which ``output_size`` reaches every size that is asked for.

    ``asked`` are pairs of input and output size. ``None`` where none serve all.

    >>> serving(Geometry((3, 2), stride=2), [((8, 8), (16, 17)), ((8, 8), (17, 16))]).typed
    'kernel_size=(4, 2), padding=(1, 0)'
    """
    pairs = list(asked)
    found = []
    for place, axis in enumerate(geometry.axes):
        served = _serving(axis, [(n[place], size[place]) for n, size in pairs])
        if served is None:
            return None
        found.append(served)
    return Mend(geometry, tuple(found))


def _serving(axis: Axis, asked: list[tuple[int, int]]) -> AxisMend | None:
    """Least size over ``stride * (n - 1)``: ``extent - begin - end``, and a stride of sizes on."""
    over = [size - (n - 1) * axis.stride for n, size in asked]
    bases = range(max(over) - axis.stride + 1, min(over) + 1)
    if axis.extent - axis.begin - axis.end in bases:
        return AxisMend(axis.kernel_size, axis.begin, axis.end, 0)
    least = -(-axis.kernel_size // axis.stride) * axis.stride
    even = range(least, least + MULTIPLES * axis.stride, axis.stride)
    kernels = even if gcd(axis.stride, axis.dilation) == 1 else range(axis.kernel_size, even.stop)
    for kernel in kernels:
        # as near as may be to the old place of the kernel
        begin = axis.begin + (kernel - axis.kernel_size) // 2 * axis.dilation
        for padding in sorted(range(extent(kernel, axis.dilation)), key=lambda p: abs(p - begin)):
            if extent(kernel, axis.dilation) - 2 * padding in bases:
                return AxisMend(kernel, padding, padding, 0)
    for kernel in kernels:
        total = extent(kernel, axis.dilation) - bases[-1] if bases else -1
        if total >= 0:
            return AxisMend(kernel, total // 2, total - total // 2, 0)
    return None
