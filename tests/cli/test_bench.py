"""``polyphase bench``, from the command line to its files."""

import json

import pytest

from polyphase.cli import main
from polyphase.tools.bench import engines, machine

QUICK = ["--threads", "1", "--seconds", "0"]


@pytest.fixture(autouse=True)
def _quick_limits(monkeypatch):
    # the figures of the machine do not matter here
    for name in ("BURSTS", "COPIES", "COPY_BYTES"):
        monkeypatch.setattr(machine, name, 1)


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "layers.txt"
    path.write_text("c3:5 i6x5 k4x4 s2x2 p1x1 @one\nc4:4 i7 k3 s2 @two\n")
    return path


def bench(*arguments):
    return main(["bench", *QUICK, *map(str, arguments)])


def test_it_shows_and_writes_every_row(layers, tmp_path, capsys):
    json_file, page = tmp_path / "out.json", tmp_path / "out.md"
    assert bench("--layers", layers, "--json", json_file, "--markdown", page) == 0
    shown = capsys.readouterr().out
    for line in ("one     nchw", "one     nhwc", "two     ncl", "two     nlc"):
        assert f"\n{line}" in shown
    rows = json.loads(json_file.read_text())["rows"]
    assert [row["problem"].split()[-1] for row in rows] == ["@one", "@one", "@two", "@two"]
    assert "| one |" in page.read_text()


def test_layers_are_chosen_by_name_and_layout(layers, capsys):
    assert bench("--layers", layers, "--filter", "^t", "--layout", "last") == 0
    shown = capsys.readouterr().out
    assert "two     nlc" in shown
    assert "one" not in shown.split("ms: median")[0]
    assert "ncl" not in shown


def test_gradients_are_measured_one_after_the_other(layers, capsys):
    assert bench("--layers", layers, "--backward", "--layout", "first") == 0
    shown = capsys.readouterr().out
    titles = ("gradient of the input\n", "gradient of the weights\n", "forward and backward\n")
    places = [shown.index(title) for title in titles]
    assert places == sorted(places)
    assert shown.count("\none     nchw") == 3


def test_a_wrong_result_is_an_exit_code(layers, monkeypatch, capsys):
    right = engines.polyphase_call

    def wrong(problem, given):
        call = right(problem, given)
        return lambda: call() + 1

    monkeypatch.setattr(engines, "polyphase_call", wrong)
    assert bench("--layers", layers, "--layout", "first") == 1
    assert "one     nchw   off by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "nobody"], "--filter 'nobody' leaves none of the 36 layers"),
        (["--filter", "("], "--filter '(' is not a regular expression: missing ), unterminated"),
        (["--layers", "none.txt"], "cannot read the layers in 'none.txt': No such file"),
        (["--json", "none/out.json"], "cannot write 'none/out.json': there is no folder none"),
        (["--backward", "--peers"], "--backward does not go with --peers: measure one at a time"),
        (["--backward", "--first-call"], "--backward does not go with --first-call"),
        (["--peers", "--dtype", "f64"], "--peers measures float32 alone, got --dtype f64"),
        (["--dtype", "int8"], "invalid value for '--dtype': 'int8' is not one of"),
        (["--threads", "0"], "invalid value for '--threads': 0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message, capsys):
    assert bench(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"polyphase: {message}")
    assert said.count("\n") == 1
