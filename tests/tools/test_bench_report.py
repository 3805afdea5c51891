"""What is made of the times: ratios, means, pages, files and lines for a terminal."""

import io
import json
import re
import runpy
from dataclasses import replace

import pytest
import repository
from rich.console import Console

from polyphase import Problem
from polyphase.tools.bench import gradients, suite
from polyphase.tools.bench.contest import Times
from polyphase.tools.bench.machine import Roof
from polyphase.tools.bench.probe import FirstCall, Memory
from polyphase.tools.bench.report import Report, milliseconds, ratio, read_report, record
from polyphase.tools.bench.rows import OURS, TORCH, TORCH_LAST, Row, summary
from polyphase.tools.bench.screen import Screen
from polyphase.tools.bench.suite import Known

RESULTS = repository.ROOT / "bench" / "results"
ROOF = Roof("f32", 2, gflops=400.0, gbytes=25.0)
# 2 * 256e6 multiply-adds: 1.28 ms of arithmetic
LARGE = Problem.parse("c1000:1000 i256 k1 @large")
SMALL = Problem.parse("c1:1 i4 k2 s2 @small")


def times(median):
    return Times(median, median * 0.9, 0.05, 10)


def row(problem=LARGE, ours=0.002, torch=0.006, last=0.004, **more):
    measured = {OURS: ours, TORCH: torch, TORCH_LAST: last}
    engines = {name: times(seconds) for name, seconds in measured.items() if seconds}
    errors = dict.fromkeys(engines, 1e-7)
    return Row(problem, "channels", "f32_channels_9x3", 0.9, engines, errors, **more)


def report(rows, date="2026-01-02 03:04"):
    machine = {"processor": "a processor", "target": "avx2"}
    machine |= {"polyphase": "0.1.0", "torch": "2.13.0", "llvmlite": "0.50.0"}
    return Report(date, 2.0, False, machine, [0.1, 0.2], ROOF, list(rows))


def with_peer(seconds):
    found = row()
    return replace(found, times={**found.times, "another": times(seconds)})


def test_ratios_follow_from_the_medians():
    found = row()
    assert found.against(TORCH) == pytest.approx(3.0)
    assert found.against(TORCH_LAST) == found.against_torch == pytest.approx(2.0)
    assert found.against("nobody") is None
    slow = replace(found, times={**found.times, TORCH_LAST: Times(0.004, 0.0009, 0.05, 10)})
    assert slow.against_torch_at_best == pytest.approx(0.5)
    assert found.share(ROOF) == pytest.approx(0.64)
    assert found.gflop == pytest.approx(0.512)
    assert found.spread == 0.05


@pytest.mark.parametrize(
    ("found", "best", "against"),
    [
        (row(), None, None),
        (row(known=Known("other", 6.0)), "other", 0.5),
        # torch itself was better in this run than the engine that was recorded
        (row(known=Known("other", 1.2)), TORCH_LAST, 2.0),
        # what is measured here counts, not what was recorded elsewhere
        (row(known=Known(TORCH_LAST, 3.0)), TORCH_LAST, 2.0),
        (with_peer(0.001), "another", 0.5),
        (with_peer(0.01), TORCH_LAST, 2.0),
        (replace(with_peer(0.01), known=Known("other", 6.0)), "other", 0.5),
        (replace(with_peer(0.01), known=Known("another", 6.0)), TORCH_LAST, 2.0),
    ],
)
def test_the_best_engine_is_one_measured_or_known(found, best, against):
    assert found.best == best
    assert found.against_best == (None if against is None else pytest.approx(against))


def test_the_summary_has_geometric_means_and_least_values():
    rows = [row(), row(SMALL, ours=1e-6, torch=12e-6, last=0.5e-6)]
    found = summary(rows, ROOF)
    assert found["torch"].mean == pytest.approx(6.0)
    assert (found["torch"].least, found["torch"].where) == (pytest.approx(3.0), "large")
    assert found["torch's better layout"].where == "small"
    # the small layer has too little arithmetic for the roofline to say much
    assert found["roofline, >= 0.5 GFLOP"].count == 1
    assert "best engine" not in found


def test_a_report_comes_back_from_its_file(tmp_path):
    written = report(
        [
            row(first_call=FirstCall(0.05, 0.004), memory=Memory(10, 20, 30)),
            row(SMALL, ours=None, failures={OURS: "off"}, known=Known("other", 2.0)),
        ]
    )
    path = written.write(tmp_path)
    assert path.name == "2026-01-02-0304-f32.json"
    assert read_report(path) == written
    data = json.loads(path.read_text())
    assert data["rows"][0]["against_torch"] == pytest.approx(3.0)
    assert data["rows"][1]["against_torch"] is None
    assert data["summary"]["channels-first"]["torch"]["mean"] == pytest.approx(3.0)


