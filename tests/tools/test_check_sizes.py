"""What is said of other input sizes is what PyTorch does there, and each mend does mend."""

import re
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

import polyphase as pp
from polyphase.models.unet import UNet
from polyphase.tools.check import loading, screen
from polyphase.tools.check.checking import check
from polyphase.tools.check.neighbours import offsets
from polyphase.tools.check.rules import rule


def report_of(model, *shapes):
    inputs = tuple((shape, "float32") for shape in shapes)
    return check(loading.Subject("model", "model", model, inputs))


def found(model, code, *shapes):
    return [finding for finding in report_of(model, *shapes).findings if finding.code == code]


def runs(model, *size):
    try:
        model(torch.zeros(1, 1, *size))
    except (RuntimeError, ValueError):
        return False
    return True


class Level(nn.Module):
    """One level of an encoder and a decoder; ``ask`` gives the decoder the size of the skip."""

    def __init__(self, down, up, ask=False):
        super().__init__()
        self.down, self.up, self.ask = down, up, ask

    def forward(self, x):
        size = x.shape[2:] if self.ask else None
        return torch.cat([self.up(self.down(x), output_size=size), x], 1)


def level(*parameters, ask=False, kernel=(3, 1)):
    return Level(
        nn.Conv2d(1, 4, kernel[0], 2, kernel[1]), nn.ConvTranspose2d(4, 4, *parameters), ask
    )


def pooled(*parameters, ask=False):
    return Level(nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, *parameters), ask)


def test_other_sizes_are_those_of_single_axes_and_of_all():
    assert {(0, 0, 1), (1, 1, 0), (1, 1, 1), (0, 16, 0), (16, 16, 16)} <= set(offsets(3))
    assert offsets(1)[0] == (1,)
    assert len(set(offsets(2))) == len(offsets(2)) == 3 * 16


def test_calls_that_stop_at_other_sizes_are_found_and_mended():
    net = pooled((3, 2), 2, ask=True)
    report = report_of(net, (1, 1, 17, 16))
    fault = next(one for one in report.findings if one.code == "unreachable-size")
    assert (fault.severity, fault.layer) == ("warning", "up")
    told, tried = map(int, re.search(r"at (\d+) of (\d+) larger", fault.says).groups())
    sizes = report.sizes_tried
    assert {(17 + a, 16 + b) for a, b in offsets(2)} <= set(sizes)
    assert tried == len(sizes)
    assert told == sum(not runs(net, *size) for size in sizes)
    assert "from 9x8 it reaches 19 to 20 x 16 to 17" in fault.says
    assert fault.mend.startswith("kernel_size=(4, 2), padding=(1, 0) reach every size")
    mended = pooled((4, 2), 2, (1, 0), ask=True)
    assert all(runs(mended, *size) for size in sizes)


def test_a_size_out_of_reach_at_the_given_input_is_an_error_and_the_rest_is_still_seen():
    net = pooled(3, 2, ask=True)
    inputs = (((1, 1, 16, 16), "float32"),)
    report = check(loading.Subject("model", "model", net, inputs))
    assert not report.is_partial
    assert screen.shapes(report) == "input 1x1x16x16, no output: the model stops at up"
    assert report.as_data()["outputs"] == []
    fault = report.findings[0]
    assert fault.code == "unreachable-size"
    assert fault.severity == "error"
    assert "is asked for 16x16" in fault.says
    assert "from 8x8 it reaches 17 to 18 x 17 to 18" in fault.says
    assert runs(pooled(4, 2, 1, ask=True), 16, 16)
    assert fault.mend.startswith("kernel_size=4, padding=1 reach")
    assert "pad the input to 17x17" in fault.mend
    assert runs(net, 17, 17)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (19, 16), (37, 51)])
