"""A finished run: the file of results, and the table that people read of it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from polyphase.tools.bench.machine import Roof
from polyphase.tools.bench.rows import TORCH, TORCH_LAST, Row, summary
from polyphase.tools.bench.suite import SUITE, read

# parts of a report, by what was measured
KINDS = {
    "conv_transpose": "",
    "conv": "gradient of the input, ",
    "weight_grad": "gradient of the weights, ",
    "step": "forward and backward, ",
}


@dataclass(frozen=True)
class Part:
    """The rows of one table."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    """Everything that a run measured, and on what.

    ``date`` is that of its end, in UTC. ``load`` is the average number of processes that wanted a
    processor before and after, where the system says it; ``kernel`` says whether the kernels of
    polyphase were measured without the function around them.
    """

    date: str
    seconds: float
    kernel: bool
    machine: dict[str, Any]
    load: list[float]
    roof: Roof
    rows: list[Row]

    def as_data(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {
            "date": self.date,
            "seconds_per_layer": self.seconds,
            "kernel_alone": self.kernel,
            "machine": self.machine,
            "load": self.load,
            "roof": asdict(self.roof),
            "summary": {
                part.title: {name: asdict(e) for name, e in summary(part.rows, self.roof).items()}
                for part in self.parts()
            },
            "rows": [row.as_data(self.roof) for row in self.rows],
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The report that :meth:`as_data` wrote."""
        return cls(
            data["date"],
            data["seconds_per_layer"],
            data["kernel_alone"],
            data["machine"],
            data["load"],
            Roof(**data["roof"]),
            [Row.from_data(row) for row in data["rows"]],
        )

    def parts(self) -> Iterator[Part]:
        """The rows by kind and layout, where there are any."""
        for kind, what in KINDS.items():
            for layout in ("channels-first", "channels-last"):
                rows = [row for row in self.rows if (row.kind, row.layout) == (kind, layout)]
                if rows:
                    yield Part(f"{what}{layout}", rows)

    @property
    def is_record(self) -> bool:
        """Whether this is the whole suite as the README shows it: forward, in float32."""
        return self._is_whole("conv_transpose")

    @property
    def is_gradient_record(self) -> bool:
        """Whether this is the whole suite with its backward pass, in float32."""
        return self._is_whole("step")

    def _is_whole(self, kind: str) -> bool:
        names = {row.problem.name for row in self.rows if row.kind == kind}
        layers = {problem.name for problem in read(SUITE)}
        return self.roof.dtype == "f32" and not self.kernel and names == layers

    def brief(self) -> str:
        """Machine, summary and the table of channels-first tensors, for the pages."""
        part = next(self.parts())
        table = _brief_table(part.rows, self.roof)
        lines = [
            machine_line(self),
            "",
            *_summary(self),
            "",
            f"{part.title}:".capitalize(),
            "",
            *table,
        ]
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        """Machine, summary and one table for each kind of work and layout."""
        lines = [f"# Benchmark, {self.date} UTC", "", machine_line(self), "", *_summary(self)]
        for part in self.parts():
            title = part.title[:1].upper() + part.title[1:]
            lines += ["", f"### {title}", "", *_table(part.rows, self.roof)]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> Path:
        """Write JSON to a file, or to one named after date and kind in a folder; returns it."""
        if path.is_dir():
            words = [*self.date.replace(":", "").split(), self.roof.dtype]
            if any(row.kind != "conv_transpose" for row in self.rows):
                words.append("backward")
            path /= f"{'-'.join(words)}.json"
        path.write_text(json.dumps(self.as_data(), indent=1) + "\n", "utf-8")
        return path


def read_report(path: Path) -> Report:
    """The report in a file."""
    return Report.from_data(json.loads(path.read_text("utf-8")))


def record(folder: Path, gradients: bool = False) -> Report | None:
    """The newest report of the whole suite in a folder: forward, or with the backward pass."""
    reports = [read_report(path) for path in folder.glob("*.json")]
    records = [r for r in reports if (r.is_gradient_record if gradients else r.is_record)]
    return max(records, key=lambda report: report.date, default=None)


