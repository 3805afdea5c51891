"""What a file may be: of readable length, explained, and free of marks that do not belong."""

import ast
import re

import pytest
import repository

LONGEST = 400
# one letter of each stands in brackets, so that this file does not forbid itself
MARKS = {
    "an unfinished thought": re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b"),
    "a path of one machine": re.compile(r"(^|[^\w.])/(roo[t]|hom[e]|usr/loca[l])/\w"),
    "a drawer for everything": re.compile(r"\b(util[s]|commo[n]|mis[c])\.py\b"),
    "commented-out code": re.compile(r"^\s*# *(import \w+$|from \w+ import|return \w+$|print\()"),
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "core"}


def python_files():
    roots = [repository.PACKAGE, repository.ROOT / "tests", repository.ROOT / "bench"]
    return sorted(path for root in roots for path in root.rglob("*.py"))


def text_files():
    settings = ["pyproject.toml", "Makefile", "mkdocs.yml", ".ci/run"]
    return [*python_files(), *repository.pages(), *(repository.ROOT / name for name in settings)]


def marks(text):
    return [
        f"line {number}: {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in MARKS.items()
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", python_files(), ids=repository.relative)
def test_a_file_has_one_subject(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST
    assert path.stem not in DRAWERS
    assert path.parent.name not in DRAWERS


@pytest.mark.parametrize("path", repository.source_files(), ids=repository.relative)
def test_a_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", text_files(), ids=repository.relative)
def test_a_file_is_finished(path):
    assert marks(path.read_text()) == []


@pytest.mark.parametrize(
    ("begin", "end"),
    [("x = 1  # TO", "DO"), ("/ho", "me/ann/data"), ("see ut", "ils.py"), ("# im", "port numpy")],
)
def test_a_mark_is_noticed(begin, end):
    assert len(marks(begin + end)) == 1