@pytest.mark.parametrize(
    "net",
    [
        level(3, 2, 1), level(4, 2, 1), level(5, 2, 1), level((3, 4), 2, 1), level(2, 2),
        level(3, 2, 1, 1), pooled(3, 2, 1), pooled(2, 2), pooled(4, 2, 2), pooled(3, 2, 1, 1),
        pooled((2, 3), 2, (0, 1)), level(3, 2, 1, kernel=(4, 1)), UNet(width=2),
    ],
)  # fmt: skip
def test_the_size_to_pad_to_is_one_that_runs(net, size):
    fault = [*found(net, "skip-mismatch", (1, 1, *size)), None][0]
    assert (fault is not None and fault.severity == "error") is not runs(net, *size)
    if fault is None:
        assert all(runs(net, size[0] + a, size[1] + b) for a, b in product(range(4), range(4)))
        return
    padded = re.search(r"[Pp]ad the input to (\d+)x(\d+)", fault.mend)
    if padded:
        assert runs(net, *map(int, padded.groups()))
    common = re.findall(r"a multiple of (\d+)|(\d+)\*k \+ (\d+)", fault.mend)
    if common:
        rules = [(int(a or b), int(rest or 0)) for a, b, rest in common]
        few = [[divisor * k + rest for k in range(3, 6)] for divisor, rest in rules]
        assert all(runs(net, a, b) for a, b in product(few[0], few[-1]))
    if not padded and not common and fault.severity == "error":
        # then no size nearby fits
        assert not any(runs(net, size[0] + a, size[1] + a) for a in range(17))
    assert "where all levels fit" not in fault.mend


def test_where_no_input_size_fits_the_mend_is_another():
    net = pooled(3, 2, 1)
    mend = found(net, "skip-mismatch", (1, 1, 16, 16))[0].mend
    assert "pad the input" not in mend.lower()
    assert "Call it with output_size=" in mend
    assert runs(pooled(3, 2, 1, ask=True), 16, 16)


def test_a_layer_that_no_output_padding_mends_is_given_other_parameters():
    mend = found(pooled(4, 2, 2), "skip-mismatch", (1, 1, 16, 16))[0].mend
    assert mend.startswith("padding=1 makes all sizes that it meets, called with output_size=")
    assert all(runs(pooled(4, 2, 1, ask=True), a, b) for a, b in product((16, 17), (18, 19)))


class Windows(nn.Module):
    """Cuts its input into windows, so that other sizes stop it."""

    def __init__(self, window):
        super().__init__()
        self.window = window
        self.up = nn.ConvTranspose2d(1, 1, 2, 2)

    def forward(self, x):
        n, w = x.shape[2], self.window
        return self.up(x.reshape(1, n // w, w, *x.shape[3:]).flatten(1, 2)[:, None].squeeze(2))


def test_sizes_at_which_the_model_itself_stops_are_a_note():
    fault = found(Windows(8), "other-sizes", (1, 1, 16, 16))[0]
    assert (fault.severity, fault.layer) == ("note", "")
    assert "test_check_sizes.py line" in fault.says
    assert runs(Windows(8), 24, 17)
    assert not runs(Windows(8), 17, 16)


def test_a_model_of_one_size_is_left_alone():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 2, 2)
            self.head = nn.Linear(32 * 32, 3)

        def forward(self, x):
            return self.head(self.up(x).flatten(1))

    assert not found(Fixed(), "other-sizes", (1, 1, 16, 16))


def test_a_call_that_pytorch_refuses_at_other_sizes_is_found():
    class Net(nn.Module):
        def forward(self, x):
            w = torch.ones(1, 1, 2, 2)
            return functional.conv_transpose2d(x, w, stride=2, output_padding=x.shape[2] % 4)

    fault = found(Net(), "other-sizes", (1, 1, 16, 16))[0]
    assert fault.severity == "warning"
    assert not runs(Net(), 18, 18)
    assert "18x" in fault.says


def test_axes_that_change_places_are_no_fault():
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 4, 2, 1)

        def forward(self, x):
            return self.up(x).transpose(2, 3)

    assert not found(Turning(), "output-size", (1, 1, 16, 12))


