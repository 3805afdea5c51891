"""The pages: all of them in the menu, no dead link, and every example true."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
import repository
import yaml

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def fences(path: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return [body for found, body in FENCE.findall(path.read_text()) if found == language]


def commands(path: Path) -> list[tuple[str, str]]:
    """Each `$ polyphase ...` of a page with the output shown beneath it."""
    found = []
    for block in fences(path, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            line, _, output = part.partition("\n")
            found.append((line, output))
    return found


def menu(entries: list) -> set[str]:
    """The pages of a mkdocs menu, which nests."""
    pages = set()
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages |= {value} if isinstance(value, str) else menu(value)
    return pages


def with_examples():
    return [path for path in repository.pages() if fences(path, "python")]


def with_commands():
    return [(path, *pair) for path in repository.pages() for pair in commands(path)]


def test_every_page_is_in_the_menu():
    settings = yaml.load((repository.ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)
    docs = repository.ROOT / "docs"
    assert menu(settings["nav"]) == {p.relative_to(docs).as_posix() for p in docs.rglob("*.md")}


@pytest.mark.parametrize("path", repository.pages(), ids=repository.relative)
def test_relative_links_lead_somewhere(path):
    outside = ("http://", "https://", "mailto:", "#")
    links = [link for link in LINK.findall(path.read_text()) if not link.startswith(outside)]
    assert [link for link in links if not (path.parent / link.split("#")[0]).exists()] == []


def test_the_readme_shows_both_kinds_of_example():
    readme = repository.ROOT / "README.md"
    assert fences(readme, "python")
    assert commands(readme)


@pytest.mark.parametrize("path", with_examples(), ids=repository.relative)
def test_python_examples_are_true(path):
    # one page is one session: later blocks see the names of earlier ones
    session = "\n".join(fences(path, "python"))
    test = doctest.DocTestParser().get_doctest(session, {}, repository.relative(path), None, 0)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert "".join(said) == ""


@pytest.mark.parametrize(
    ("path", "line", "output"), with_commands(), ids=lambda value: str(value)[-60:]
)
def test_commands_print_what_the_page_shows(path, line, output, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    program, *arguments = line.split()
    assert program == "polyphase"
    result = subprocess.run(
        [sys.executable, "-m", "polyphase", *arguments], capture_output=True, text=True
    )
    lines = [text.rstrip() for text in (result.stdout + result.stderr).splitlines()]
    printed, shown = "\n".join(lines).strip(), output.strip()
    # what depends on the machine stands as ... on the page
    same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
    assert same, f"printed:\n{printed}\nshown:\n{shown}"
