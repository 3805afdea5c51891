"""Put the newest results of the whole suite into the pages, and each result beside its tables."""

import re
from collections.abc import Iterator
from pathlib import Path

from polyphase.tools.bench import gradients
from polyphase.tools.bench.report import Part, Report, percent, ratio, read_report, record, threads
from polyphase.tools.bench.rows import TORCH, summary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
# of the summary, and what they are called in the tables
COLUMNS = {
    "torch": TORCH,
    "torch's better layout": "torch's better layout",
    "best engine": "best engine",
    "share of the roofline": "roofline, >= 0.5 GFLOP",
}
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench writes -->"


def block(text: str) -> str:
    """What stands between the marks of a page."""
    return _between().findall(text)[0].strip("\n") + "\n"


def with_block(text: str, content: str) -> str:
    """The page with other content between the marks."""
    return _between().sub(lambda _: f"{BEGIN}\n\n{content}\n{END}", text)


def blocks(results: Path) -> Iterator[tuple[Path, str]]:
    """Pages, and what stands between their marks when these are the results."""
    forward, backward = _newest(results, False), _newest(results, True)
    yield ROOT / "README.md", short(forward, backward)
    both = f"### Forward\n\n{forward.brief()}\n### Training\n\n{gradients.tables(backward)}"
    yield ROOT / "docs" / "benchmarks.md", both


def short(forward: Report, backward: Report) -> str:
    """Geometric means of both and the least of each, in a few lines."""
    machine, roof = forward.machine, forward.roof
    lines = [
        f"{machine['processor']}, {machine['target']}, {threads(roof)}, {roof.dtype}; torch "
        f"{machine['torch']}; {len(next(forward.parts()).rows)} layers. Times faster, as geometric "
        "means:",
        "",
        f"| work | {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    steps = (part for part in backward.parts() if part.rows[0].kind == "step")
    lines += [_means(f"forward, {part.title}", part, forward) for part in forward.parts()]
    lines += [_means(part.title, part, backward) for part in steps]
    return "\n".join(lines) + "\n"


def _means(title: str, part: Part, report: Report) -> str:
    found = summary(part.rows, report.roof)
    cells = []
    for name in COLUMNS.values():
        mean = found.get(name)
        form = percent if "roofline" in name else lambda value: f"{ratio(value)}x"
        cells.append(f"{form(mean.mean)} (least {form(mean.least)})" if mean else "-")
    return f"| {title} | {' | '.join(cells)} |"


def _newest(results: Path, backward: bool) -> Report:
    found = record(results, gradients=backward)
    if found is None:
        option = " --backward" if backward else ""
        raise SystemExit(f"no result of polyphase bench{option} on the whole suite in {results}")
    return found


def _between() -> re.Pattern[str]:
    return re.compile(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", re.S)


def main() -> None:
    """Rewrite the tables of all results, and the pages."""
    for path in RESULTS.glob("*.json"):
        path.with_suffix(".md").write_text(read_report(path).markdown(), "utf-8")
    for page, content in blocks(RESULTS):
        page.write_text(with_block(page.read_text("utf-8"), content), "utf-8")


if __name__ == "__main__":
    main()
