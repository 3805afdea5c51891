"""Reader of ``tests/problems/*.txt``: one problem line each, ``#`` begins a comment.

In ``regress.txt`` the comment above a line is the reason why it is there.
"""

from typing import NamedTuple

import repository

from polyphase import Problem

FOLDER = repository.ROOT / "tests" / "problems"


class Entry(NamedTuple):
    """A problem and the comment lines directly above it."""

    problem: Problem
    reason: str


def names():
    """The files that there are, without ``.txt``."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def entries(name):
    """The problems of one file, each with its reason, if any."""
    return list(parse((FOLDER / f"{name}.txt").read_text()))


def problems(*chosen):
    """The problems of the files named, of all files if none is."""
    return [entry.problem for name in chosen or names() for entry in entries(name)]


def parse(text):
    reason = []
    for line in text.splitlines():
        if line.startswith("#"):
            reason.append(line.lstrip("# "))
            continue
        if line.strip():
            yield Entry(Problem.parse(line), " ".join(reason))
        reason = []
