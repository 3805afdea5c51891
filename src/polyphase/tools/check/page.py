"""The report as one page of HTML that needs nothing else: no network, no scripts."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path

from rich.filesize import decimal

from polyphase import __version__
from polyphase.models import ARCHITECTURES
from polyphase.tools.check import drawings
from polyphase.tools.check.checking import LayerReport, Report
from polyphase.tools.check.finding import Finding, by
from polyphase.tools.check.screen import (
    SPEEDS,
    amount,
    overlap,
    parameters,
    reachable,
    shapes,
    speed,
    speed_cells,
)
from polyphase.tools.check.screen import summary as summarised

UNEVEN = ("uneven-overlap", "uneven-weights", "empty-phases")

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --card: #fff; --ink: #1b1f24; --soft: #5b6570;
  --line: #dfe3e7; --error: #c62828; --warning: #a15c00; --note: #1565c0; --good: #1b7a3d;
  --bar: #c3ccd5; --up: #2f6fb5; --hot: #d9480f; --cold: #1971c2; --ours: #2f6fb5;
  --theirs: #8a939c; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e6e9ec;
  --soft: #9aa5b0; --line: #323940; --error: #ff7b72; --warning: #f0b04f; --note: #74b3ff;
  --good: #63c985; --bar: #48525c; --up: #5d9fe3; --hot: #ff8a4c; --cold: #5aa9f5;
  --ours: #5d9fe3; --theirs: #8f99a3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 48px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
h1 { font-size: 1.5em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1em; margin: 32px 0 8px; }
p { margin: 4px 0; }
.soft, figcaption { color: var(--soft); }
.partial { color: var(--error); font-weight: 600; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 8px 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 500; font-size: .9em; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
ul { list-style: none; padding: 0; margin: 0; display: grid; gap: 8px; }
li { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--note);
  border-radius: 6px; padding: 8px 12px; overflow-wrap: anywhere; }
li.error { border-left-color: var(--error); } li.warning { border-left-color: var(--warning); }
.badge { font-weight: 600; margin-right: .4em; color: var(--note); }
.error .badge { color: var(--error); } .warning .badge { color: var(--warning); }
.mend { color: var(--good); } code { font-size: .92em; }
svg { display: block; width: 100%; height: auto; }
svg.map { width: auto; max-width: 100%; }
svg text { fill: var(--ink); font-size: 12px; text-anchor: middle; }
svg .small { font-size: 11.5px; fill: var(--soft); } svg .strong { fill: var(--ink); }
svg .start { text-anchor: start; } svg .end { text-anchor: end; }
.bar { fill: var(--bar); } .bar.up { fill: var(--up); } .bar.wrong { fill: var(--error); }
.arc { fill: none; stroke: var(--soft); stroke-width: 1.4; }
.arc.wrong { stroke: var(--error); stroke-width: 2; } svg text.wrong { fill: var(--error); }
.hot { fill: var(--hot); } .cold { fill: var(--cold); }
.grid { stroke: var(--line); } .roof { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.gain { stroke: var(--soft); stroke-dasharray: 3 3; } .ours { fill: var(--ours); }
.theirs { fill: var(--card); stroke: var(--theirs); stroke-width: 2; }
.maps { display: flex; flex-wrap: wrap; gap: 24px; } figure { margin: 0; max-width: 460px; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin: 0 .3em 0 .9em; }
.key.dot { border-radius: 50%; background: var(--ours); }
.key.ring { border-radius: 50%; background: var(--card); border: 2px solid var(--theirs); }
""".strip()


