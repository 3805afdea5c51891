"""Layers of unusual kinds: quantised, complex, half, checkpointed, with inputs of several sizes."""

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from polyphase.tools.check import loading
from polyphase.tools.check.checking import check


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
