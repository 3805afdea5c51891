"""Pages of a run with ``--backward``: what a layer's backward pass takes, with the forward pass."""

from collections.abc import Iterator

from polyphase.tools.bench.report import Report, machine_line, milliseconds, ratio
from polyphase.tools.bench.rows import TORCH, TORCH_LAST, Row, summary

# what a step consists of comes behind it
KINDS = {"step": "", "conv": "input, ", "weight_grad": "weights, "}
LAYOUTS = ("channels-first", "channels-last")


def brief(report: Report) -> str:
    """Machine, and how many times faster than torch the parts of a backward pass are."""
    return "\n".join([machine_line(report), "", *_means(report)]) + "\n"


def tables(report: Report) -> str:
    """The same, and one table of all layers for each layout."""
    lines = [brief(report)]
    for layout in LAYOUTS:
        rows = {
            kind: {r.problem.name: r for r in report.rows if (r.kind, r.layout) == (kind, layout)}
            for kind in KINDS
        }
        lines += [f"{layout.capitalize()}, forward and backward:", "", *_table(rows), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _means(report: Report) -> Iterator[str]:
    yield "| part | polyphase against | layers | geometric mean | least |"
    yield "|---|---|---:|---:|---|"
    for kind in KINDS:
        for part in report.parts():
            if part.rows[0].kind != kind:
                continue
            found = summary(part.rows, report.roof)
            for engine in (TORCH, TORCH_LAST):
                if engine in found:
                    one = found[engine]
                    yield (
                        f"| {part.title} | {engine} | {one.count} | {ratio(one.mean)}x "
                        f"| {ratio(one.least)}x ({one.where}) |"
                    )


def _table(rows: dict[str, dict[str, Row]]) -> Iterator[str]:
    titles = ["ms", *(f"{what}x {name}" for what in KINDS.values() for name in ("torch", "last"))]
    yield f"| layer | {' | '.join(titles)} |"
    yield f"|---|{'---:|' * len(titles)}"
    for name, step in rows["step"].items():
        ratios = (
            ratio(found[name].against(engine))
            for found in rows.values()
            for engine in (TORCH, TORCH_LAST)
        )
        time = milliseconds(step.ours.median) if step.ours else "-"
        yield f"| {' | '.join([name, time, *ratios])} |"
