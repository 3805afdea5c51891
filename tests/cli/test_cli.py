"""The command line as scripts and people meet it."""

import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyphase import cli

CLASSIC = ["6", "-k", "3", "-s", "2", "-p", "1"]


def run(*arguments, **changes):
    """A process of its own, with changes to the environment."""
    return subprocess.run(
        [sys.executable, "-m", "polyphase", *arguments],
        capture_output=True,
        env=os.environ | changes,
        check=False,
    )


@pytest.fixture
def answer(capsys):
    """What a successful command prints."""

    def of(*arguments):
        assert cli.main(arguments) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return of


@pytest.fixture
def refusal(capsys):
    """The one line that refused input leaves."""

    def of(*arguments, code=2):
        assert cli.main(arguments) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("polyphase: ")
        assert printed.err.count("\n") == 1
        assert printed.err.endswith("\n")
        return printed.err

    return of


def test_size_as_json(answer):
    found = json.loads(answer("size", *CLASSIC, "--json"))
    assert found == {
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "output_padding": 0,
        "dilation": 1,
        "input_size": 6,
        "output_size": 11,
        "output_sizes": [11, 12],
        "conv_input_sizes": [11, 12],
        "formula": "(6 - 1)*2 - 2*1 + 1*(3 - 1) + 0 + 1 = 11",
    }


def test_size_of_two_axes_as_json(answer):
    found = json.loads(answer("size", "50x100", "-k", "3x5", "-s", "2x1", "-p", "4x2", "--json"))
    assert found["output_size"] == [93, 100]
    assert found["output_sizes"] == [[93, 94], [100, 100]]


def test_size_prints_the_formula_with_its_numbers(answer):
    printed = answer("size", *CLASSIC)
    assert "= (6 - 1)*2 - 2*1 + 1*(3 - 1) + 0 + 1\n" in printed
    assert "Reachable: 11 to 12," in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["6", "-k", "3"], 8),
        (["6", "-k", "3", "-s", "2", "-o", "1"], 14),
        (["6", "-k", "3", "-d", "4"], 14),
        (["6", "-k", "3", "-p", "0,1"], 7),
        (["6", "-k", "3", "-p", "-1,-1"], 10),
        (["6", "-k", "3", "-s", "2", "-p", "same"], 12),
        (["6x7", "-k", "3", "-p", "1"], [6, 7]),
        (["6x7x8", "-k", "1x2x3", "-s", "1x2x3"], [6, 14, 24]),
        (["6x7", "-k", "3", "-p", "0,1x2"], [7, 5]),
        (["999999999999999999", "-k", "1", "-s", "10"], 9999999999999999981),
    ],
)
def test_size_reads_every_spelling(answer, arguments, expected):
    assert json.loads(answer("size", *arguments, "--json"))["output_size"] == expected


def test_explain_as_json(answer):
    found = json.loads(answer("explain", *CLASSIC, "--json"))
    assert found["problem"] == "conv_transpose n1 c1:1 g1 i6 k3 s2 p1 o0 d1 f32 ncl"
    assert [phase["taps"] for phase in found["axes"][0]["phases"]] == [[1], [0, 2]]
    assert found["overlap"]["even"] is False
    assert found["cost"]["phases"]["multiplications"] == 16


@pytest.mark.parametrize(
    "words", [["n2 c64:32 i8x8 k4x4 s2x2 p1x1"], ["n2", "c64:32", "i8x8", "k4x4", "s2x2", "p1x1"]]
)
def test_explain_takes_a_problem_line_in_one_word_or_many(answer, words):
    found = json.loads(answer("explain", *words, "--json"))
    assert found["cost"]["phases"]["multiplications"] == 3686400
    assert "3,686,400" in answer("explain", *words)


def test_solve_offers_what_an_expert_would(answer):
    found = json.loads(answer("solve", "7", "16", "-s", "2", "--json"))
    sets = [(each["kernel_size"], each["padding"]) for each in found["solutions"]]
    assert {(4, 0), (6, 1)} <= set(sets[:3])
    assert all(each["stride"] == 2 for each in found["solutions"])
    assert found["stopped"] is None


def test_solve_lists_its_sets_as_a_table(answer):
    lines = answer("solve", "7", "16", "-s", "2", "--limit", "2").splitlines()
    assert lines[0] == "input 7, output 16"
    assert [line.split() for line in lines[4:6]] == [list("42002"), list("62103")]
    assert lines[-1] == "These are the best 2; --limit lists more."


def test_solve_serves_several_sizes_with_one_set(answer):
    found = json.loads(answer("solve", "5,7,9", "10,14,18", "-k", "3", "-k", "4", "--json"))
    assert found["input_size"] == [5, 7, 9]
    first = found["solutions"][0]
    assert (first["kernel_size"], first["stride"], first["padding"]) == (4, 2, 1)


