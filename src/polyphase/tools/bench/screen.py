"""Results in a terminal, row by row as they come."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from polyphase.arithmetic.problem import Problem
from polyphase.tools.bench.machine import Roof
from polyphase.tools.bench.report import Report, milliseconds, percent, ratio, threads
from polyphase.tools.bench.rows import OURS, TORCH, TORCH_LAST, Row, summary

WIDE = 110
LONGEST_NAME = 21
# more processes than this, and the times are not those of a quiet machine
QUIET_LOAD = 0.5
LEGEND = """\
ms: median of a call; noise: half the distance between the quartiles.
roof: least time of multiply-adds or memory, as a share of ms; plan: predicted.
x torch, x last: times faster than torch with channels first, channels last."""
LEGEND_OF_BEST = "x best: times faster than the fastest other engine, measured here or known."

KINDS = {
    "conv_transpose": "forward",
    "conv": "gradient of the input",
    "weight_grad": "gradient of the weights",
    "step": "forward and backward",
}


class Screen:
    """Lines for a terminal of ``width`` columns; wide ones show more of a row."""

    def __init__(self, width: int, problems: Sequence[Problem], *, best: bool) -> None:
        """``best`` says whether there is an engine besides torch to hold polyphase against."""
        longest = max(len(problem.name) for problem in problems)
        self._name_width = min(max(longest, 6), LONGEST_NAME)
        self._wide = width >= WIDE
        self._kind = "conv_transpose"
        self._columns = {
            "ms": 6,
            "GF/s": 4,
            "roof": 4,
            **({"plan": 4, "bound": 7} if self._wide else {}),
            "x torch": 7,
            "x last": 6,
            **({"x best": 6} if best else {}),
            **({"torch ms": 8, "last ms": 7} if self._wide else {}),
            "noise": 5,
        }

    def head(self, roof: Roof, load: float | None) -> Iterator[Text]:
        """The machine and the titles."""
        yield Text(
            f"{roof.dtype}, {threads(roof)}: multiply-adds {roof.gflops:.0f} GFLOP/s, "
            f"copies {roof.gbytes:.0f} GB/s"
        )
        if load is not None and load > QUIET_LOAD:
            yield Text(f"The machine is busy (load {load:.1f}): times will be noisy.", "yellow")
        yield Text()
        yield self._line(self._label("layer", ""), list(self._columns), "bold")

    def row(self, row: Row, roof: Roof) -> Iterator[Text]:
        """One layer, below a title where another kind of work begins."""
        if row.kind != self._kind:
            self._kind = row.kind
            yield Text(KINDS[self._kind], "bold")
        label = self._label(row.problem.name, row.problem.layout)
        if not row.ours:
            yield Text(f"{label}  {row.failures[OURS]}", "red")
            return
        cells = {
            "ms": milliseconds(row.ours.median),
            "GF/s": f"{row.gflop / row.ours.median:.0f}",
            "roof": percent(row.share(roof)),
            "plan": percent(row.predicted_share),
            "bound": roof.bound(row.problem),
            "x torch": ratio(row.against(TORCH)),
            "x last": ratio(row.against(TORCH_LAST)),
            "x best": ratio(row.against_best),
            "noise": percent(row.spread),
        }
        for title, engine in (("torch ms", TORCH), ("last ms", TORCH_LAST)):
            times = row.times.get(engine)
            cells[title] = milliseconds(times.median) if times else ratio(None)
        slower = row.against_torch is not None and row.against_torch < 1
        shown = [cells[title] for title in self._columns]
        yield self._line(label, shown, "red" if slower else "")

    def foot(self, report: Report) -> Iterator[Text]:
        """Means, minima and errors by layout, and what the columns mean."""
        yield Text()
        yield Text(LEGEND, "dim")
        if "x best" in self._columns:
            yield Text(LEGEND_OF_BEST, "dim")
        yield from _absences(report.rows)
        for part in report.parts():
            yield Text()
            yield Text(f"{part.title + ': times faster than':<34}  mean  least", "bold")
            for title, found in summary(part.rows, report.roof).items():
                form = percent if "roofline" in title else ratio
                yield Text(
                    f"  {title:<32}{form(found.mean):>6} {form(found.least):>6}  {found.where}"
                )
            for engine in (OURS, TORCH):
                errors = {row.problem.name: row.errors.get(engine, 0.0) for row in part.rows}
                where = max(errors, key=lambda name: errors[name])
                yield Text(f"  {'error of ' + engine:<32}{errors[where]:>13.0e}  {where}")
        yield from self._first_calls([row for row in report.rows if row.first_call])
        yield from self._memory([row for row in report.rows if row.memory])

    def _first_calls(self, rows: Sequence[Row]) -> Iterator[Text]:
        if rows:
            yield Text("\nFirst call of a layer, ms more than a later one", "bold")
            yield Text(f"{self._label('layer', '')}  compiled  from cache", "bold")
        for row in rows:
            found = row.first_call
            assert found
            yield Text(
                f"{self._label(row.problem.name, row.problem.layout)}  {found.cold * 1e3:>8.1f}  "
                f"{found.cached * 1e3:>10.1f}"
            )

    def _memory(self, rows: Sequence[Row]) -> Iterator[Text]:
        if rows:
            yield Text("\nMemory of a call besides input, weights and output, MiB", "bold")
            yield Text(f"{self._label('layer', '')}   extra  allowed  packed weights", "bold")
        for row in rows:
            found = row.memory
            assert found
            extra, allowed, packed = (
                value / 2**20 for value in (found.extra, found.allowed, found.packed)
            )
            yield Text(
                f"{self._label(row.problem.name, row.problem.layout)}  {extra:>6.2f}  "
                f"{allowed:>7.2f}  {packed:>14.2f}",
                "red" if extra > allowed else "",
            )

    def _label(self, name: str, layout: str) -> str:
        """Name and layout, as wide as in every row."""
        if len(name) > self._name_width:
            name = name[: self._name_width - 1] + "~"
        return f"{name:<{self._name_width}}  {layout:<5}"

    def _line(self, label: str, cells: Sequence[str], style: str = "") -> Text:
        parts = [
            f"{cell:>{width}}" for cell, width in zip(cells, self._columns.values(), strict=True)
        ]
        return Text("  ".join([label, *parts]), style)


def _absences(rows: Sequence[Row]) -> Iterator[Text]:
    """Which engines were not timed on which layers, and why."""
    layers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for engine, reason in row.failures.items():
            names = layers.setdefault((engine, reason), [])
            if engine != OURS and row.problem.name not in names:
                names.append(row.problem.name)
    for (engine, reason), names in layers.items():
        if names:
            yield Text(f"{engine} was not timed on {', '.join(names)}: {reason}")
