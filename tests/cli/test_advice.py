"""What the command line advises, typed as it stands."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from polyphase import cli


def error_of(*arguments):
    """What a command says on the error stream."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as told:
        cli.main(arguments)
    return told.getvalue().strip()


def json_of(*arguments):
    """The data that a successful command prints."""
    with redirect_stdout(io.StringIO()) as told:
        assert cli.main([*arguments, "--json"]) == 0
    return json.loads(told.getvalue())


@given(st.integers(1, 30), st.integers(1, 80), st.integers(1, 7), st.integers(1, 4))
def test_what_solve_and_size_advise_is_right(size, target, kernel, stride):
    given_ = {"-k": str(kernel), "-s": str(stride), "-p": "3"}
    told = error_of("solve", str(size), str(target), *chain(*given_.items()))
    _, found, offers = told.partition(f"; {target} is reached by ")
    for offer in offers.split(" | ") if found else []:
        words = offer.partition(" (")[0].split()
        changed = given_ | dict(zip(words[::2], words[1::2], strict=True))
        assert json_of("size", str(size), *chain(*changed.items()))["output_size"] == target
    told = error_of("size", str(size), *chain(*given_.items()))
    if found := re.search(r"use at most -p (\S+), or an input of at least (\d+)", told):
        less = given_ | {"-p": found[1]}
        assert json_of("size", str(size), *chain(*less.items()))["output_size"] >= 1
        assert json_of("size", found[2], *chain(*given_.items()))["output_size"] >= 1