def test_solve_takes_values_for_each_axis(answer):
    found = json.loads(answer("solve", "32x32", "64x32", "-k", "4x3", "--json"))
    first = found["solutions"][0]
    assert (first["kernel_size"], first["stride"], first["padding"]) == ([4, 3], [2, 1], [1, 1])


def test_solve_says_why_a_set_cannot_and_what_can(refusal):
    line = refusal("solve", "10", "30", "-k", "3", "-s", "2", "-p", "1", code=1)
    assert "30 cannot be reached" in line
    assert "19 and 20" in line
    assert "30 is reached by -s 3 -p 0 (exactly 3 times every size) | -k 5 -s 3" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["foo"], "no such command 'foo'"),
        (["--bogus"], "no such option '--bogus'"),
        (["size"], "missing argument 'INPUT' (see 'polyphase size --help')"),
        (["size", "6"], "add -k, for example -k 3"),
        (["size", "6", "-k"], "requires an argument"),
        (["size", "6", "-k", "3", "--kernel", "3"], "--kernel-size"),
        (["size", "6", "7", "-k", "3"], "unexpected extra argument"),
        (["size", "-6", "-k", "3"], "a size is at least 1, got '-6'"),
        (["size", "-12x3", "-k", "3"], "a size is at least 1, got '-12x3'"),
        (["size", "0", "-k", "3"], "input_size must be at least 1, got 0"),
        (["size", "6", "-k", "-3"], "kernel_size must be at least 1, got -3"),
        (["size", "6", "-k", "3", "-s", "0"], "stride must be at least 1, got 0"),
        (["size", "6.5", "-k", "3"], "'6.5' is not whole numbers joined by x"),
        (["size", "", "-k", "3"], "'' is not whole numbers"),
        (["size", "6,5", "-k", "3"], "such as 6 or 50x100"),
        (["size", "1e3", "-k", "3"], "'1e3' is not whole numbers"),
        (["size", "6", "-k", "3x"], "'3x' is not whole numbers"),
        (["size", "6", "-k", "3", "-p", "x"], "nor the word same"),
        (["size", "6", "-k", "3", "-p", "1,2,3"], "'1,2,3' is neither"),
        (["size", "6", "-k", "3", "-p", "-1"], "write -p -1,-1"),
        (["size", "6", "-k", "3", "-p", "same", "-o", "1"], "leave out -o"),
        (["size", "6", "-k", "3", "-s", "2", "-o", "2"], "0 to 1 are allowed"),
        (["size", "6x7", "-k", "3x3x3"], "kernel_size has 3 values and the size has 2"),
        (["size", "6", "-k", "3", "-p", "1x1"], "padding has 2 values and the size has 1"),
        (["size", "6x7x8x9", "-k", "3"], "4 axes: at most 3"),
        (["size", "1", "-k", "3", "-p", "9"], "use at most -p 1, or an input of at least 17"),
        (["size", "4x1", "-k", "3", "-p", "0x9"], "at most -p 0x1, or an input of at least 4x17"),
        (["explain", "c1:1 i1x4 k3x3 p9x0"], "use at most p1x0, or an input of at least 17x4"),
        (["size", "1" * 19, "-k", "3"], "at most 18 digits"),
        (["size", "1" * 9999, "-k", "3"], "at most 18 digits, got '1111111111"),
        (["explain"], "missing argument"),
        (["explain", "abc"], "neither an input size"),
        (["explain", "6"], "add -k"),
        (["explain", "6", "6", "-k", "3"], "holds every parameter"),
        (["explain", "i6 k3"], "needs c"),
        (["explain", "i6 k3 c1:1 zz"], "cannot read 'zz'"),
        (["explain", f"i6 k{'3' * 5000} c1:1"], "at most 18 digits"),
        (["explain", "i6x6 k3 c1:1"], "same number of axes"),
        (["explain", "6", "-k", "1000000000"], "at most 100000"),
        (["solve", "7"], "missing argument 'OUTPUT'"),
        (["solve", "7", "-16"], "a size is at least 1, got '-16'"),
        (["solve", "7", "16x16"], "the same number of axes, got 1 and 2"),
        (["solve", "7,8", "16"], "every input size needs its output size, got 2 and 1"),
        (["solve", "7,8x8", "16"], "differ in their number of axes"),
        (["solve", "7", "16", "-p", "same"], "polyphase size -p same"),
        (["solve", "7", "16", "--limit", "0"], "--limit"),
        (["solve", "7", "16", "--limit", "many"], "--limit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_told_in_one_line(refusal, arguments, told):
    assert told in refusal(*arguments)


WORDS = """
    size solve explain 6 0 -6 7x9 6x7x8 5,7 10,14 99999999999999999 1e3 x -- -h --json
    -k 3 3x4 -s 2 -p 1 0,1 -1,2 same -o -d --limit
    conv c1:1 c4:6 g2 i6 i6x7 k3 s2 p1 o1 d2 n0 nhwc @name
"""
words = st.sampled_from([*WORDS.split(), "", " ", "\n", "\x00", "ä", "\ud800", "9" * 30])


@given(st.lists(words, max_size=9))
def test_no_words_whatever_raise_an_exception(arguments):
    assert cli.main(arguments) in (0, 1, 2)


sizes = st.sampled_from(["0", "1", "2", "7", "16", "2x3", "7x7x7", "5,7", "10,14", "2x3,4x5"])


def parameters(*others):
    """Up to five options, with values of every kind and some others."""
    values = ["0", "1", "2", "3", "9", "-1", "2x3", "1,0", "-1,2x3", "same", *others]
    pair = st.tuples(st.sampled_from(["-k", "-s", "-p", "-o", "-d"]), st.sampled_from(values))
    return st.lists(pair, max_size=5).map(lambda pairs: [word for pair in pairs for word in pair])


@given(sizes, parameters("9" * 18), st.sampled_from([[], ["--json"]]))
def test_no_parameters_of_one_size_raise_an_exception(size, chosen, form):
    assert cli.main(["size", size, *chosen, *form]) in (0, 2)
    assert cli.main(["explain", size, *chosen, *form]) in (0, 2)


@given(sizes, sizes, parameters(), st.sampled_from([[], ["--json"]]))
def test_no_parameters_of_two_sizes_raise_an_exception(size, other, chosen, form):
    assert cli.main(["solve", size, other, *chosen, *form]) in (0, 1, 2)


@pytest.mark.parametrize("option", ["-k", "-s", "-p", "-o", "-d"])
@pytest.mark.parametrize("size", ["2", "9" * 18])
def test_a_huge_value_neither_hangs_nor_overflows(option, size):
    assert cli.main(["solve", size, "2", option, "9" * 18]) in (0, 1, 2)
    assert cli.main(["solve", "2", size, option, "9" * 18]) in (0, 1, 2)


def test_alone_it_shows_its_help(answer):
    assert answer().startswith("Usage: polyphase")
    assert "polyphase solve 7 16 -s 2" in answer("--help")


@pytest.mark.parametrize("command", ["size", "solve", "explain"])
def test_the_examples_of_the_help_work(answer, command):
    lines = [line.split() for line in answer(command, "--help").splitlines()]
    examples = [words for words in lines if words[:2] == ["polyphase", command]]
    assert len(examples) >= 4
    for words in examples:
        assert answer(*words[1:])


def test_the_version(answer):
    import polyphase

    assert answer("--version") == f"polyphase, version {polyphase.__version__}\n"


def test_the_exit_code_reaches_the_shell():
    assert run("size", *CLASSIC).returncode == 0
    refused = run("size", "-6")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", ["size", "explain"])
def test_the_width_of_the_terminal_is_kept(command, width):
    arguments = "8x30", "-k", "3x40", "-s", "2x20"
    lines = run(command, *arguments, COLUMNS=str(width)).stdout.decode().splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", ["60", "80", "120"])
@pytest.mark.parametrize(
    "command", [["size", *CLASSIC], ["solve", "7", "16"], ["explain", *CLASSIC]]
)
def test_no_line_ends_in_blanks(answer, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", width)
    assert [line for line in answer(*command).splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    "command", [["size", *CLASSIC], ["solve", "7", "16"], ["explain", "c1:1 i6 k3 @größe"]]
)
def test_a_plain_terminal_gets_plain_letters(command):
    result = run(*command, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii()


def test_a_plain_terminal_gets_plain_errors():
    result = run("explain", "größe", PYTHONIOENCODING="ascii")
    assert result.returncode == 2
    assert b"gr\\xf6\\xdfe" in result.stderr


def on_a_terminal(*arguments, **changes):
    """What a colour terminal receives."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"} | changes
    process = subprocess.Popen(
        [sys.executable, "-m", "polyphase", *arguments], stdout=theirs, env=environment
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            # linux reports the closed end this way
            break
        if not chunk:
            break
        received += chunk
    os.close(ours)
    assert process.wait() == 0
    return received


def test_colours_are_for_terminals_that_want_them():
    cyan = b"\x1b[36m"
    assert cyan in on_a_terminal("explain", *CLASSIC)
    assert cyan not in on_a_terminal("explain", *CLASSIC, NO_COLOR="1")
    assert b"\x1b" not in run("explain", *CLASSIC).stdout


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_stops_early_is_no_error(options):
    process = subprocess.Popen(
        [sys.executable, "-m", "polyphase", "explain", *CLASSIC, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr:
        told = process.stderr.read()
    assert (process.wait(), told) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_answer_that_cannot_be_written_is_told():
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "polyphase", "size", *CLASSIC],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr.startswith(b"polyphase: cannot write the answer")
    assert result.stderr.count(b"\n") == 1


def test_size_loads_neither_numpy_nor_an_engine():
    program = (
        "import sys; from polyphase.cli import main; main(['size', '6', '-k', '3']); "
        "sys.exit(str({'numpy', 'torch', 'llvmlite', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert result.stderr == b"set()\n"
