"""Sizes, parameter sets and explanations as a person reads them in a terminal.

The text is plain ASCII; rich chooses the lines of the tables to suit the terminal's encoding.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from polyphase.arithmetic.cost import Cost
from polyphase.arithmetic.phases import Phase
from polyphase.arithmetic.problem import Problem
from polyphase.tools.arguments import joined
from polyphase.tools.explain import (
    AxisView,
    Explanation,
    between,
    contributions,
    overlap_counts,
    picture,
)
from polyphase.tools.sizes import PARAMETERS, Sizes
from polyphase.tools.solutions import Solutions

# one colour per phase, the same in the table and in the picture
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
PHASE_ROWS = 8
MAP_ROWS, MAP_COLUMNS = 8, 16
LABEL_WIDTH = 8
# of the phase table: taps, outputs and the gaps
OTHER_COLUMNS = 22
# at the ends of lines, where the cells of tables have them, before what ends a colour
BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.M)
# narrower terminals get lines that run over
NARROWEST = 40


def rendered(parts: Callable[[int], Iterable[RenderableType]]) -> str:
    """What rich makes of the parts for the terminal, or the pipe, behind ``sys.stdout``.

    ``parts`` is called with the width in columns.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = max(console.width, NARROWEST)
    with console.capture() as capture:
        for part in parts(console.width):
            console.print(part)
    return BLANKS.sub(r"\1", capture.get())


def explanation(found: Explanation, width: int) -> Iterator[RenderableType]:
    """An explanation, part by part, for a terminal of ``width`` columns."""
    yield Text(str(found.problem), style="bold")
    yield from map(Text, _direction(found.problem))
    is_empty = any(view.is_empty for view in found.axes)
    if is_empty:
        yield Text("Nothing is computed: the output is empty.")
    for view in dict.fromkeys(found.axes):
        where = _where([n for n, other in enumerate(found.axes) if other == view], len(found.axes))
        yield _heading(f"Phases{where}", "sums over taps; x is 0 beyond its ends")
        yield _phase_table(view, width)
        if not view.is_empty:
            yield _heading(f"Picture{where}", "taps from inputs (rows) to outputs (columns)")
            yield from _picture(view, width)
    yield _heading("Overlap", "contributions per output")
    if len(found.axes) == 2 and not is_empty:
        yield from _overlap_map(found, width)
    yield Text(found.verdict)
    yield _heading("Cost", _cost_scope(found.problem))
    yield _cost_table(found.cost)
    yield Text(f"Each way also moves input, weights, bias and output: {decimal(found.cost.bytes)}.")
    yield _heading("Plan", "how this machine computes it")
    yield _plan_table(found.plan.facts)


def sizes(found: Sizes) -> Iterator[RenderableType]:
    """Sizes with their formula, axis by axis."""
    yield Text.assemble(
        f"input {_by_axis(axis.input_size for axis in found.axes)}, ",
        (f"output {_by_axis(axis.output_size for axis in found.axes)}", "bold"),
    )
    for axis in dict.fromkeys(found.axes):
        where = _where([n for n, other in enumerate(found.axes) if other == axis], len(found.axes))
        yield Text(f"\n{where[2:]}" if where else "", style="bold")
        yield Text(f"output = {axis.law}\n       = {axis.numbers}\n       = {axis.output_size}")
        yield Text(
            f"Reachable: {_span(axis.reachable)}, "
            f"with output_padding {_span(range(axis.largest_output_padding + 1))}."
        )
        yield Text(
            f"The convolution with these parameters maps {_span(axis.conv_inputs)} "
            f"back to {axis.input_size}."
        )
    yield Text(
        "\nn input, k kernel_size, s stride, p padding, d dilation, op output_padding",
        style="dim",
    )


