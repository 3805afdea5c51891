"""The methods, best first, the reference last; each says in one sentence what it refuses.

Of those that accept a problem the plan takes the one with the fewest estimated cycles.

To add one: an entry here, a tiling and tables, and a kernel builder of the same name in
``kernels/``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from types import ModuleType
from typing import Any

from polyphase.arithmetic.problem import OPERATORS, Problem
from polyphase.engine import minimal_channels, minimal_positions, taps
from polyphase.engine.channels import ChannelsTiling
from polyphase.engine.channels_tables import ChannelsTables
from polyphase.engine.kernels import channels, minimal_weights, positions, weights
from polyphase.engine.kernels import minimal_channels as minimal_channels_kernel
from polyphase.engine.kernels import minimal_positions as minimal_positions_kernel
from polyphase.engine.kernels import taps as taps_kernel
from polyphase.engine.lines import in_lines, lie_in_lines
from polyphase.engine.minimal import LONGEST_MINIMAL_STEP, LONGEST_WINDOW, axes_of, paired
from polyphase.engine.minimal_channels_tables import MinimalChannelsTables
from polyphase.engine.minimal_positions_tables import MinimalPositionsTables
from polyphase.engine.minimal_weights_tables import MinimalWeightsTables
from polyphase.engine.minimal_weights_tiling import MOST_PRODUCTS, MinimalWeightsTiling
from polyphase.engine.minimal_weights_tiling import axes_of as minimal_weights_axes
from polyphase.engine.positions import LONGEST_UNEVEN_WINDOW, PositionsTiling
from polyphase.engine.positions_tables import PositionsTables
from polyphase.engine.stencil import stencils, step_counts
from polyphase.engine.taps import TapsTiling
from polyphase.engine.taps_tables import TapsTables
from polyphase.engine.target import Target
from polyphase.engine.tiling import Tiling, lies_last
from polyphase.engine.weights_in_lines import LinesTiling
from polyphase.engine.weights_tables import WeightsTables
from polyphase.engine.weights_tiling import WeightsTiling, reached

FLOATS = ("f32", "f64", "bf16", "f16")
# kernels count the positions of an axis in 32 bits, and may look at some beyond its end
LONGEST_AXIS = 2**31 - 2**16
# beyond this many taps or phases the tables cost more than they save
MOST_LISTED = 1 << 15
MOST_CHANNELS = 1 << 24
# the same of rows of taps, each with all rows of outputs
MOST_ROWS = 1 << 20
# a longer stride of the input would be unrolled into too much code
LONGEST_STEP = 32
# the same where channels are transposed, a square for each input of a stride
LONGEST_TRANSPOSED_STEP = 4
# channels that fill so much of their vectors gain nothing from their taps
LEAST_FILL = 0.8
# the planes of so many taps, up to 576 in two dimensions, would not stay in cache
MOST_MINIMAL_TAPS = 256


@dataclass(frozen=True)
class Method:
    """One way to compute some operators. Those without a kernel are plain NumPy.

    ``filters`` says that it makes fewer products than the definition has.
    """

    name: str
    operators: tuple[str, ...]
    refuse: Callable[[Problem, Target], str | None]
    tiling: Callable[[Problem, Target, int], Tiling | WeightsTiling] | None = None
    tables: Callable[[Any], Any] | None = None
    kernel: ModuleType | None = None
    filters: bool = False


@lru_cache(maxsize=16)
def _refuse_any_kernel(problem: Problem, target: Target) -> str | None:
    if problem.dtype not in FLOATS:
        return f"{problem.dtype} is computed by the plain path"
    if problem.dtype == "f16" and not target.halves:
        return f"{target.name} has no instruction that converts f16"
    if problem.batch == 0 or min(problem.output_size) == 0:
        return "there is no output to compute"
    longest = _longest_axis(problem)
    if longest > LONGEST_AXIS:
        return f"an axis of {longest} positions is longer than {LONGEST_AXIS}"
    taps = prod(axis.kernel_size for axis in problem.geometry.axes)
    inward, phases = step_counts(problem)
    for count, most, what in (
        (taps, MOST_LISTED, "taps"),
        (phases, MOST_LISTED, "phases"),
        (inward, MOST_LISTED, "inputs per output"),
        (max(problem.in_channels, problem.out_channels), MOST_CHANNELS, "channels"),
    ):
        if count > most:
            return f"{count} {what} are more than the {most} that tables are made for"
    return None


def _longest_axis(problem: Problem) -> int:
    """The most positions of an axis; with its padding it is as long as all steps of its outputs."""
    sizes = problem.output_size
    steps = [axis.stride if problem.operator == "conv" else 1 for axis in problem.geometry.axes]
    reads = [size * step for size, step in zip(sizes, steps, strict=True) if size > 1]
    return max(*problem.input_size, *sizes, *reads)


def _refuse_taps(problem: Problem, target: Target) -> str | None:
    """What all methods that sum over taps refuse, and ``channels`` alone."""
    if problem.operator == "weight_grad":
        return "it sums over taps, not over positions"
    return _refuse_any_kernel(problem, target)


def _refuse_positions(problem: Problem, target: Target) -> str | None:
    reason = _refuse_taps(problem, target)
    if reason:
        return reason
    width = stencils(problem)[2]
    in_last = lies_last(problem.channels_last, problem.in_channels, problem.input_size)
    longest = LONGEST_TRANSPOSED_STEP if in_last else LONGEST_STEP
    if width.in_step > longest:
        return f"it unrolls the stride, and {width.in_step} is more than {longest}"
    if len(width.offsets) > LONGEST_UNEVEN_WINDOW and not width.even:
        return f"the phases of a window of {len(width.offsets)} inputs differ in their taps"
    stride = width.out_step
    adjacent = lies_last(problem.channels_last, problem.out_channels, problem.output_size)
    if adjacent and problem.groups > 1:
        return "the channels of a group do not fill the last memory axis"
    rows = stride * (problem.out_channels if adjacent else 1)
    if rows > target.registers - 3:
        return (
            f"weaving {rows} rows together takes more than the {target.registers} vector registers"
        )
    return None


def _refuse_minimal(problem: Problem, target: Target) -> str | None:
    """What both methods of minimal filtering refuse."""
    reason = _refuse_taps(problem, target)
    if reason:
        return reason
    axes = axes_of(problem)
    if not any(paired(axis) for axis in axes):
        return "no two outputs next to each other in a phase share an input"
    longest = max(axis.in_step for axis in axes)
    if longest > LONGEST_MINIMAL_STEP:
        most = LONGEST_MINIMAL_STEP
        return f"an input stride of {longest} is more than the {most} it packs planes for"
    taps = prod(max(len(phase.taps) for phase in axis.phases) for axis in axes)
    if taps > MOST_MINIMAL_TAPS:
        return f"the planes of {taps} taps, more than {MOST_MINIMAL_TAPS}, would not stay in cache"
    return None


def _refuse_minimal_positions(problem: Problem, target: Target) -> str | None:
    reason = _refuse_minimal(problem, target)
    if reason:
        return reason
    if lies_last(problem.channels_last, problem.in_channels, problem.input_size) or lies_last(
        problem.channels_last, problem.out_channels, problem.output_size
    ):
        return "its vectors run along positions, and channels lie closer"
    width = axes_of(problem)[2]
    weave = 2 * width.out_step
    if weave > target.registers:
        return f"weaving {weave} rows together takes more than {target.registers} vector registers"
    if len(width.offsets) > LONGEST_WINDOW:
        return (
            f"its packing unrolls the window of the last axis, and {len(width.offsets)} inputs are "
            f"more than {LONGEST_WINDOW}"
        )
    return None


def _refuse_minimal_channels(problem: Problem, target: Target) -> str | None:
    reason = _refuse_minimal(problem, target)
    if reason:
        return reason
    if not problem.channels_last or 1 in (problem.in_channels, problem.out_channels):
        return "its vectors run along channels, and positions lie closer"
    return None


def _refuse_weights(problem: Problem, target: Target) -> str | None:
    if problem.operator != "weight_grad":
        return "it computes the gradient of the weights"
    if not reached(problem):
        return "no tap leads from an input to an output"
    return _refuse_any_kernel(problem, target)


def _refuse_weights_in_lines(problem: Problem, target: Target) -> str | None:
    reason = _refuse_weights(problem, target)
    if reason:
        return reason
    if not lie_in_lines(problem):
        return "channels lie in line with undilated taps, and in channels-last memory alone"
    if problem.groups > 1:
        return f"it takes the channels of one group in line, and there are {problem.groups}"
    channels = problem.out_channels
    lanes = target.lanes(problem.dtype)
    if channels >= LEAST_FILL * lanes * -(-channels // lanes):
        return f"vectors of {lanes} are filled by {channels} channels without their taps"
    return _too_long(in_lines(problem)) or _refuse_any_kernel(in_lines(problem), target)


def _too_long(lines: Problem) -> str | None:
    """What makes lines of channels and taps too long for tables."""
    axis = lines.geometry.axes[-1]
    for count, what in ((axis.kernel_size, "taps"), (axis.stride, "positions of a stride")):
        if count > MOST_LISTED:
            return f"lines of {count} {what} are longer than the {MOST_LISTED} that are listed"
    longest = _longest_axis(lines)
    if longest > LONGEST_AXIS:
        return f"an axis of {longest} positions and channels is longer than {LONGEST_AXIS}"
    return None


def _refuse_minimal_weights(problem: Problem, target: Target) -> str | None:
    reason = _refuse_weights(problem, target)
    if reason:
        return reason
    if problem.groups > 1 and problem.in_channels == problem.out_channels == problem.groups:
        return "channels that meet one by one make too few products of what is filtered"
    axes = minimal_weights_axes(problem, target)
    if all(axis.positions == 1 for axis in axes):
        return "no axis has taps and positions that share enough products"
    if any(len(axis.reach.live) < axis.axis.kernel_size for axis in axes):
        return "some taps reach no output, and products are made of several"
    products = prod(len(axis.products) for axis in axes)
    if products > MOST_PRODUCTS:
        most = MOST_PRODUCTS
        return f"code for the sums of {products} products, more than {most}, takes long to compile"
    return None


def _refuse_taps_in_line(problem: Problem, target: Target) -> str | None:
    """What ``taps`` refuses."""
    if problem.operator != "conv":
        return "its vectors run along the taps of a convolution, where weights lie side by side"
    reason = _refuse_any_kernel(problem, target)
    if reason:
        return reason
    if problem.groups > 1:
        return f"it reads the weights of one group as they lie, and there are {problem.groups}"
    offsets = stencils(problem)[2].phases[0].offsets
    if len(offsets) > 1 and abs(offsets.step) > 1:
        apart = abs(offsets.step)
        return f"taps of the last axis lie {apart} inputs apart, and it reads those side by side"
    found = taps.read(problem)
    reason = _too_long(found)
    if reason:
        return reason
    taps_and_outputs = zip(problem.geometry.axes[:-1], problem.output_size[:-1], strict=True)
    rows = prod(axis.kernel_size * size for axis, size in taps_and_outputs)
    if found is not problem and rows > MOST_ROWS:
        return f"{rows} pairs of a row of taps and one of outputs are more than {MOST_ROWS}"
    least, length = target.lanes(problem.dtype) / 2, taps.taps_in_line(found)
    if length < least:
        return f"a line of {length} taps, of fewer than {least:g}, leaves most of a vector empty"
    return None


SUMS_OVER_TAPS = ("conv_transpose", "conv")
DIRECT_WEIGHTS = Method(
    "weights", ("weight_grad",), _refuse_weights, WeightsTiling, WeightsTables, weights
)
METHODS = (
    Method("channels", SUMS_OVER_TAPS, _refuse_taps, ChannelsTiling, ChannelsTables, channels),
    Method(
        "positions", SUMS_OVER_TAPS, _refuse_positions, PositionsTiling, PositionsTables, positions
    ),
    Method(
        "minimal_positions",
        SUMS_OVER_TAPS,
        _refuse_minimal_positions,
        minimal_positions.tiling,
        MinimalPositionsTables,
        minimal_positions_kernel,
        filters=True,
    ),
    Method(
        "minimal_channels",
        SUMS_OVER_TAPS,
        _refuse_minimal_channels,
        minimal_channels.tiling,
        MinimalChannelsTables,
        minimal_channels_kernel,
        filters=True,
    ),
    Method("taps", ("conv",), _refuse_taps_in_line, TapsTiling, TapsTables, taps_kernel),
    DIRECT_WEIGHTS,
    Method(
        "weights_in_lines",
        ("weight_grad",),
        _refuse_weights_in_lines,
        LinesTiling,
        WeightsTables,
        weights,
    ),
    Method(
        "minimal_weights",
        ("weight_grad",),
        _refuse_minimal_weights,
        MinimalWeightsTiling,
        MinimalWeightsTables,
        minimal_weights,
        filters=True,
    ),
    Method("reference", OPERATORS, lambda problem, target: None),
)
