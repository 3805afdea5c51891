"""``polyphase bench``: from its options to the table on the screen and the files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from polyphase.arithmetic.problem import Problem
from polyphase.errors import GeometryError
from polyphase.tools.bench import peers, suite
from polyphase.tools.bench.rows import OURS, Row
from polyphase.tools.bench.screen import Screen
from polyphase.tools.bench.session import Session, Settings

LASTS = {"first": (False,), "last": (True,), "both": (False, True)}


def run(given: dict[str, Any]) -> int:
    """Measure, show and write what the options ask for; 1 where a layer failed."""
    check_files([given["json"], given["markdown"]])
    layers = given["layers"]
    problems = chosen(suite.read(Path(layers) if layers else suite.SUITE), given["filter"])
    session = Session(settings(given))
    console = Console(markup=False, highlight=False, emoji=False)
    best = bool(session.settings.peers) or not session.known.keys().isdisjoint(problems)
    screen = Screen(console.width, problems, best=best)
    for line in screen.head(session.roof, session.load):
        console.print(line, soft_wrap=True)
    for row in _rows(session, problems, given["backward"]):
        for line in screen.row(row, session.roof):
            console.print(line, soft_wrap=True)
    report = session.report()
    for line in screen.foot(report):
        console.print(line, soft_wrap=True)
    if given["json"]:
        report.write(Path(given["json"]))
    if given["markdown"]:
        Path(given["markdown"]).write_text(report.markdown(), "utf-8")
    return int(any(OURS in row.failures for row in report.rows))


def _rows(session: Session, problems: Sequence[Problem], backward: bool) -> Iterator[Row]:
    """The layers; or their gradients, first by themselves and then in a step of training."""
    if not backward:
        yield from session.run(problems)
        return
    for gradients in zip(*map(suite.gradients, problems), strict=True):
        yield from session.run(gradients)
    yield from session.run(problems, step=True)


def chosen(problems: Sequence[Problem], pattern: str) -> list[Problem]:
    """The problems whose name holds a pattern."""
    try:
        found = [problem for problem in problems if re.search(pattern, problem.name)]
    except re.error as error:
        raise GeometryError(f"--filter {pattern!r} is not a regular expression: {error}") from None
    if not found:
        raise GeometryError(f"--filter {pattern!r} leaves none of the {len(problems)} layers")
    return found


def check_files(paths: Sequence[str | None]) -> None:
    """Refuse, before anything is measured, to write where there is no folder."""
    for path in paths:
        if path and not Path(path).parent.is_dir():
            raise GeometryError(f"cannot write {path!r}: there is no folder {Path(path).parent}")


def settings(given: dict[str, Any]) -> Settings:
    """What to measure; refuses options that do not go together."""
    forward_only = [
        name for name in ("peers", "first_call", "memory") if given["backward"] and given[name]
    ]
    if forward_only:
        option = forward_only[0].replace("_", "-")
        raise GeometryError(f"--backward does not go with --{option}: measure one at a time")
    if given["peers"] and given["dtype"] != "f32":
        raise GeometryError(f"--peers measures float32 alone, got --dtype {given['dtype']}")
    return Settings(
        given["threads"],
        given["seconds"],
        given["dtype"],
        LASTS[given["layout"]],
        tuple(peers.installed()) if given["peers"] else (),
        given["kernel"],
        given["first_call"],
        given["memory"],
    )
