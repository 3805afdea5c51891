"""A report as a person reads it in a terminal."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from polyphase.models import Architecture
from polyphase.tools.check.checking import LayerReport, Report
from polyphase.tools.check.finding import SEVERITIES, Finding, by, several

NARROWEST = 40
WIDE = 110
SPEEDS = ("layer", "PyTorch ms", "polyphase ms", "faster by", "GFLOP/s", "difference")
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def rendered(report: Report, width: int | None = None) -> str:
    """The report for the terminal, or the pipe, behind ``sys.stdout``."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = width or max(console.width, NARROWEST)
    with console.capture() as capture:
        for part in _parts(report, console.width):
            console.print(part)
    return _trimmed(capture.get())


def listing(architectures: Iterable[Architecture]) -> str:
    """The built-in architectures, one a row."""
    console = Console(markup=False, highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "architecture", "source", "inputs"):
        table.add_column(name)
    for found in architectures:
        shapes = " ".join(",".join(map(str, shape)) for shape in found.input_shapes)
        table.add_row(found.name, found.title, found.source, shapes)
    with console.capture() as capture:
        console.print(table)
    return _trimmed(capture.get())


def _trimmed(text: str) -> str:
    """Without the blanks that tables leave at the ends of lines, which pasting would keep."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def summary(report: Report) -> str:
    """One sentence: how many layers, how much of the arithmetic, how many findings.

    Works for reports of any model.
    """
    count = len(report.layers)
    if not count:
        return "The model has no transposed convolution."
    share = sum(layer.share for layer in report.layers)
    found = [
        several(report.count(severity), severity)
        for severity in SEVERITIES
        if report.count(severity)
    ]
    return (
        f"{several(count, 'transposed convolution')}, {share:.1%} of "
        f"{amount(report.multiply_adds)} multiply-adds: {', '.join(found) or 'nothing found'}."
    )


def shapes(report: Report) -> str:
    """What goes in and what comes out."""
    inputs = " and ".join(by(shape) for shape in report.walk.inputs)
    if report.stops_at:
        return f"input {inputs}, no output: the model stops at {report.stops_at}"
    outputs = " and ".join(by(shape) for shape in report.walk.outputs) or "not reached"
    return f"input {inputs}, output {outputs}"


def overlap(layer: LayerReport) -> str:
    """Evenness in a word."""
    codes = layer.evenness
    if not layer.overlaps or codes is None:
        return "-"
    from polyphase.tools.check.evenness import tap_counts

    counts = [tap_counts(axis) for axis in layer.layer.problem.geometry.axes]
    if all(len(set(count)) == 1 for count in counts):
        return "even"
    return f"uneven {codes.unevenness:.0%}"


def _parts(report: Report, width: int) -> Iterator[RenderableType]:
    yield Text(report.subject.title, style="bold")
    yield Text(shapes(report) + ("  PARTIAL" if report.is_partial else ""))
    if not report.subject.has_weights:
        yield Text("The model is too large to be given weights: evenness is that of equal taps.")
    if report.layers:
        yield _layers(report, width)
    if any(layer.seconds for layer in report.layers):
        yield speeds(report)
    if report.measured:
        yield Text(speed(report) + "\n")
    for finding in report.findings:
        yield _finding(finding)
    # a table brings its own empty line
    gap = "\n" if report.findings or not report.layers else ""
    yield Text(gap + summary(report), style="bold")


def speed(report: Report) -> str:
    """What the measurement says about the whole model."""
    told = whole(report)
    found = report.measured
    if found.get("load", 0) > found.get("threads", 0) + 1:
        told += f" Other programs were busy (load {found['load']:.0f}): the times are rough."
    return told


def whole(report: Report) -> str:
    """The times of the whole model, or those of its transposed layers alone."""
    found = report.measured
    timed = [layer.seconds for layer in report.layers if layer.seconds]
    told = []
    if timed:
        theirs, ours = (sum(column) for column in zip(*timed, strict=True))
        told.append(
            f"transposed layers {duration(theirs)} with PyTorch, {duration(ours)} with "
            f"polyphase ({theirs / ours:.2f}x)"
        )
    if "whole" in found:
        theirs, ours = found["whole"]["torch"], found["whole"]["polyphase"]
        told.append(
            f"whole model {duration(theirs)} and {duration(ours)} ({theirs / ours:.2f}x), "
            f"largest difference {found['difference']:.1e} where the largest value is "
            f"{found['largest']:.2g}"
        )
    elif timed:
        worst = max(layer.difference or 0.0 for layer in report.layers)
        told.append(f"largest difference {worst:.1e}")
    if "reason" in found:
        told.append(found["reason"].rstrip("."))
    return "; ".join(told) + "."


def _layers(report: Report, width: int) -> Table:
    is_wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("layer", overflow="fold")
    for name in ("channels", "input", "output"):
        table.add_column(name, justify="right", no_wrap=True)
    if is_wide:
        table.add_column("reachable", justify="right")
    table.add_column("kernel", overflow="fold")
    table.add_column("mult-adds", justify="right", no_wrap=True)
    if is_wide:
        table.add_column("bytes", justify="right")
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("overlap", justify="right", no_wrap=True)
    for layer in report.layers:
        problem = layer.layer.problem
        cells = [
            layer.layer.name,
            f"{problem.in_channels}:{problem.out_channels}",
            by(problem.input_size),
            by(problem.output_size),
        ]
        if is_wide:
            cells.append(reachable(layer))
        cells += [parameters(layer), amount(layer.multiply_adds)]
        if is_wide:
            cells.append(decimal(layer.bytes))
        cells += [f"{layer.share:.1%}", overlap(layer)]
        table.add_row(*cells)
    return table


def speeds(report: Report) -> Table:
    """PyTorch beside polyphase, one layer a row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in SPEEDS:
        left = name == "layer"
        table.add_column(
            name, justify="left" if left else "right", overflow="fold" if left else "ellipsis"
        )
    for layer in report.layers:
        table.add_row(*speed_cells(layer))
    return table


