"""Layers of unusual kinds: quantised, complex, half, checkpointed, with inputs of several sizes."""

import importlib
import sys

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

import polyphase as pp
from polyphase.tools.check import loading
from polyphase.tools.check.checking import check
from polyphase.tools.check.measuring import measured


def report_of(model, *shapes, dtype="float32", **options):
    inputs = tuple((shape, dtype) for shape in shapes)
    return check(loading.Subject("model", "model", model, inputs), **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compute", [False, True])
def test_a_quantised_layer_is_refused_and_not_passed_over(compute):
    layer = torch.ao.nn.quantized.dynamic.ConvTranspose2d(8, 3, 4, 2, 1)
    with pytest.raises(loading.CheckError, match=r"is quantised.* before it is quantised"):
        report_of(nn.Sequential(layer), (1, 8, 8, 8), compute=compute)


def test_a_complex_layer_is_one_call():
    layer = nn.ConvTranspose2d(8, 3, 4, 2, 1, dtype=torch.complex64)
    report = report_of(nn.Sequential(layer), (1, 8, 8, 8), dtype="complex64")
    assert [one.layer.name for one in report.layers] == ["0"]
    assert report.layers[0].layer.problem.dtype == "c64"
    assert report.layers[0].evenness.measured


def test_types_that_pytorch_does_not_mix_are_told():
    net = nn.Sequential(nn.ConvTranspose2d(8, 3, 4, 2, 1)).half()
    told = r"the input is torch.float32 and the weights are torch.float16, in 0.*its type, too"
    with pytest.raises(loading.CheckError, match=told):
        report_of(net, (1, 8, 8, 8))
    report = report_of(net, (1, 8, 8, 8), dtype="float16")
    assert report.layers[0].layer.problem.dtype == "f16"


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 4, 2, 1)

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.up, x, use_reentrant=True)


def test_what_a_model_warns_of_is_not_said_at_every_size(recwarn):
    report = report_of(Checkpointed(), (1, 2, 8, 8))
    assert [one.layer.name for one in report.layers] == ["up"]
    assert not recwarn


class Guided(nn.Module):
    """A second input comes at half the size."""

    def __init__(self, *up):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 3, 2, 1), nn.ConvTranspose2d(2, 1, *up)
        self.deep = nn.Conv2d(2, 2, 2, 2)
        self.back = nn.ConvTranspose2d(2, 2, 2, 2)

    def forward(self, x, depth):
        y = self.down(x) + depth
        return self.up(self.back(self.deep(y)) + y) + x


def test_smaller_inputs_grow_in_proportion():
    net = Guided(4, 2, 1)
    report = report_of(net, (1, 1, 16, 32), (1, 2, 8, 16))
    assert set(report.sizes_tried) >= {(18, 32), (16, 34), (18, 34), (48, 64)}
    fault = next(one for one in report.findings if one.code == "skip-mismatch")
    assert (fault.layer, fault.severity) == ("back", "warning")
    assert "an input of 16x34 it makes 8x16 and meets 8x17" in fault.says
    assert "a multiple of 4" in fault.mend
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 1, 16, 34), torch.zeros(1, 2, 8, 17))
    net(torch.zeros(1, 1, 20, 36), torch.zeros(1, 2, 10, 18))


def test_inputs_with_fewer_axes_stay_as_they_are():
    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 4, 2, 1)

        def forward(self, words, x):
            return self.up(x[:, :, ::2, ::2]) + words.mean() * x

    report = report_of(Conditioned(), (1, 7, 3), (1, 1, 8, 8))
    assert [one.severity for one in report.findings if one.code == "skip-mismatch"] == ["warning"]
    assert (9, 9) in report.sizes_tried


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 4, 4, 2, 1)

    def forward(self, x):
        x = self.up(x)
        return x[:, :, x.mean((0, 1)) > 0]


def test_an_output_whose_size_depends_on_values_follows_nothing():
    report = report_of(Masked(), (1, 4, 32), compute=True)
    assert not [one for one in report.findings if one.code == "output-size"]


def test_a_folder_is_told(tmp_path):
    with pytest.raises(loading.CheckError, match=r"is a folder: .* as file\.py:name"):
        loading.load(str(tmp_path), ())


def test_a_trusted_pickle_finds_its_code_in_this_folder(tmp_path, monkeypatch):
    (tmp_path / "code_of_a_pickle.py").write_text(
        "from torch import nn\nclass Net(nn.ConvTranspose1d):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("code_of_a_pickle")
    torch.save(module.Net(1, 1, 4, 2, 1), tmp_path / "net.pt")
    monkeypatch.undo()
    # forgotten again, so that reading must find it
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "code_of_a_pickle")
    shape = (((1, 1, 8), "float32"),)
    with pytest.raises(loading.CheckError, match="where the code of the model can be imported"):
        loading.load(str(tmp_path / "net.pt"), shape, trust=True)
    monkeypatch.chdir(tmp_path)
    assert loading.load(str(tmp_path / "net.pt"), shape, trust=True).model.stride == (2,)
    monkeypatch.delitem(sys.modules, "code_of_a_pickle")


def test_a_complex_model_is_measured_as_a_whole():
    net = nn.Sequential(nn.ConvTranspose1d(2, 2, 4, 2, 1, dtype=torch.complex64))
    found = measured(report_of(net, (1, 2, 8), dtype="complex64")).measured
    assert found["whole"]["polyphase"] > 0
    assert found["difference"] < 1e-5 < found["largest"]


def test_a_model_that_fails_when_it_is_accelerated_is_told(monkeypatch):
    def forward(self, x):
        raise ValueError("not here")

    monkeypatch.setattr(pp.nn.ConvTranspose1d, "forward", forward)
    net = nn.Sequential(nn.ConvTranspose1d(1, 1, 4, 2, 1))
    found = measured(report_of(net, (1, 1, 8))).measured
    assert found["reason"] == "the whole model was not measured (not here)"
