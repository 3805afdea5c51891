"""``polyphase check`` as a user meets it: what MODEL may be, exit codes, bad input."""

import json
import pickle
import re

import pytest
import torch
from repository import ROOT
from torch import nn

from polyphase.cli import main
from polyphase.models import ARCHITECTURES
from polyphase.tools.check import loading

GOOD = """
from torch import nn

def even():
    return nn.Sequential(nn.ConvTranspose1d(1, 2, 4, 2, 1))

class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose1d(1, 2, 3, 2)

    def forward(self, x):
        return self.up(x)

class Broken(Uneven):
    def forward(self, x):
        return super().forward(x).reshape(7, 7, 7)

def needs(width):
    return even()

def number():
    return 3

def ours():
    import polyphase as pp
    padding = ((0, 1),)
    return nn.Sequential(
        pp.nn.ConvTranspose1d(1, 2, 4, 2, 1), pp.nn.ConvTranspose1d(2, 2, 4, 2, padding=padding)
    )

def lazy():
    return nn.LazyConvTranspose1d(2, 4)

def beyond():
    return nn.Sequential(nn.ConvTranspose1d(1, 2, 4, 2, output_padding=3))

def raises():
    return nn.ConvTranspose1d(1, 2, 4)[3]
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets_to_check.py"
    path.write_text(GOOD)
    return path


def run(capsys, *words):
    code = main(["check", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("name", "fail_on", "code"),
    [
        ("even", "error", 0),
        ("Uneven", "error", 0),
        ("Uneven", "warning", 1),
        ("even", "warning", 0),
        ("even", "note", 1),
        ("Broken", "error", 1),
    ],
)
def test_exit_codes(capsys, nets, name, fail_on, code):
    assert run(capsys, f"{nets}:{name}", "--input", "1,1,8", "--fail-on", fail_on)[0] == code


def test_json_has_the_figures(capsys, nets):
    _, out, _ = run(capsys, f"{nets}:Uneven", "--input", "2x1x8", "--json")
    data = json.loads(out)
    assert data["outputs"] == [[2, 2, 17]]
    layer = data["layers"][0]
    assert layer["name"] == "up"
    assert layer["reachable"] == [[17, 18]]
    assert layer["multiply_adds"] == 2 * 2 * 8 * 3
    assert layer["unevenness"] > 0.05
    assert layer["unevenness_measured"] is True
    assert data["findings"][0]["code"] == "uneven-overlap"


def test_the_keys_of_json_are_those_of_the_page(capsys, nets):
    data = json.loads(run(capsys, f"{nets}:Uneven", "--input", "1,1,8", "--measure", "--json")[1])
    keys = {*data, *data["layers"][0], *data["findings"][0]}
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    table = page.partition("The keys of `--json`")[2].partition("| exit code")[0]
    assert keys == set(re.findall("`([a-z_]+)`", table))


def test_what_was_seen_before_an_error_is_shown_as_partial(capsys, nets):
    code, out, _ = run(capsys, f"{nets}:Broken", "--input", "1,1,8")
    assert code == 1
    assert "PARTIAL" in out
    assert "reshape" in out or "shape" in out
    assert "1 transposed convolution" in out


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits(capsys, nets, columns):
    _, out, _ = run(capsys, f"{nets}:Uneven", "--input", "1,1,8", "--width", columns)
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out


def test_an_exported_program_is_checked_at_its_own_size(capsys, tmp_path):
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ConvTranspose1d(2, 1, 3, 2))
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 9),)), path)
    _, out, _ = run(capsys, path, "--json")
    data = json.loads(out)
    assert data["outputs"] == [[1, 1, 15]]
    assert [layer["name"] for layer in data["layers"]] == ["1"]
    assert data["layers"][0]["unevenness_measured"] is True


def test_the_built_in_architectures_are_listed(capsys):
    code, out, _ = run(capsys, "--list")
    assert code == 0
    assert all(name in out for name in ARCHITECTURES)
    assert json.loads(run(capsys, "--list", "--json")[1]).keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a MODEL"),
        (("nothing",), "or one of unet"),
        (("unett",), "did you mean unet?"),
        (("nowhere.onnx",), "there is no file"),
        (("nowhere.py",), "there is no file"),
        (
            ("{nets}",),
            "the file has even, Uneven, Broken, needs, number, ours, lazy, beyond, raises",
        ),
        (("{nets}:evn", "--input", "1,1,8"), "did you mean even?"),
        (("{nets}:raises", "--input", "1,1,8"), "raised TypeError: 'ConvTranspose1d' object"),
        (("{nets}:raises", "--input", "1,1,8"), "nets_to_check.py line 39"),
        (("{nets}:lazy", "--input", "1,1,8"), "run it once, on zeros"),
        (("{nets}:beyond", "--input", "1,1,8"), "mend the parameters of 0"),
        (("no_such_package.x:y", "--input", "1,1,8"), "cannot import"),
        (("{nets}:absent", "--input", "1,1,8"), "it has"),
        (("{nets}:needs", "--input", "1,1,8"), "without arguments"),
        (("{nets}:number", "--input", "1,1,8"), "gives int"),
        (("{nets}:even",), "give --input"),
        (("{nets}:even", "--input", "1,1,many"), "such as 1,3,256,256"),
        (("{nets}:even", "--input", "1,3,8"), "does not run with input 1,3,8"),
        (("{nets}:even", "--input", "1,1,8:floaty"), "dtype must be"),
        (("unet", "--html", "/no/such/folder/x.html", "--input", "1,1,16,16"), "--html"),
    ],
)
def test_bad_input_is_one_line_with_the_next_step(capsys, nets, words, told):
    code, out, err = run(capsys, *(word.replace("{nets}", str(nets)) for word in words))
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert out == ""


class Trap:
    """Running it leaves a mark."""

    ran: list[str] = []  # noqa: RUF012

    def __reduce__(self):
        return (self.ran.append, ("ran",))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt"])
def test_a_pickle_is_not_read_unless_it_is_trusted(capsys, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(pickle.dumps(Trap()))
    code, _, err = run(capsys, path, "--input", "1,1,8")
    assert code == 2
    assert "--trust" in err
    assert Trap.ran == []


def test_a_trusted_pickle_is_checked(capsys, tmp_path):
    path = tmp_path / "net.pt"
    torch.save(nn.Sequential(nn.ConvTranspose1d(1, 1, 4, 2, 1)), path)
    assert run(capsys, path, "--input", "1,1,8", "--trust")[0] == 0
    torch.save({"up.weight": torch.zeros(3)}, path)
    code, _, err = run(capsys, path, "--input", "1,1,8", "--trust")
    assert code == 2
    assert "holds dict, no module" in err


def test_a_damaged_archive_is_refused(capsys, tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04 and no more")
    code, _, err = run(capsys, path)
    assert code == 2
    assert "torch.export.save" in err


def test_missing_torch_is_named(monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(loading.CheckError, match=r"pip install 'polyphase\[torch\]'"):
        loading.load("unet", ())


@pytest.mark.slow
def test_measuring_adds_times_and_differences(capsys, nets):
    _, out, _ = run(capsys, f"{nets}:even", "--input", "1,1,64", "--measure", "--json")
    data = json.loads(out)
    assert data["layers"][0]["difference"] <= 1e-6
    assert data["layers"][0]["milliseconds"].keys() == {"torch", "polyphase"}
    assert data["measured"]["roof"]["gflops"] > 0


def test_an_operation_that_refuses_its_input_is_told_once(capfd, nets):
    nets.write_text(
        "from torch import nn\nnet = nn.Sequential(nn.MaxPool2d(4), nn.ConvTranspose2d(1, 1, 2))\n"
    )
    main(["check", f"{nets}:net", "--input", "1,1,2,2"])
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_layers_of_polyphase_are_measured_where_pytorch_can_say_them(capsys, nets):
    code, out, _ = run(capsys, f"{nets}:ours", "--input", "1,1,64", "--measure", "--json")
    layers = json.loads(out)["layers"]
    assert code == 0
    assert layers[0]["difference"] <= 1e-6
    # a pair of paddings
    assert "milliseconds" not in layers[1]
