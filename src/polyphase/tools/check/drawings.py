"""The drawings of the page, as SVG without scripts; colours are the page's variables."""

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, floor, log2, log10, prod

import numpy as np

from polyphase.arithmetic.cost import cost
from polyphase.tools.check.checking import LayerReport, Report
from polyphase.tools.check.evenness import Evenness
from polyphase.tools.check.finding import by
from polyphase.tools.check.walk import Shape

WIDTH = 900
BAR_TOP, BAR_HEIGHT = 92, 180
PERIODS = 4
CELL = 14
LARGEST_MAP = 32


def sizes(report: Report) -> str:
    """Every change of size on the way through the network, and what meets what."""
    bars = list(_bars(report))
    if len(bars) < 2:
        return ""
    gap = min(86.0, (WIDTH - 40) / len(bars))
    wide = 0.62 * gap
    # a size is one number here: the root of the number of positions, in doublings
    doublings = [log2(max(1, prod(size))) / len(size) for size, _ in bars]
    top = max(doublings) or 1.0
    places: dict[int, int] = {}
    parts = []
    base = BAR_TOP + BAR_HEIGHT
    for at, ((size, layer), height) in enumerate(zip(bars, doublings, strict=True)):
        x, tall = 20 + at * gap, 14 + (BAR_HEIGHT - 14) * height / top
        kind = "bar"
        if layer is not None:
            places[layer] = at
            kind = "bar up" + (" wrong" if _misfit(report, layer) else "")
        name = report.layers[layer].layer.name if layer is not None else "input" if at == 0 else ""
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" '
            f'height="{tall:.1f}" rx="3"><title>{escape(name)} {by(size)}</title></rect>'
        )
        middle = x + wide / 2
        parts += [
            f'<text class="small" x="{middle:.1f}" y="{base + 16 + 13 * line}">{word}</text>'
            for line, word in enumerate(_short(size))
        ]
        if name:
            parts.append(
                f'<text class="small strong" transform="translate({middle + 4:.1f} '
                f'{base + 22 + 13 * len(_short(size))}) rotate(35)" '
                f'style="text-anchor:start">{escape(name)}</text>'
            )
    parts += _arcs(report, bars, places, gap, wide)
    longest = max((len(layer.layer.name) for layer in report.layers), default=0)
    below = 34 + 13 * len(_short(bars[0][0])) + min(120, 4 * longest)
    return _svg(40 + len(bars) * gap + min(120, 5 * longest), base + below, parts, "sizes")