def machine_line(report: Report) -> str:
    """Processor, versions, limits and noise, in a paragraph."""
    machine, roof = report.machine, report.roof
    versions = ", ".join(f"{name} {machine[name]}" for name in ("polyphase", "torch", "llvmlite"))
    spreads = sorted(row.spread for row in report.rows)
    return (
        f"{machine['processor']}, {machine['target']}, {threads(roof)}, {roof.dtype}, "
        f"{report.date} UTC; {versions}. Measured limits: {roof.gflops:.0f} GFLOP/s of "
        f"multiply-adds, {roof.gbytes:.0f} GB/s of copies. Noise (half the distance between the "
        f"quartiles): {percent(median(spreads))} for the median layer, {percent(spreads[-1])} "
        "for the noisiest."
    )


def _summary(report: Report) -> Iterator[str]:
    yield "| part | polyphase against | layers | geometric mean | least |"
    yield "|---|---|---:|---:|---|"
    for part in report.parts():
        for title, found in summary(part.rows, report.roof).items():
            form = "{:.0%}" if "roofline" in title else "{:.2f}x"
            yield (
                f"| {part.title} | {title} | {found.count} | {form.format(found.mean)} "
                f"| {form.format(found.least)} ({found.where}) |"
            )


def _brief_table(rows: Sequence[Row], roof: Roof) -> Iterator[str]:
    columns: dict[str, Callable[[Row], str]] = {
        "layer": lambda row: row.problem.name,
        "ms": lambda row: milliseconds(row.ours.median) if row.ours else "-",
        "GFLOP/s": lambda row: f"{row.gflop / row.ours.median:.0f}" if row.ours else "-",
        "roofline": lambda row: percent(row.share(roof)),
        "x torch": lambda row: ratio(row.against(TORCH)),
        "x torch channels-last": lambda row: ratio(row.against(TORCH_LAST)),
    }
    if any(row.best for row in rows):
        columns["x best engine"] = lambda row: ratio(row.against_best)
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    for row in rows:
        yield f"| {' | '.join(cell(row) for cell in columns.values())} |"


def _table(rows: Sequence[Row], roof: Roof) -> Iterator[str]:
    yield (
        "| layer | ms | noise | GFLOP/s | roofline | predicted | bound | torch ms | x "
        "| torch channels-last ms | x | best engine | x |"
    )
    yield "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---|---:|"
    for row in rows:
        if not row.ours:
            yield f"| {row.problem.name} | {'; '.join(row.failures.values())} |" + " |" * 11
            continue
        cells = [
            row.problem.name,
            milliseconds(row.ours.median),
            percent(row.ours.spread),
            f"{row.gflop / row.ours.median:.0f}",
            percent(row.share(roof)),
            percent(row.predicted_share),
            roof.bound(row.problem),
        ]
        for engine in (TORCH, TORCH_LAST):
            cells += [
                milliseconds(row.times[engine].median) if engine in row.times else "-",
                ratio(row.against(engine)),
            ]
        cells += [row.best or "-", ratio(row.against_best)]
        yield f"| {' | '.join(cells)} |"


def threads(roof: Roof) -> str:
    """How many threads, in words."""
    return f"{roof.threads} thread{'s' if roof.threads > 1 else ''}"


def milliseconds(seconds: float) -> str:
    """Three digits that count.

    >>> milliseconds(0.0123456), milliseconds(6.1e-6)
    ('12.3', '0.0061')
    """
    value = seconds * 1e3
    for decimals, limit in ((0, 100), (1, 10), (2, 1), (3, 0.1)):
        if value >= limit:
            return f"{value:.{decimals}f}"
    return f"{value:.4f}"


def ratio(value: float | None) -> str:
    """How many times faster, in three digits that count.

    >>> ratio(0.987), ratio(123.4), ratio(None)
    ('0.99', '123', '-')
    """
    if value is None:
        return "-"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def percent(value: float | None) -> str:
    """A share."""
    return "-" if value is None else f"{value:.0%}"