def solutions(found: Solutions) -> Iterator[RenderableType]:
    """Parameter sets as a table, best first."""
    inputs, outputs = (
        ", ".join(map(_by_axis, listed)) for listed in (found.input_sizes, found.output_sizes)
    )
    yield Text.assemble(f"input {inputs}, ", (f"output {outputs}", "bold"), "\n")
    # nobody asks what the dilation is where it is always 1
    names = [
        name
        for name in PARAMETERS
        if name != "dilation" or any(axis.dilation > 1 for g in found.geometries for axis in g.axes)
    ]
    made = table(*(name.replace("_", " ") for name in names), "overlap")
    made.columns[0].justify = "right"
    for geometry in found.geometries:
        cells = [joined(getattr(geometry, name)) for name in names]
        made.add_row(*cells, between(*contributions(geometry)))
    yield made
    yield Text("Overlap is contributions per output; where they differ there is a checkerboard.")
    axes = (axis for geometry in found.geometries for axis in geometry.axes)
    if any(max(axis.begin, axis.end) >= axis.extent for axis in axes):
        told = "Padding as long as the kernel loses inputs at the border."
        pairs = zip(found.input_sizes, found.output_sizes, strict=True)
        if any(n > o for sizes in pairs for n, o in zip(*sizes, strict=True)):
            told += " To make a size smaller, use an ordinary convolution."
        yield Text(told)
    if found.is_full:
        yield Text(f"These are the best {len(found.geometries)}; --limit lists more.")
    if found.stopped:
        yield Text(f"{found.stopped[:1].upper()}{found.stopped[1:]}.")


def _span(values: range) -> str:
    if not values:
        return "no size"
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def table(*columns: str) -> Table:
    """An empty table whose columns after the first are numbers, right-aligned."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        # folded, because an ellipsis is a letter that not every terminal has
        made.add_column(name, justify="right" if number else "left", overflow="fold")
    return made


def grouped(value: int) -> str:
    """A whole number with its thousands apart, or in powers of ten where it is long.

    >>> grouped(3686400), grouped(2 * 10**20)
    ('3,686,400', '2.000e+20')
    """
    return f"{value:,}" if abs(value) < 10**15 else f"{value:.3e}"


def _heading(title: str, remark: str) -> Text:
    return Text.assemble("\n", (title, "bold"), f": {remark}")


def _where(numbers: list[int], rank: int) -> str:
    if rank == 1:
        return ""
    if len(numbers) == 1:
        return f", axis {numbers[0]}"
    return f", axes {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} alike"


def _direction(problem: Problem) -> Iterator[str]:
    text = f"input {_by_axis(problem.input_size)}, output {_by_axis(problem.output_size)}"
    if problem.operator == "conv":
        text += "; shown is its transpose, whose input x is the output here, and y the input"
    elif problem.operator == "weight_grad":
        text += "; the gradient of a tap sums x times y over the pairs that the tap joins"
    yield text
    if problem.rank > 1:
        yield "The axes are independent: contributions and taps multiply."


def _by_axis(size: Iterable[int]) -> str:
    return "x".join(map(str, size))


def _phase_table(view: AxisView, width: int) -> Table:
    made = table("output", "sum", "taps", "outputs")
    made.columns[1].justify = "left"
    hidden = range(PHASE_ROWS - 1, len(view.phases) - 1)
    # leave out a product of each sum where the last, which has the longest numbers, would wrap
    last = view.phases[-1]
    leading = 2 if len(_position(last) + _sum(last, 2)) + OTHER_COLUMNS <= width else 1
    for number, phase in enumerate(view.phases):
        if len(hidden) < 2 or number not in hidden:
            made.add_row(
                _position(phase),
                _sum(phase, leading),
                grouped(len(phase.taps)),
                grouped(phase.count(view.output_size)),
                style=_colour(phase.start, view),
            )
        elif number == hidden[0]:
            made.add_row("...", f"{grouped(len(hidden))} phases more")
    return made


def _position(phase: Phase) -> str:
    step = "m" if phase.stride == 1 else f"{phase.stride}m"
    return f"y[{step}+{phase.start}]" if phase.start else f"y[{step}]"


def _sum(phase: Phase, leading: int) -> str:
    if phase.is_empty:
        return "none: the bias alone"
    terms = [
        f"w[{tap}] x[m{offset:+d}]" if offset else f"w[{tap}] x[m]"
        for tap, offset in (
            (phase.taps[j], phase.offsets[j])
            for j in dict.fromkeys([*range(min(leading, len(phase.taps))), len(phase.taps) - 1])
        )
    ]
    if len(phase.taps) > len(terms):
        terms.insert(-1, "...")
    return " + ".join(terms)


def _colour(position: int, view: AxisView) -> str:
    return COLOURS[position % view.axis.stride % len(COLOURS)]


def _picture(view: AxisView, width: int) -> Iterator[Text]:
    axis, inside = view.axis, range(view.output_size)
    # wide enough for any number that can appear where at most `width` outputs fit
    cell = len(str(max(min(view.output_size, width) - 1, axis.kernel_size))) + 1
    last = max(0, min(view.input_size - 1, (width + axis.begin) // axis.stride))
    label_width = max(LABEL_WIDTH, len(f"x[{last}] "))
    drawn = picture(view, max(1, (width - label_width - 1) // cell))
    lines = Text(no_wrap=True, overflow="crop")

    def line(label: str, cells: Iterable[str], style: str = "") -> None:
        lines.append(f"{label:<{label_width}}")
        for position, text in zip(drawn.outputs, cells, strict=True):
            lines.append("|" if position in (0, inside.stop) else " ", style="dim")
            shade = style or _colour(position, view)
            lines.append(f"{text:>{cell - 1}}", style=shade if position in inside else "dim")
        lines.append("|\n" if drawn.outputs.stop == inside.stop else "\n", style="dim")

    line("output", (str(p) if p in inside else "-" for p in drawn.outputs), "bold")
    for i, row in zip(drawn.inputs, drawn.rows, strict=True):
        line(f"x[{i}]", ("" if tap is None else str(tap) for tap in row))
    if drawn.hidden_inputs:
        lines.append(f"...{'':<{label_width - 3}} {grouped(drawn.hidden_inputs)} inputs more\n")
    line("count", map(str, drawn.counts), "bold")
    lines.rstrip()
    yield lines
    if drawn.outputs[0] < 0 or drawn.outputs[-1] >= inside.stop:
        yield Text("What padding removes is marked -.")
    if drawn.outputs.stop < inside.stop:
        turns = f" The {grouped(axis.stride)} phases take turns." if axis.stride > 1 else ""
        yield Text(f"Outputs 0 to {drawn.outputs[-1]} of {grouped(inside.stop)}.{turns}")


def _overlap_map(found: Explanation, width: int) -> Iterator[Text]:
    rows, columns = found.axes
    cell = len(str(found.contributions[1])) + 1
    down = overlap_counts(rows, range(min(MAP_ROWS, rows.output_size)))
    across = overlap_counts(columns, range(min(width // cell, MAP_COLUMNS, columns.output_size)))
    lines = ["".join(f"{a * b:>{cell}}" for b in across) for a in down]
    yield Text("\n".join(lines), no_wrap=True, overflow="crop")
    if len(down) < rows.output_size or len(across) < columns.output_size:
        size = rows.output_size, columns.output_size
        yield Text(f"The first {len(down)}x{len(across)} of {_by_axis(size)}.")


def _cost_scope(problem: Problem) -> str:
    return (
        f"batch {grouped(problem.batch)}, channels {grouped(problem.in_channels)} to "
        f"{grouped(problem.out_channels)}, {problem.dtype}"
    )


def _plan_table(facts: list[tuple[str, str]]) -> Table:
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    made.add_column()
    made.add_column(overflow="fold")
    for label, text in facts:
        # the table above tells what it costs
        if label != "cost":
            made.add_row(label, text)
    return made


def _cost_table(cost: Cost) -> Table:
    made = table("way", "multiplications", "x phases", "intermediate")
    ways = {
        "zero insertion": cost.zero_insertion,
        "column buffer": cost.column_buffer,
        "phases": cost.phases,
    }
    for name, work in ways.items():
        ratio = (
            f"{work.multiplications / cost.phases.multiplications:.2f}"
            if cost.phases.multiplications
            else "-"
        )
        made.add_row(
            name,
            grouped(work.multiplications),
            ratio,
            decimal(work.intermediate_bytes) if work.intermediate_bytes else "none",
        )
    return made
