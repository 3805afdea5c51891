"""Put the newest results of the whole suite into the README, and each result beside its tables."""

import re
from pathlib import Path

from polyphase.tools.bench.report import read_report, record

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench writes -->"


def block(text: str) -> str:
    """What stands between the marks of a page."""
    return _between().findall(text)[0].strip("\n") + "\n"


def with_block(text: str, content: str) -> str:
    """The page with other content between the marks."""
    return _between().sub(lambda _: f"{BEGIN}\n\n{content}\n{END}", text)


def _between() -> re.Pattern[str]:
    return re.compile(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", re.S)


def main() -> None:
    """Rewrite the tables of all results, and the README."""
    for path in RESULTS.glob("*.json"):
        path.with_suffix(".md").write_text(read_report(path).markdown())
    newest = record(RESULTS)
    if newest is None:
        raise SystemExit(f"no result of the whole suite in {RESULTS.relative_to(ROOT)}")
    readme = ROOT / "README.md"
    readme.write_text(with_block(readme.read_text(), newest.brief()))


if __name__ == "__main__":
    main()