def test_an_output_that_changes_along_one_axis_alone_is_found():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 2, 2)

        def forward(self, x):
            return self.up(functional.avg_pool2d(x, (2, 1)))[..., ::2]

    fault = found(Net(), "output-size", (1, 1, 16, 16))[0]
    assert fault.severity == "warning"
    assert "short by 1x0" in fault.says
    assert Net()(torch.zeros(1, 1, 17, 16)).shape[2:] == (16, 16)


class Demucs(nn.Module):
    """Kernels of 8 without padding, which fit inputs of 16*k + 4."""

    def __init__(self, crop):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv1d(1, 4, 8, 4), nn.Conv1d(4, 8, 8, 4)])
        self.up = nn.ModuleList([nn.ConvTranspose1d(8, 4, 8, 4), nn.ConvTranspose1d(4, 1, 8, 4)])
        self.crop = crop

    def forward(self, x):
        skip = self.down[0](x)
        y = self.up[0](self.down[1](skip))
        return self.up[1](y + (skip[..., : y.shape[2]] if self.crop else skip))


@pytest.mark.parametrize("crop", [True, False])
def test_an_output_that_follows_some_sizes_is_right_there(crop):
    net = Demucs(crop)
    fault = found(net, "output-size", (1, 1, 500))[0]
    assert fault.severity == "warning"
    assert "501 gives 500, short by 1" in fault.says
    assert net(torch.zeros(1, 1, 500)).shape[2] == 500
    if crop:
        assert "16*k + 4" in fault.mend
        assert net(torch.zeros(1, 1, 516)).shape[2] == 516
    else:
        mend = found(net, "skip-mismatch", (1, 1, 500))[0].mend
        assert "16*k + 4" in mend
        assert runs(net, 532)


def test_one_mend_does_not_undo_the_other():
    class Resizing(Level):
        def forward(self, x):
            y = functional.interpolate(self.up(self.down(x)), size=x.shape[2:])
            return torch.cat([y, x], 1)

    net = Resizing(nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1))
    repaired = found(net, "repaired", (1, 1, 17, 16))[0]
    uneven = found(net, "uneven-overlap", (1, 1, 17, 16))[0]
    assert "output_size=" in repaired.mend
    assert uneven.mend.startswith("kernel_size=4, padding=((1, 2), (1, 2)), output_padding=1 in")
    mended = Level(net.down, pp.nn.ConvTranspose2d(4, 4, 4, 2, ((1, 2), (1, 2)), 1), ask=True)
    assert all(runs(mended, a, b) for a, b in product((16, 17), (18, 19)))


def test_an_output_of_one_size_is_meant_to_be_so():
    class Resized(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 4, 2, 1)

        def forward(self, x):
            return functional.interpolate(self.up(x), size=(64, 64))

    assert not found(Resized(), "output-size", (1, 1, 16, 16))


def test_one_position_that_serves_a_whole_axis_fits():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 1, 4, 2, 1)

        def forward(self, x):
            y = self.up(x)
            return y * y.mean(3, keepdim=True) + torch.ones(1, 1, 1, y.shape[3])

    assert runs(Attention(), 8, 6)
    assert not found(Attention(), "skip-mismatch", (1, 1, 8, 6))


def test_rules_are_read_from_sizes():
    assert rule({(0, n): True for n in range(20, 30)}) == "a multiple of 2"
    both = {(axis, n): n % 2 != axis for axis in (0, 1) for n in range(20, 30)}
    assert rule(both) == "2*k + 1 by a multiple of 2"
    assert rule(both | {(2, n): False for n in range(9)}) == ""
    thirds = {(0, n): n % 3 == 0 for n in range(20, 36)}
    assert rule(thirds) == ""
    assert rule(thirds, [3, 1]) == "a multiple of 3"
    assert rule({(0, n): False for n in range(20, 30)}) == ""
    assert rule({(0, 17): True, (0, 18): False}) == ""


def test_an_input_that_is_too_small_is_answered_with_one_that_is_not():
    with pytest.raises(
        loading.CheckError, match="the next larger input that it takes is 1,1,16,16"
    ):
        found(UNet(width=2), "any", (1, 1, 9, 15))
    assert runs(UNet(width=2), 16, 16)
