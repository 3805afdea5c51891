"""The problem files can be read, say what they must, and do not repeat themselves."""

import problem_files
import pytest

from polyphase import Problem


def test_the_files_are_found():
    assert problem_files.names() == ["classes", "models", "regress"]


def test_no_problem_is_listed_twice():
    problems = problem_files.problems()
    assert len(problems) > 100
    assert len(set(problems)) == len(problems)


def test_every_model_has_a_name():
    assert all(problem.name for problem in problem_files.problems("models"))


def test_every_regression_has_a_reason():
    assert [
        str(problem) for problem, reason in problem_files.entries("regress") if not reason
    ] == []


@pytest.mark.parametrize("problem", problem_files.problems(), ids=str)
def test_every_line_comes_back_from_its_problem(problem):
    assert Problem.parse(str(problem)) == problem


def test_a_reason_belongs_to_the_line_below_it():
    text = "# head\n\n# first\n# reason\nc1:1 i2 k1\nc1:1 i3 k1\n"
    assert list(problem_files.parse(text)) == [
        (Problem.parse("c1:1 i2 k1"), "first reason"),
        (Problem.parse("c1:1 i3 k1"), ""),
    ]


def test_a_line_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="cannot read 'q3'"):
        list(problem_files.parse("c1:1 i2 k1 q3"))
