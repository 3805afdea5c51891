"""Put the newest results of the whole suite into the pages, and each result beside its tables."""

import re
from collections.abc import Iterator
from pathlib import Path

from polyphase.tools.bench import gradients
from polyphase.tools.bench.report import Report, read_report, record

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
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
    both = f"{forward.brief()}\nTraining, in the same way:\n\n{gradients.brief(backward)}"
    yield ROOT / "README.md", both
    yield ROOT / "docs" / "benchmarks.md", gradients.tables(backward)


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
        path.with_suffix(".md").write_text(read_report(path).markdown())
    for page, content in blocks(RESULTS):
        page.write_text(with_block(page.read_text(), content))


if __name__ == "__main__":
    main()
