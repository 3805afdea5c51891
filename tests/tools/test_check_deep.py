"""Deep networks divide by more than nearby sizes tell; what is said of them holds further on."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from polyphase.tools.check import loading
from polyphase.tools.check.checking import check


def findings(model, *shapes):
    inputs = tuple((shape, "float32") for shape in shapes)
    return check(loading.Subject("model", "model", model, inputs)).findings


def runs(model, *shape):
    try:
        return model(torch.zeros(shape)).shape
    except (RuntimeError, ValueError):
        return None


class Pyramid(nn.Module):
    """``depth`` halvings and as many doublings, with skips."""

    def __init__(self, depth):
        super().__init__()
        self.ups = nn.ModuleList(nn.ConvTranspose1d(1, 1, 4, 2, 1) for _ in range(depth))

    def forward(self, x):
        skips = []
        for _ in self.ups:
            skips.append(x)
            x = functional.max_pool1d(x, 2)
        for up in self.ups:
            x = up(x) + skips.pop()
        return x


@pytest.mark.parametrize("depth", [2, 5, 7])
def test_the_multiple_to_pad_to_is_right_at_sizes_that_were_not_tried(depth):
    net, size = Pyramid(depth), 2**depth
    mends = [one.mend for one in findings(net, (1, 1, 128)) if one.code == "skip-mismatch"]
    # every layer is at fault, the deepest ones far away alone
    assert len(mends) == depth
    multiples = {int(n) for mend in mends for n in re.findall(r"a multiple of (\d+)", mend)}
    assert multiples == {size}
    for k in range(1, 8):
        assert runs(net, 1, 1, size * (128 // size + k))
    assert not runs(net, 1, 1, 128 + size // 2)


class Gated(nn.Module):
    """Two levels, of which a resize serves one: it stops at sizes of its own."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(1, 1, 2, 2)

    def forward(self, x):
        half = functional.max_pool2d(x, 2)
        gate = functional.interpolate(functional.max_pool2d(half, 2), scale_factor=2)
        return self.up(half * functional.relu(gate + half)) + x


def test_a_size_at_which_the_model_stops_is_not_told_to_pad_to():
    net = Gated()
    assert not runs(net, 1, 1, 66, 66)
    mend = next(one.mend for one in findings(net, (1, 1, 64, 64)) if one.code == "skip-mismatch")
    assert "a multiple of 4" in mend
    assert runs(net, 1, 1, 68, 68)


class Chain(nn.Module):
    """Valid convolutions down and up again, and no skips."""

    def __init__(self, *ups, downs):
        super().__init__()
        self.down = nn.Sequential(*downs)
        self.ups = nn.Sequential(*ups)

    def forward(self, x):
        return self.ups(self.down(x))


def test_an_output_that_stays_while_the_input_grows_a_little_is_found():
    net = Chain(
        *(nn.ConvTranspose1d(1, 1, 8, 4) for _ in range(3)),
        downs=[nn.Conv1d(1, 1, 8, 4) for _ in range(3)],
    )
    assert {runs(net, 1, 1, 4000 + n)[2] for n in range(17)} == {3988}
    fault = next(one for one in findings(net, (1, 1, 4000)) if one.code == "output-size")
    assert fault.severity == "error"
    assert "4000 gives 3988, short by 12" in fault.says


def test_a_size_that_output_size_cannot_make_is_not_told_to_be_asked_for():
    halving = [nn.Conv1d(1, 1, 3, 2, 1), nn.Conv1d(1, 1, 3, 2, 1)]
    # 257 becomes 65, and 65 becomes 129 or 130, and twice that or one more
    out_of_reach = Chain(
        nn.ConvTranspose1d(1, 1, 3, 2, 1, 1), nn.ConvTranspose1d(1, 1, 2, 2), downs=halving
    )
    fault = next(one for one in findings(out_of_reach, (1, 1, 256)) if one.code == "output-size")
    assert "257 gives 260" in fault.says
    assert fault.mend == "Pad the input to a multiple of 4 and cut the output."
    in_reach = Chain(
        *(nn.ConvTranspose1d(1, 1, 3, 2, 1, 1) for _ in range(2)),
        downs=halving,
    )
    fault = next(one for one in findings(in_reach, (1, 1, 256)) if one.code == "output-size")
    assert fault.mend.startswith("Give every transposed layer output_size=, or pad")
    hidden = in_reach.down(torch.zeros(1, 1, 257))
    first = in_reach.ups[0](hidden, output_size=[129])
    assert in_reach.ups[1](first, output_size=[257]).shape[2] == 257
