"""The page of common statements: every size on it is what polyphase and PyTorch give.

The values are read from the page itself, so that it cannot drift from either. Its Python sessions
are run by ``meta/test_pages.py``, like those of every page.
"""

import re
from typing import NamedTuple

import numpy as np
import pytest
import repository
import torch

from polyphase import GeometryError, Problem, functional

PAGE = repository.ROOT / "docs" / "seeds.md"
VERDICTS = ("Right", "Incomplete", "Misleading", "Wrong", "Opinion")
# the statements that were found in the documents, before some were split into parts
STATEMENTS = 38


class Statement(NamedTuple):
    """One heading of the page with what stands below it."""

    document: str
    number: str
    verdict: str
    text: str


class Check(NamedTuple):
    """One line of a box: a problem and what becomes of its size."""

    number: str
    problem: str
    result: str


def statements():
    found = []
    for document, body in re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S
    ):
        for part in re.split(r"^### ", body, flags=re.M)[1:]:
            number, verdict = re.match(r"(\w+)\. .+\n\n\*\*(\w+)", part).groups()
            found.append(Statement(document, number, verdict, part))
    return found


def checks():
    return [
        Check(statement.number, *re.split(r" +-> ", row))
        for statement in statements()
        for box in re.findall(r"^```sizes\n(.*?)^```$", statement.text, re.M | re.S)
        for row in box.splitlines()
    ]


def calls(line):
    """The problem as calls of polyphase and of PyTorch, which return the size."""
    # read without the checks of Problem, since a line may be there because it is refused
    found = dict(re.findall(r"\b([a-z])(\d[\dx:]*)", line))
    rank = found["i"].count("x") + 1
    transposed = not line.startswith("conv ")
    numbers = {key: tuple(map(int, re.split("[x:]", text))) for key, text in found.items()}
    groups = numbers.get("g", (1,))[0]
    small, large = numbers["c"] if transposed else reversed(numbers["c"])
    shapes = (
        (numbers.get("n", (1,))[0], numbers["c"][0], *numbers["i"]),
        (small, large // groups, *numbers["k"]),
    )
    names = {"s": "stride", "p": "padding", "o": "output_padding", "d": "dilation"}
    keywords = {name: numbers[key] for key, name in names.items() if key in numbers}
    function = f"conv{'_transpose' * transposed}{rank}d"

    def by_polyphase():
        arrays = (np.ones(shape, np.float32) for shape in shapes)
        return getattr(functional, function)(*arrays, groups=groups, **keywords).shape[2:]

    def by_torch():
        tensors = (torch.ones(shape) for shape in shapes)
        call = getattr(torch.nn.functional, function)
        return tuple(call(*tensors, groups=groups, **keywords).shape[2:])

    return by_polyphase, by_torch


def torch_layer(problem):
    """PyTorch's layer on the problem's input, for a wanted output size."""
    g = problem.geometry
    layer = torch.nn.ConvTranspose1d(
        problem.in_channels, problem.out_channels, g.kernel_size, g.stride, g.padding,
        dilation=g.dilation,
    )  # fmt: skip
    return lambda size: layer(torch.ones(problem.input_shape), output_size=(size,)).shape[-1]


def by_axis(text):
    return tuple(map(int, text.split("x")))


@pytest.mark.parametrize("check", checks(), ids=str)
def test_a_size_on_the_page_is_that_of_polyphase_and_torch(check):
    by_polyphase, by_torch = calls(check.problem)
    if check.result == "refused":
        with pytest.raises(GeometryError):
            by_polyphase()
        with pytest.raises(GeometryError):
            Problem.parse(check.problem)
        with pytest.raises(RuntimeError):
            by_torch()
    elif " or " in check.result:
        sizes = [int(size) for size in check.result.split(" or ")]
        problem = Problem.parse(check.problem)
        layer = torch_layer(problem)
        assert list(problem.geometry.output_sizes(problem.input_size)) == sizes
        assert [layer(size) for size in sizes] == sizes
        for beyond in (sizes[0] - 1, sizes[-1] + 1):
            with pytest.raises(ValueError, match="valid sizes range"):
                layer(beyond)
    else:
        expected = by_axis(check.result)
        assert by_polyphase() == by_torch() == Problem.parse(check.problem).output_size == expected


def test_every_statement_is_there():
    numbers = [statement.number for statement in statements()]
    assert len(set(numbers)) == len(numbers)
    plain = [int(re.match(r"\d+", number)[0]) for number in numbers]
    assert plain == sorted(plain)
    assert set(plain) == set(range(1, STATEMENTS + 1))


@pytest.mark.parametrize("statement", statements(), ids=lambda statement: statement.number)
def test_a_statement_has_a_verdict_and_a_check(statement):
    assert statement.verdict in VERDICTS
    assert ("```" in statement.text) != ("Not checked" in statement.text)
    # an opinion is no fact that could be checked
    assert statement.verdict != "Opinion" or "Not checked" in statement.text


def test_the_table_counts_the_verdicts():
    documents = list(dict.fromkeys(statement.document for statement in statements()))
    verdicts = [(statement.document, statement.verdict) for statement in statements()]
    expected = [
        f"| {document} | " + " | ".join(str(verdicts.count((document, v))) for v in VERDICTS) + " |"
        for document in documents
    ]
    head = f"| Document | {' | '.join(VERDICTS)} |"
    rows = re.findall(r"^\| .*\|$", PAGE.read_text(), re.M)
    assert rows == [head, *expected]


def test_the_example_at_the_top_is_true():
    [key] = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for row in key.splitlines():
        problem, result = re.fullmatch(r"(.+?) +-> (\S+(?: or \S+)*)  +.*", row).groups()
        test_a_size_on_the_page_is_that_of_polyphase_and_torch(Check("0", problem, result))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("c1:1 i4 k3 s2 p1", "8"),
        ("c1:1 i4 k3 s2 p1", "refused"),
        ("c1:1 i4 k3 s2 p1", "7 or 8 or 9"),
        ("c1:1 i4 k3 s2 p1 o2", "9"),
        ("conv c1:1 i7 k3 s2 p1", "5"),
    ],
)
def test_a_wrong_line_is_noticed(line, wrong):
    with pytest.raises((AssertionError, pytest.fail.Exception, GeometryError)):
        test_a_size_on_the_page_is_that_of_polyphase_and_torch(Check("0", line, wrong))