def heat_map(found: Evenness, label: str) -> str:
    """Responses to a constant input over a few periods, relative to their mean."""
    gains = found.gains
    while gains.ndim > 2:
        gains = gains[0]
    rows = np.atleast_2d(gains)
    repeat = [max(1, min(PERIODS, LARGEST_MAP // n)) if n > 1 else 1 for n in rows.shape]
    tiled = np.tile(rows, repeat)[:LARGEST_MAP, :LARGEST_MAP]
    if gains.ndim == 1:
        tiled = np.repeat(tiled, 3, axis=0)
    mean = float(found.gains.mean()) or 1.0
    spread = float(np.abs(found.gains / mean - 1).max()) or 1.0
    parts = []
    for (row, column), gain in np.ndenumerate(tiled):
        away = gain / mean - 1
        kind = "hot" if away > 0 else "cold"
        parts.append(
            f'<rect class="{kind}" x="{column * CELL}" y="{row * CELL}" width="{CELL - 1}" '
            f'height="{CELL - 1}" style="fill-opacity:{abs(away) / spread:.3f}">'
            f"<title>{gain / mean:.2f} of the mean</title></rect>"
        )
    height, width = tiled.shape
    return (
        f'<svg class="map" role="img" aria-label="{escape(label)}" width="{width * CELL}" '
        f'height="{height * CELL}" viewBox="0 0 {width * CELL} {height * CELL}">'
        f"{''.join(parts)}</svg>"
    )


def roofline(report: Report) -> str:
    """Speed against arithmetic per byte, PyTorch and polyphase, under what the machine can do."""
    timed = [layer for layer in report.layers if layer.seconds]
    roof = report.measured.get("roof")
    if not timed or not roof:
        return ""
    peak, bandwidth = roof["gflops"], roof["gbytes"]
    points = [(_intensity(layer), *_speeds(layer)) for layer in timed]
    every = [value for _, *values in points for value in values]
    left = floor(log10(min(min(x for x, *_ in points), peak / bandwidth) / 1.5))
    right = ceil(log10(max(max(x for x, *_ in points), peak / bandwidth) * 1.5))
    low, high = floor(log10(min(every) / 1.3)), log10(max(peak, *every) * 1.6)
    box = (64.0, 16.0, WIDTH - 150.0, 330.0)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - left) / (right - left)
        up = (log10(y) - low) / (high - low)
        return box[0] + across * box[2], box[1] + (1 - up) * box[3]

    parts = list(_axes(box, range(left, right + 1), range(low, floor(high) + 1), at))
    start = 10.0**left
    corner = peak / bandwidth
    first = max(start, 10.0**low / bandwidth)
    line = [at(first, first * bandwidth), at(corner, peak), at(10.0**right, peak)]
    parts.append(
        '<polyline class="roof" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in line) + '"/>'
    )
    x, y = at(10.0**right, peak)
    parts.append(f'<text class="small end" x="{x:.1f}" y="{y - 6:.1f}">{peak:.0f} GFLOP/s</text>')
    # what names must not cover: left, top and right
    taken = [
        (x - 5, y - 6, x + 5)
        for intensity, before, after in points
        for x, y in (at(intensity, before), at(intensity, after))
    ]
    for layer, (intensity, theirs, ours) in zip(timed, points, strict=True):
        (x, before), (_, after) = at(intensity, theirs), at(intensity, ours)
        name = escape(layer.layer.name)
        parts.append(
            f'<line class="gain" x1="{x:.1f}" y1="{before:.1f}" x2="{x:.1f}" y2="{after:.1f}"/>'
            f'<circle class="theirs" cx="{x:.1f}" cy="{before:.1f}" r="5">'
            f"<title>{name}, PyTorch: {theirs:.0f} GFLOP/s</title></circle>"
            f'<circle class="ours" cx="{x:.1f}" cy="{after:.1f}" r="5">'
            f"<title>{name}, polyphase: {ours:.0f} GFLOP/s</title></circle>"
        )
        where = _free_place(x, after, 7.0 * len(name), taken)
        taken.append((where[2], where[3], where[4]))
        parts.append(
            f'<text class="small {where[0]}" x="{where[1]:.1f}" y="{where[3] + 10:.1f}">{name}'
            "</text>"
        )
    return _svg(WIDTH, 400, parts, "roofline")


def _free_place(
    x: float, y: float, wide: float, taken: Sequence[tuple[float, float, float]]
) -> tuple[str, float, float, float, float]:
    """Where a name beside a point covers nothing: anchor, its x, then left, top and right."""
    places = [
        (anchor, at, left, y - 6 + shift)
        for shift in (0, -14, 14, -28, 28, -42, 42)
        for anchor, at, left in (("start", x + 9, x + 9), ("end", x - 9, x - 9 - wide))
    ]
    free = (
        place
        for place in places
        if not any(
            place[2] < right and left < place[2] + wide and abs(place[3] - top) < 12
            for left, top, right in taken
        )
    )
    anchor, at, left, top = next(free, places[0])
    return anchor, at, left, top, left + wide


def _bars(report: Report) -> Iterator[tuple[Shape, int | None]]:
    """Each new size, with the place of the transposed layer that made it."""
    walk = report.walk
    steps = {layer.step: place for place, layer in enumerate(walk.layers)}
    last: Shape = next((shape[2:] for shape in walk.inputs if len(shape) > 2), ())
    rank = len(walk.layers[0].problem.input_size) if walk.layers else 0
    if len(last) == rank:
        yield last, None
    for number, step in enumerate(walk.steps):
        if step.kind not in ("conv", "conv_transpose", "resize", "other", "join"):
            continue
        shape = walk.shapes[step.outputs[0]] if step.outputs else ()
        size = shape[2:]
        if len(shape) != rank + 2 or (size == last and number not in steps):
            continue
        # the gains of weight norm and the like are no maps
        if step.kind == "other" and (not step.inputs or shape[1] == 1):
            continue
        last = size
        yield size, steps.get(number)


def _arcs(
    report: Report,
    bars: Sequence[tuple[Shape, int | None]],
    places: dict[int, int],
    gap: float,
    wide: float,
) -> Iterator[str]:
    for meeting in report.walk.meetings:
        end = places.get(meeting.layer)
        wanted = meeting.other_repairs[0][1] if meeting.other_repairs else meeting.other
        starts = [at for at in range(end or 0) if bars[at][0] == wanted]
        if end is None or not starts:
            continue
        # the one before the way down, which mirrors the way up
        start = starts[-1] if end - starts[-1] > 1 else starts[0]
        x1, x2 = 20 + start * gap + wide / 2, 20 + end * gap + wide / 2
        foot = BAR_TOP - 22
        high = foot - 6 - min(50, 5 * (end - start))
        kind = "arc" if meeting.fits else "arc wrong"
        yield (
            f'<path class="{kind}" d="M{x1:.1f} {foot} C{x1:.1f} {high:.1f} {x2:.1f} '
            f'{high:.1f} {x2:.1f} {foot}"/>'
        )
        if not meeting.fits:
            yield (
                f'<text class="small wrong" x="{x2:.1f}" y="{BAR_TOP - 7}">'
                f"{by(meeting.made)} ≠ {by(meeting.other)}</text>"
            )


def _misfit(report: Report, place: int) -> bool:
    return any(m.layer == place and not m.fits for m in report.walk.meetings)


def _short(size: Shape) -> list[str]:
    return [str(size[0])] if len(set(size)) == 1 else [str(n) for n in size]


def _intensity(layer: LayerReport) -> float:
    return 2 * cost(layer.layer.problem).phases.multiplications / layer.bytes


def _speeds(layer: LayerReport) -> tuple[float, float]:
    assert layer.seconds is not None
    theirs, ours = layer.seconds
    return 2e-9 * layer.multiply_adds / theirs, 2e-9 * layer.multiply_adds / ours


def _axes(
    box: tuple[float, float, float, float], across: range, up: range, at: object
) -> Iterator[str]:
    left, top, width, height = box
    assert callable(at)
    for power in across:
        x, _ = at(10.0**power, 10.0 ** up[0])
        yield (
            f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}"/>'
            f'<text class="small" x="{x:.1f}" y="{top + height + 16}">{10.0**power:g}</text>'
        )
    for power in up:
        _, y = at(10.0 ** across[0], 10.0**power)
        yield (
            f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>'
            f'<text class="small end" x="{left - 6}" y="{y + 4:.1f}">{10.0**power:g}</text>'
        )
    yield (
        f'<text class="small" x="{left + width / 2}" y="{top + height + 36}">'
        "operations per byte moved at least</text>"
        f'<text class="small" transform="translate(14 {top + height / 2}) rotate(-90)">'
        "GFLOP/s</text>"
    )


def _svg(width: float, height: float, parts: Sequence[str], name: str) -> str:
    return (
        f'<svg id="{name}" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="min-width:{0.9 * width:.0f}px;max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )
