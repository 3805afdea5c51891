"""Sizes through networks, and how a report tells them."""

import re
from dataclasses import replace

import pytest

from polyphase import GeometryError, Network, OutputSizeError
from polyphase.arithmetic import mend
from polyphase.arithmetic.layers import Conv, ConvTranspose, Pool, Resize, SkipIn, SkipOut


def unet(levels, up, down=None):
    """An encoder of ``levels`` poolings and a decoder of as many copies of ``up``."""
    down = down or Pool("down", 2)
    layers = []
    for level in range(levels):
        layers += [SkipOut(f"level {level}"), replace(down, name=f"down {level}")]
    for level in reversed(range(levels)):
        layers += [replace(up, name=f"up {level}"), SkipIn(f"level {level}")]
    return Network(layers)


CLASSIC = unet(4, ConvTranspose("up", 2, 2))
# makes 2n - 1, so that even sizes need an output padding and odd ones are out of reach
SHORT = unet(2, ConvTranspose("up", 3, 2, padding=1))


def test_the_classic_unet():
    report = CLASSIC.report((300, 451))
    assert report.output_size == (288, 448)
    assert [row.short for row in report.misfits] == [(1, 0), (3, 0), (6, 1), (12, 3)]
    proposed = [(p.name, p.output_size, p.output_padding) for p in report.output_paddings.layers]
    assert proposed == [
        ("up 3", (37, 56), (1, 0)),
        ("up 2", (75, 112), (1, 0)),
        ("up 1", (150, 225), (0, 1)),
        ("up 0", (300, 451), (0, 1)),
    ]
    assert report.input_padding.input_size == (304, 464)
    assert report.input_padding.padding == ((2, 2), (6, 7))
    assert [str(fitting) for fitting in report.fitting] == ["multiples of 16"] * 2
    assert CLASSIC.report((304, 464)).fits
    assert CLASSIC.report((64, 64, 32)).output_size == (64, 64, 32)


def test_an_odd_size_needs_both_where_the_decoder_is_short():
    report = SHORT.report(13)
    assert report.output_paddings is None
    assert report.input_padding is None
    padding, outputs = report.together
    assert padding.input_size == (14,) or SHORT.mended(outputs).report(padding.input_size).fits
    assert [str(fitting) for fitting in report.fitting] == ["no size"]
    text = str(report)
    assert "pad the input:" in text
    assert "and give the transposed layers these sizes:" in text


def test_what_nothing_mends_is_said():
    # without padding the decoder never gets back what the convolutions took
    network = Network(
        [SkipOut("top"), Conv("down", 3), Conv("on", 3), ConvTranspose("up", 2), SkipIn("top")]
    )
    report = network.report(30)
    assert report.output_paddings is report.input_padding is report.together is None
    assert report.stopped is None
    assert "neither output_padding nor a larger input mends that: crop the skips" in str(report)


def test_the_table_is_readable():
    assert str(unet(1, ConvTranspose("up", 2, 2)).report((31, 32))) == "\n".join(
        [
            "level 0  skip_out        31x32  31x32",
            "down 0   pool            31x32  15x16",
            "up 0     conv_transpose  15x16  30x32",
            "level 0  skip_in         30x32  30x32  skip 31x32, short by 1x0",
            "1 of 1 skips do not fit",
            "give the transposed layers these sizes:",
            "  up 0  output_size=(31, 32)  output_padding=(1, 0)",
            "or pad the input:",
            "  to (32, 32): 0 before and 1 after on axis 0",
            "the layers fit as they are for multiples of 2",
        ]
    )
    assert str(unet(1, ConvTranspose("up", 2, 2)).report(32)).endswith("every skip fits")
    assert "fit" not in str(Network([Conv("c", 3)]).report(9))
    long = unet(1, ConvTranspose("up", 4, 2)).report((8, 8))
    assert "skip 8x8, long by 2x2" in str(long)
    mixed = Network([SkipOut("a"), Pool("p", (2, 1)), Resize("r", (1, 2)), SkipIn("a")])
    assert str(mixed.report((8, 8))).splitlines()[3].endswith("skip 8x8")
    assert max(map(len, str(CLASSIC.report((300, 451))).splitlines())) <= 80


def test_fitting_sizes_in_words():
    assert str(mend.Fitting(1, (0,))) == "every size"
    assert str(mend.Fitting(1, ())) == "no size"
    assert str(mend.Fitting(8, (3, 5))) == "multiples of 8, plus 3 or 5"
    differing = Network(
        [SkipOut("a"), Pool("p", (2, 1)), ConvTranspose("u", (2, 1), (2, 1)), SkipIn("a")]
    ).report((7, 7))
    text = str(differing)
    assert "the layers fit as they are on axis 0 for multiples of 2" in text
    assert "the layers fit as they are on axis 1 for every size" in text


