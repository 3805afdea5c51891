"""Layers of unusual kinds: quantised, complex, half, checkpointed, with inputs of several sizes."""

import pytest
import torch
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