def test_gradients_are_parts_of_their_own(tmp_path):
    found = report([*(row(p) for p in suite.gradients(LARGE)), row(LARGE, step=True)])
    titles = [part.title for part in found.parts()]
    assert titles == [
        "gradient of the input, channels-first",
        "gradient of the weights, channels-first",
        "forward and backward, channels-first",
    ]
    path = found.write(tmp_path)
    assert path.name == "2026-01-02-0304-f32-backward.json"
    assert read_report(path) == found


def test_a_step_is_three_times_the_work():
    one, step = row(), row(step=True)
    assert (one.kind, step.kind) == ("conv_transpose", "step")
    assert step.gflop == pytest.approx(3 * one.gflop)
    assert step.share(ROOF) == pytest.approx(3 * one.share(ROOF))


def test_results_of_before_there_were_steps_are_read(tmp_path):
    path = report([row()]).write(tmp_path)
    data = json.loads(path.read_text())
    del data["rows"][0]["step"]
    path.write_text(json.dumps(data))
    assert read_report(path).rows == [row()]


def whole_suite(**more):
    return [row(problem, **more) for problem in suite.read(suite.SUITE)]


def test_the_record_is_the_newest_run_of_the_whole_suite(tmp_path):
    assert record(tmp_path) is None
    older = report(whole_suite(), "2026-01-01 00:00")
    newer = report(whole_suite(), "2026-02-01 00:00")
    part = report(whole_suite()[:3], "2026-03-01 00:00")
    doubles = replace(report([], "2026-04-01 00:00"), roof=replace(ROOF, dtype="f64"))
    kernels = replace(report(whole_suite(), "2026-05-01 00:00"), kernel=True)
    for found in (older, newer, part, replace(doubles, rows=whole_suite()), kernels):
        found.write(tmp_path)
    assert record(tmp_path) == newer


def training(**more):
    rows = []
    for problem in suite.read(suite.SUITE):
        rows += [row(p, **more) for p in suite.gradients(problem)] + [row(problem, step=True)]
    return rows


def test_the_record_of_gradients_is_another(tmp_path):
    forward, backward = report(whole_suite()), report(training(), "2026-01-03 00:00")
    for found in (forward, backward, report(training()[:-1], "2026-02-01 00:00")):
        found.write(tmp_path)
    assert record(tmp_path) == forward
    assert record(tmp_path, gradients=True) == backward


def test_gradients_stand_beside_the_step_that_they_belong_to():
    rows = training()
    rows[1] = row(rows[1].problem, ours=0.003, torch=0.0012)
    rows[3] = row(rows[3].problem, ours=None)
    rows += [replace(r, problem=replace(r.problem, layout="nhwc")) for r in rows[:3]]
    page = gradients.tables(report(rows))
    means, first, last = tables(page)
    assert first[2] == [" dcgan-1 ", " 2.00 ", *(" 3.00 ", " 2.00 ") * 2, " 0.40 ", " 1.33 "]
    assert first[3][4:6] == [" - "] * 2
    assert (len(first), len(last)) == (2 + 36, 2 + 1)
    # first the steps, then what they consist of; against torch in either layout
    assert [line[0] for line in means[2::2]] == [
        f" {what}, channels-{where} "
        for what in ("forward and backward", "gradient of the input", "gradient of the weights")
        for where in ("first", "last")
    ]
    assert means[-4][4] == " 0.40x (dcgan-1) "
    assert gradients.brief(report(rows)) == page[: len(gradients.brief(report(rows)))]