def test_sizes_that_grow_apart_meet_once_or_never():
    report = Network([SkipOut("a"), Resize("r", size=5000), SkipIn("a")]).report(40)
    assert report.input_padding.input_size == (5000,)
    assert report.fitting == (None,)
    # 3 * (n // 2) - 9999 is n for 19998 and for nothing else
    layers = [SkipOut("a"), Pool("p", 2), ConvTranspose("u", 3, 3, ((9999, 0),)), SkipIn("a")]
    report = Network(layers).report(7000)
    assert report.input_padding.input_size == (19998,)
    report = Network([SkipOut("a"), Pool("p", 2), SkipIn("a")]).report(7)
    assert report.input_padding is None
    assert report.stopped is None


def test_a_period_that_is_too_long_is_searched_so_far_and_no_further(monkeypatch):
    monkeypatch.setattr(mend, "TRIALS", 5)
    report = CLASSIC.report(17)
    assert report.output_paddings is not None
    assert report.input_padding is None
    assert report.fitting == (None,)
    assert "the search stopped after" in report.stopped
    assert report.stopped in str(report)


def test_huge_networks_and_sizes_are_bounded():
    deep = unet(40, ConvTranspose("up", 2, 2))
    report = deep.report(2**40 + 12345)
    assert report.output_paddings is not None
    assert report.fitting == (None,)
    assert report.stopped is not None
    wide = unet(1, ConvTranspose("up", 10**9, 10**9), Pool("down", 10**9))
    report = wide.report(10**18 + 7)
    assert report.output_paddings.layers[0].output_padding == (7,)


REFUSED = [
    (lambda: Network([]), GeometryError, "a network needs at least one layer, got none"),
    (lambda: Network(["conv"]), TypeError, "a layer is one of Conv, ConvTranspose, Pool, Resize"),
    (lambda: Network([SkipIn("a")]), GeometryError, "skip 'a' comes in before it goes out; out so"),
    (
        lambda: Network([SkipOut("b"), SkipIn("a"), SkipOut("a")]),
        GeometryError,
        "skip 'a' comes in before it goes out; out so far: 'b'",
    ),
    (
        lambda: Network([Conv("c", 3), Pool("c", 2)]),
        GeometryError,
        "two layers are called 'c': names must be unique",
    ),
    (lambda: Network([SkipOut("a"), SkipOut("a")]), GeometryError, "two layers are called 'a'"),
    (lambda: CLASSIC.report(0), GeometryError, "input_size must be at least 1, got 0"),
    (lambda: CLASSIC.report((64, 64.0)), TypeError, "input_size must be an int, got 64.0"),
    (lambda: CLASSIC.report("64"), TypeError, "input_size must be an int, got '64'"),
    (lambda: CLASSIC.report(()), GeometryError, "input_size must have at least one axis"),
    (
        lambda: Network([Conv("c", (3, 3))]).report(64),
        GeometryError,
        "layer 'c' has parameters for 2 axes, but the input size has 1",
    ),
    (
        lambda: Network([Resize("r", (2, 2))]).report(64),
        GeometryError,
        "layer 'r' has parameters for 2 axes, but the input size has 1",
    ),
    (
        lambda: CLASSIC.report(15),
        OutputSizeError,
        "layer 'down 3' has no output for size 1; the input must be at least 16, got 15",
    ),
    (
        lambda: CLASSIC.output_size((16, 15)),
        OutputSizeError,
        "the input must be at least (16, 16), got (16, 15)",
    ),
    (
        lambda: Network([Resize("r", size=2), Conv("c", 3)]).report(9),
        OutputSizeError,
        "layer 'c' has no output for size 2; no larger input than 9 helps: change the layer",
    ),
    (
        lambda: Network.from_dicts([{"kind": "dense", "name": "d"}]),
        GeometryError,
        "kind must be one of conv, conv_transpose, pool, resize, skip_out, skip_in, got 'dense'",
    ),
    (
        lambda: Network.from_dicts([{"kind": "pool", "name": "p", "size": 2}]),
        GeometryError,
        "a pool layer has name, kernel_size, stride, padding, dilation, ceil_mode",
    ),
    (lambda: Network.from_dicts([{"kind": "conv", "kernel_size": 2}]), GeometryError, "a conv"),
    (lambda: Network.from_dicts([{"kind": "conv", "name": "c"}]), GeometryError, "kernel_size"),
    (lambda: Network.from_dicts(["conv"]), TypeError, "a layer is written as a dict, got 'conv'"),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_bad_networks_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