def page(report: Report) -> str:
    """The whole page."""
    title = escape(report.subject.title)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}: polyphase check</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="soft">{escape(shapes(report))}</p>',
        f'<p id="summary">{escape(summarised(report))}</p>',
    ]
    if report.is_partial:
        parts.append('<p class="partial">Partial: the model stopped before its end.</p>')
    if report.layers:
        parts.append(_section("Layers", _layers(report)))
    parts.append(_section("Findings", _findings(report)))
    parts.append(_sizes(report))
    parts.append(_maps(report))
    parts.append(_speed(report))
    data = json.dumps(report.as_data()).replace("<", "\\u003c")
    parts += [
        f'<p class="soft">Made by polyphase {__version__}; to repeat it, {escape(place(report))}: '
        f'<code id="command">{escape(command(report))}</code></p>',
        f'<script type="application/json" id="report">{data}</script>',
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def command(report: Report) -> str:
    """What to type for the same report, at the place that :func:`place` names."""
    subject = report.subject
    words = [_program(), "check", subject.name]
    for shape, dtype in subject.inputs:
        words += [
            "--input",
            ",".join(map(str, shape)) + ("" if dtype == "float32" else f":{dtype}"),
        ]
    words += ["--trust"] if subject.is_trusted else []
    words += ["--compute"] if report.is_computed else []
    words += ["--measure"] if report.measured else []
    return shlex.join(words)


def place(report: Report) -> str:
    """Where the command finds the model."""
    home = report.subject.name.partition(":")[0]
    if "/" not in _program() and (home in ARCHITECTURES or home.partition(".")[0] == "polyphase"):
        return "type in any folder"
    return f"type in the folder {Path.cwd().name}"


def _program() -> str:
    """The command as it can be typed here: some environments are not switched on."""
    beside = Path(sys.executable).with_name("polyphase")
    if not shutil.which("polyphase") and beside.is_file() and beside.is_relative_to(Path.cwd()):
        return beside.relative_to(Path.cwd()).as_posix()
    return "polyphase"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def _layers(report: Report) -> str:
    names = ["layer", "channels", "input", "output", "reachable", "parameters", "multiply-adds"]
    names += ["bytes", "share", "overlap"]
    return _table("layers", names, map(_cells, report.layers))


def _cells(layer: LayerReport) -> list[str]:
    problem = layer.layer.problem
    return [
        layer.layer.name,
        f"{problem.in_channels}:{problem.out_channels}",
        by(problem.input_size),
        by(problem.output_size),
        reachable(layer),
        parameters(layer),
        amount(layer.multiply_adds),
        decimal(layer.bytes),
        f"{layer.share:.1%}",
        overlap(layer),
    ]


def _table(name: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _findings(report: Report) -> str:
    if not report.findings:
        return "<p>Nothing was found.</p>"
    return f'<ul id="findings">{"".join(map(_finding, report.findings))}</ul>'


def _finding(finding: Finding) -> str:
    where = f"<b>{escape(finding.layer)}</b>: " if finding.layer else ""
    return (
        f'<li class="{finding.severity}"><span class="badge">{finding.severity}</span>'
        f'{where}{escape(finding.says)} <code class="soft">{finding.code}</code>'
        f'<p class="mend">→ {escape(finding.mend)}</p></li>'
    )


def _sizes(report: Report) -> str:
    drawn = drawings.sizes(report)
    if not drawn:
        return ""
    note = (
        '<p class="soft">Every change of size from the input on; height in doublings.'
        '<span class="key" style="background:var(--up)"></span>transposed convolution'
        '<span class="key" style="background:var(--error)"></span>does not fit what it meets</p>'
    )
    return _section("Sizes through the network", f'<div class="scroll">{drawn}</div>{note}')


def _maps(report: Report) -> str:
    faulty = {finding.layer for finding in report.findings if finding.code in UNEVEN}
    figures = []
    for layer in report.layers:
        found = layer.evenness
        if layer.layer.name not in faulty or found is None:
            continue
        mean = float(found.gains.mean()) or 1.0
        low, high = found.gains.min() / mean, found.gains.max() / mean
        how = "its weights" if found.measured else "equal weights"
        caption = (
            f"<b>{escape(layer.layer.name)}</b>, {escape(parameters(layer))}: with {how}, "
            f"{low:.2f} to {high:.2f} of the mean"
        )
        drawn = drawings.heat_map(found, f"response of {layer.layer.name}")
        figures.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    if not figures:
        return ""
    note = (
        '<p class="soft">Response of neighbouring outputs to a constant input.'
        '<span class="key" style="background:var(--hot)"></span>above the mean'
        '<span class="key" style="background:var(--cold)"></span>below</p>'
    )
    return _section("Overlap", f'{note}<div class="maps">{"".join(figures)}</div>')


def _speed(report: Report) -> str:
    if not report.measured:
        return ""
    said = f'<p id="speed">{escape(speed(report))}</p>'
    if any(layer.seconds for layer in report.layers):
        said += _table("speeds", SPEEDS, map(speed_cells, report.layers))
    drawn = drawings.roofline(report)
    if drawn:
        roof = report.measured["roof"]
        said += (
            f'<p></p><div class="scroll">{drawn}</div>'
            '<p class="soft">What this machine can do, measured: '
            f"{roof['gflops']:.0f} GFLOP/s in registers, {roof['gbytes']:.1f} GB/s in memory. "
            "Points above the roof make fewer products than the definition, which is what counts."
            '<span class="key ring"></span>PyTorch<span class="key dot"></span>polyphase</p>'
        )
    return _section("Speed, and the roofline", said)