def tables(page):
    """The tables of a page, as lists of rows of cells."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.M)
    return [[line.strip("|").split("|") for line in block.splitlines()] for block in blocks]


def test_pages_have_whole_tables():
    rows = [*whole_suite(), row(SMALL, ours=None, failures={OURS: "off by 1"})]
    rows += [replace(r, problem=replace(r.problem, layout="nhwc")) for r in rows[:3]]
    found = report(rows)
    for page, count in ((found.markdown(), 3), (found.brief(), 2)):
        assert len(tables(page)) == count
        for table in tables(page):
            assert len({len(cells) for cells in table}) == 1
    assert "| off by 1 |" in found.markdown()


def test_figures_have_three_digits():
    assert [milliseconds(s) for s in (0.1234, 0.0123, 0.00123, 0.000123, 6.1e-6)] == [
        *("123", "12.3", "1.23", "0.123", "0.0061")
    ]
    assert [ratio(value) for value in (0.5, 9.99, 12.345, 456.7, None)] == [
        *("0.50", "9.99", "12.3", "457", "-")
    ]


def lines_of(parts, width):
    """What a terminal of that width shows, and whether any line ran over."""
    screen = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for part in parts:
        screen.print(part, soft_wrap=True)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal(width):
    problems = [
        replace(p, layout=p.layout.replace("cdhw", "dhwc")) for p in suite.read(suite.SUITE)
    ]
    extremes = {"ours": 1.2345, "torch": 1234.5, "last": 0.001}
    rows = [
        row(p, known=Known("other", 2.0), first_call=FirstCall(0.1, 0.01), **extremes)
        for p in problems
    ]
    rows = [replace(r, memory=Memory(1 << 29, 1 << 29, 1 << 20)) for r in rows]
    screen = Screen(width, problems, best=True)
    lines = lines_of(screen.head(ROOF, 3.0), width)
    for found in rows:
        lines += lines_of(screen.row(found, ROOF), width)
    lines += lines_of(screen.foot(report(rows)), width)
    assert max(map(len, lines)) <= width
    assert any(line.startswith("seed-encoder-decoder") for line in lines)
    assert ("torch ms" in "".join(lines)) == (width == 120)


def test_a_failure_takes_the_place_of_the_figures():
    screen = Screen(80, [SMALL], best=False)
    failed = row(SMALL, ours=None, failures={OURS: "off by 1"})
    [line] = lines_of(screen.row(failed, ROOF), 80)
    assert line == "small   ncl    off by 1"


def test_engines_that_were_not_timed_are_named():
    reason = {"another": "it has no groups"}
    rows = [row(LARGE, failures=reason), row(LARGE, failures=reason), row(SMALL, failures=reason)]
    lines = lines_of(Screen(80, [LARGE, SMALL], best=False).foot(report(rows)), 80)
    assert lines.count("another was not timed on large, small: it has no groups") == 1


def test_an_operator_is_named_where_it_begins():
    screen = Screen(80, [SMALL], best=False)
    of_input, of_weights = suite.gradients(SMALL)
    lines = [
        line
        for problem in (of_input, of_input, of_weights)
        for line in lines_of(screen.row(row(problem), ROOF), 80)
    ]
    assert [line for line in lines if line.startswith("gradient")] == [
        "gradient of the input",
        "gradient of the weights",
    ]
    assert len(lines) == 5


# what is published


def publish():
    return runpy.run_path(str(repository.ROOT / "bench" / "publish.py"))


def test_the_pages_show_the_newest_results():
    script = publish()
    pages = dict(script["blocks"](RESULTS))
    assert sorted(page.name for page in pages) == ["README.md", "benchmarks.md"]
    for page, content in pages.items():
        assert script["block"](page.read_text()) == content
    assert record(RESULTS).brief() in pages[repository.ROOT / "docs" / "benchmarks.md"]


def test_the_summary_is_short_and_has_the_figures_of_the_tables():
    pages = dict(publish()["blocks"](RESULTS))
    short, whole = (pages[repository.ROOT / page] for page in ("README.md", "docs/benchmarks.md"))
    assert len(short.splitlines()) <= 10
    head, _, *rows = tables(short)[0]
    assert [row[0].strip() for row in rows] == [
        *("forward, channels-first", "forward, channels-last"),
        *("forward and backward, channels-first", "forward and backward, channels-last"),
    ]
    summaries = [row for table in tables(whole) for row in table if row[1].strip() == "torch"]
    means = {row[0].strip(): (row[3].strip(), row[4].split()[0]) for row in summaries}
    for row in rows:
        name = row[0].strip().removeprefix("forward, ")
        assert row[1 + head[1:].index(" torch ")].strip() == "{} (least {})".format(*means[name])


def test_there_is_nothing_to_publish_without_results(tmp_path):
    with pytest.raises(SystemExit, match="no result of polyphase bench on the whole suite"):
        list(publish()["blocks"](tmp_path))
    report(whole_suite()).write(tmp_path)
    with pytest.raises(SystemExit, match="no result of polyphase bench --backward on the whole"):
        list(publish()["blocks"](tmp_path))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_every_result_has_its_page(path):
    assert path.with_suffix(".md").read_text() == read_report(path).markdown()


def test_what_stands_outside_the_marks_is_kept():
    script = publish()
    page = f"before\n{script['BEGIN']}\nold\n{script['END']}\nafter\n"
    changed = script["with_block"](page, "new \\1\n")
    assert script["block"](changed) == "new \\1\n"
    assert changed.startswith("before\n")
    assert changed.endswith("\nafter\n")
    assert "old" not in changed
