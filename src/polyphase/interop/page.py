"""The tables of the page about other frameworks, made from what the modules say.

``python -m polyphase.interop.page FILE`` writes them anew between the marks in a page.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from polyphase.interop import FRAMEWORKS, channel_axis
from polyphase.interop.convention import Convention

MARK = "<!-- {}: {} -->"


def weights() -> str:
    """The weights and the axis of their channels, groups, output padding, arrays and bias."""
    rows = []
    for module in FRAMEWORKS.values():
        it: Convention = module.CONVENTION
        axes = [it.layout.shape(groups=bool(it.groups) and not it.group_axis)]
        if it.group_axis:
            axes.append("(g, C_in/g, C_out/g, *kernel)")
        rows.append(
            (
                it.title,
                " or ".join(f"`{shape}`" for shape in axes),
                "yes" if it.layout.flip else "no",
                str(channel_axis(it.name, rank=2)),
                it.groups if " " in it.groups else _code(it.groups) or "none",
                it.output_padding or "no such parameter",
                "last" if it.channels_last else "first",
                "yes" if it.takes_bias else "no",
            )
        )
    heads = (
        "framework",
        "weights",
        "flipped",
        "channel axis, 2D",
        "groups",
        "output padding",
        "channels",
        "bias",
    )
    return _table(heads, rows)


def crops() -> str:
    """What each setting removes from the full result."""
    rows = []
    for module in FRAMEWORKS.values():
        for at, rule in enumerate(module.CONVENTION.rules):
            title = module.CONVENTION.title if at == 0 else ""
            rows.append((title, rule.setting, _code(rule.begin), _code(rule.end)))
    return _table(("framework", "setting", "a, at the beginning", "b, at the end"), rows)


def traps() -> str:
    """For each framework what goes wrong, what it was checked against, and where it stands."""
    told = []
    for module in FRAMEWORKS.values():
        it = module.CONVENTION
        checked = f"Checked against {it.checked}." if it.checked else "Not run: from its source."
        told.append(f"- **{it.title}.** {it.trap} {checked} Source: {it.source}.")
    return "\n".join(told)


SECTIONS = {"weights": weights, "crops": crops, "traps": traps}


def filled(page: str) -> str:
    """The page with every section made anew."""
    for name, make in SECTIONS.items():
        begin, end = MARK.format(name, "made by polyphase.interop.page"), MARK.format(name, "end")
        if (page.count(begin), page.count(end)) != (1, 1):
            raise ValueError(f"the page must have the marks {begin} and {end} once")
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return page


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def main(path: str) -> None:
    """Write the sections into the page."""
    file = Path(path)
    file.write_text(filled(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