def speed_cells(layer: LayerReport) -> list[str]:
    """The cells under ``SPEEDS``."""
    if layer.seconds is None:
        return [layer.layer.name, "", "", "no kernel", "", ""]
    theirs, ours = layer.seconds
    return [
        layer.layer.name,
        milliseconds(theirs),
        milliseconds(ours),
        f"{theirs / ours:.2f}x",
        f"{2e-9 * layer.multiply_adds / ours:.0f}",
        f"{layer.difference:.1e}",
    ]


def parameters(layer: LayerReport) -> str:
    """The parameters as in a problem line, defaults left out."""
    problem = layer.layer.problem
    told = str(problem).split()
    kept = [word for word in told if word[0] in "ksogd" and word[1:2].isdigit()]
    kept += [word for word in told if word[0] == "p" and word[1:2] in "-0123456789"]
    default = {"s": "1", "o": "0", "g": "1", "d": "1", "p": "0"}
    shown = []
    for word in sorted(kept, key=lambda word: "kspodg".index(word[0])):
        values = word[1:].split("x")
        if set(values) == {default.get(word[0])}:
            continue
        shown.append(word[0] + (values[0] if len(set(values)) == 1 else "x".join(values)))
    return " ".join(shown)


def reachable(layer: LayerReport) -> str:
    """The output sizes that some output_padding reaches."""
    problem = layer.layer.problem
    found = problem.geometry.output_sizes(problem.input_size)
    ranges = list(dict.fromkeys(found if isinstance(found, tuple) else (found,)))
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in ranges if r)


def _finding(finding: Finding) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=7)
    grid.add_column()
    head = Text(finding.severity, style=COLOURS[finding.severity])
    where = f"{finding.layer}: " if finding.layer else ""
    body = Text.assemble((where, "bold"), finding.says, (f" [{finding.code}]", "dim"))
    grid.add_row(head, body)
    grid.add_row("", Text(f"-> {finding.mend}", style="green"))
    return grid


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.00004), duration(0.0123), duration(12.3)
    ('40 us', '12.3 ms', '12.3 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds:.0f} s"
    return f"{1e6 * seconds:.3g} us"


def milliseconds(seconds: float) -> str:
    """A time in milliseconds, with three digits where it is short.

    >>> milliseconds(0.0123), milliseconds(0.0000042)
    ('12.30', '0.0042')
    """
    return f"{1e3 * seconds:.2f}" if seconds >= 1e-4 else f"{1e3 * seconds:.4f}"


def amount(count: int) -> str:
    """A count in three digits.

    >>> amount(30_700_000_000)
    '30.7 G'
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
