"""Tensors against PyTorch and against NumPy arrays: values, gradients, memory and refusals."""

import itertools
import random
import subprocess
import sys

import numpy as np
import oracle
import pytest
import torch

from polyphase import GeometryError, Unsupported, functional
from polyphase.engine import memory
from polyphase.functional import conv2d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from polyphase.functional.tensors import elsewhere
from polyphase.functional.tensors.native import strides_are_last
from polyphase.functional.tensors.spatial import spatial

EXACT = (torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64)
HALVES = (torch.bfloat16, torch.float16)
NO_GRADIENT = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def integers(shape, dtype=torch.float32, generator=None):
    """Small integers, whose sums every floating dtype here holds exactly or rounds once."""
    low = 0 if dtype is torch.uint8 else -3
    values = torch.randint(low, 4, shape, generator=generator)
    if not dtype.is_complex:
        return values.to(dtype)
    return torch.complex(
        values.double(), torch.randint(-3, 4, shape, generator=generator).double()
    ).to(dtype)


class Draw:
    """Random calls, from few sizes, since each new shape compiles a kernel."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def some(self, rank, *values):
        return [self.random.choice(values) for _ in range(rank)]

    def placed(self, tensor):
        """The values in another kind of memory."""
        kind = self.random.choice(["dense", "dense", "last", "sliced", "reversed", "expanded"])
        if kind == "last" and tensor.dim() in (4, 5):
            last = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
            return tensor.contiguous(memory_format=last)
        if kind == "sliced":
            inside = tuple(slice(1, n + 1) for n in tensor.shape)
            larger = tensor.new_zeros([n + 2 for n in tensor.shape])
            larger[inside] = tensor
            return larger[inside]
        if kind == "reversed":
            return tensor.transpose(0, -1).contiguous().transpose(0, -1)
        if kind == "expanded" and tensor.dim() > 1:
            return tensor[:1].expand(tensor.shape)
        return tensor

    def call(self):
        """Name, tensors and keywords of a call that PyTorch accepts."""
        rank, dtype = self.random.choice([1, 2, 2, 3]), self.random.choice(EXACT + HALVES)
        transposed, groups = self.random.random() < 0.7, self.random.choice([1, 1, 2, 3])
        c_in, c_out = groups * self.random.choice([1, 2, 5]), groups * self.random.choice([1, 3])
        kernel, stride = self.some(rank, 1, 2, 3), self.some(rank, 1, 2, 3)
        dilation, size = self.some(rank, 1, 1, 2), self.some(rank, 2, 3, 6)
        keywords = {
            "stride": stride,
            "padding": self.some(rank, 0, 1),
            "dilation": dilation,
            "groups": groups,
        }
        if transposed:
            limits = [max(s, d) for s, d in zip(stride, dilation, strict=True)]
            keywords["output_padding"] = [self.random.randrange(limit) for limit in limits]
        else:
            size = [n + 4 for n in size]
        outer = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
        shapes = [(self.random.choice([1, 2]), c_in, *size), (*outer, *kernel)]
        x, w = (self.placed(integers(shape, dtype, self.generator)) for shape in shapes)
        b = integers((c_out,), dtype, self.generator) if self.random.random() < 0.6 else None
        if self.random.random() < 0.15:
            x = x[0]
        return f"conv{'_transpose' * transposed}{rank}d", [x, w, b], keywords


def close(found, expected):
    """Exactly equal; half precision may differ by PyTorch's rounding after each tap."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype in HALVES:
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * 9)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", range(60))
def test_random_calls_agree_with_pytorch(seed):
    draw = Draw(seed)
    name, tensors, keywords = draw.call()
    try:
        expected = getattr(torch.nn.functional, name)(*tensors, **keywords)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            getattr(functional, name)(*tensors, **keywords)
        return
    ours = getattr(functional, name)
    found = ours(*tensors, **keywords)
    close(found, expected)
    # the packed weights of a parameter are kept: twice the same, whichever call packs
    if expected.is_floating_point():
        kept = torch.nn.Parameter(tensors[1])
        with torch.no_grad():
            assert all(
                torch.equal(ours(tensors[0], kept, tensors[2], **keywords), found) for _ in "12"
            )
    if expected.dtype in NO_GRADIENT:
        return
    leaves = [t.detach().requires_grad_() for t in tensors if t is not None]
    cotangent = draw.placed(integers(expected.shape, expected.dtype, draw.generator))
    gradients = [
        torch.autograd.grad(getattr(home, name)(*leaves, **keywords), leaves, cotangent)
        for home in (functional, torch.nn.functional)
    ]
    for one, other in zip(*gradients, strict=True):
        close(one, other)


def test_the_draws_are_of_every_kind():
    calls = [Draw(seed).call() for seed in range(60)]
    assert {name for name, _, _ in calls} == set(functional.__all__)
    assert {tensors[0].dtype for _, tensors, _ in calls} == {*EXACT, *HALVES}
    assert any(not tensors[1].is_contiguous() for _, tensors, _ in calls)
    assert any(keywords["groups"] > 1 for _, _, keywords in calls)
    assert any(max(keywords.get("output_padding", [0])) > 0 for _, _, keywords in calls)


@pytest.mark.parametrize("dtype", [*NO_GRADIENT, torch.float32, torch.complex128], ids=str)
def test_tensors_and_arrays_agree_beyond_pytorch(dtype):
    x, w, b = integers((2, 4, 3, 4), dtype), integers((4, 1, 3, 2), dtype), integers((2,), dtype)
    for padding in ("same", [(2, 0), (-1, 1)], [(1, 2), 0]):
        keywords = {"stride": (2, 3), "padding": padding, "groups": 2}
        arrays = (t.numpy() for t in (x, w, b))
        expected = conv_transpose2d(*arrays, **keywords)
        oracle.assert_same(conv_transpose2d(x, w, b, **keywords).numpy(), expected)
    y = conv_transpose2d(x, w, stride=2)
    expected = conv2d(y.numpy(), w.numpy(), stride=2, padding=[(1, 0), (-1, 2)], groups=1)
    oracle.assert_same(conv2d(y, w, stride=2, padding=[(1, 0), (-1, 2)]).numpy(), expected)


# PyTorch says so once in a process
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_of_complex_numbers():
    x, w = (
        integers(shape, torch.complex64).to(torch.complex32) for shape in ((2, 3, 4), (3, 2, 3))
    )
    y = conv_transpose1d(x, w, stride=2)
    assert y.dtype is torch.complex32
    wide = conv_transpose1d(x.to(torch.complex64), w.to(torch.complex64), stride=2)
    assert torch.equal(y.to(torch.complex64), wide)


@pytest.mark.parametrize("size", [(5, 6), (260, 300)], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layout_follows_the_input(size, dtype):
    x, w = integers((1, 3, *size), dtype), integers((3, 4, 2, 2), dtype)
    y = conv_transpose2d(x, w, stride=2)
    last = conv_transpose2d(x.contiguous(memory_format=torch.channels_last), w, stride=2)
    assert y.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, last)
    assert y._base is None
    assert last._base is None


def test_layout_where_both_are_the_same_memory():
    # PyTorch goes by the strides
    w = integers((8, 4, 2, 2))
    x = integers((2, 8, 1, 1))
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        expected = torch.nn.functional.conv_transpose2d(given, w, stride=2)
        assert conv_transpose2d(given, w, stride=2).stride() == expected.stride()


def test_large_channels_last_weights_are_those_that_lie_densely():
    # copies of a megabyte and more lie on pages of their own
    x, w = torch.randn(1, 128, 6, 5), torch.randn(128, 128, 5, 5)
    expected, found = [], []
    for results, memory_format in (
        (expected, torch.contiguous_format),
        (found, torch.channels_last),
    ):
        leaves = [t.contiguous(memory_format=memory_format).requires_grad_() for t in (x, w)]
        y = conv_transpose2d(*leaves, stride=2)
        results += [y, *torch.autograd.grad(y.square().sum(), leaves)]
    assert expected[2].nbytes >= memory.SMALLEST_KEPT
    for ours, other in zip(found, expected, strict=True):
        size = other.detach().abs().max().item()
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5 * size)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("channels", [(3, 4), (1, 4), (3, 1)], ids=str)
def test_channels_last_weights_make_channels_last_results(rank, channels):
    last = {2: torch.channels_last, 3: torch.channels_last_3d}[rank]
    function = f"conv_transpose{rank}d"
    shapes = (2, channels[0], *(5, 4, 3)[:rank]), (*channels, *(2, 3, 2)[:rank])
    formats = itertools.product((torch.contiguous_format, last), repeat=2)
    for x_format, w_format in formats:
        x, w = (
            integers(shape).contiguous(memory_format=memory_format)
            for shape, memory_format in zip(shapes, (x_format, w_format), strict=True)
        )
        expected = getattr(torch.nn.functional, function)(x, w)
        for weight in (w, torch.nn.Parameter(w)):
            with torch.no_grad():
                found = getattr(functional, function)(x, weight)
            assert torch.equal(found, expected)
            assert found.stride() == expected.stride(), (x_format, w_format)


@pytest.mark.parametrize("size", [50, 40_000], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.int32], ids=str)
def test_a_line_whose_channels_are_adjacent_stays_so(size, dtype):
    x, w = integers((2, size, 3), dtype).transpose(1, 2), integers((3, 4, 2), dtype)
    y = conv_transpose1d(x, w, stride=2)
    assert y.stride() == (8 * size, 1, 4)
    assert y._base is None
    assert torch.equal(y, conv_transpose1d(x.contiguous(), w, stride=2))
    assert conv_transpose1d(x[0], w, stride=2).is_contiguous()
    # one channel, or one position: nothing is adjacent
    assert conv_transpose1d(x[:, :1].contiguous(), w[:1], stride=2).is_contiguous()
    assert conv_transpose1d(x[..., :1].contiguous(), w, stride=2).is_contiguous()


@pytest.mark.parametrize("rank", [2, 3])
def test_the_rule_for_channels_last_is_that_of_pytorch(rank):
    generator = random.Random(rank)
    seen = set()
    for _ in range(500):
        shape = tuple(generator.choice((1, 1, 2, 3)) for _ in range(rank + 2))
        order = generator.sample(range(rank + 2), rank + 2)
        tensor = torch.empty([shape[axis] for axis in order]).permute(
            [order.index(axis) for axis in range(rank + 2)]
        )
        if generator.random() < 0.3:
            tensor = tensor[:1].expand(shape)
        if generator.random() < 0.3:
            tensor = tensor[..., ::2]
        expected = torch._prims_common.suggest_memory_format(tensor) is not torch.contiguous_format
        assert strides_are_last(tensor.shape, tensor.stride()) == expected, tensor.stride()
        seen.add(expected)
    assert seen == {True, False}


def test_large_results_use_the_pages_of_earlier_ones():
    memory.outputs.clear()
    x, w = torch.ones(1, 4, 300, 300), torch.ones(4, 4, 2, 2)
    y = conv_transpose2d(x, w, stride=2)
    address = y.data_ptr()
    del y
    y = conv_transpose2d(x, w, stride=2)
    assert y.data_ptr() == address
    assert torch.equal(y, torch.full_like(y, 4))
    other = conv_transpose2d(2 * x, w, stride=2)
    assert other.data_ptr() != address
    assert torch.equal(y, torch.full_like(y, 4))


def test_zeros_without_memory_are_zeros():
    x, w = integers((1, 2, 3, 4)), integers((2, 2, 3, 3))
    assert not conv_transpose2d(torch._efficientzerotensor(*x.shape), w).any()
    assert not conv_transpose2d(x, torch._efficientzerotensor(*w.shape)).any()


def test_views_that_change_values_are_read_as_their_values():
    x, w = integers((1, 2, 3, 4)), integers((2, 2, 3, 3))
    assert torch.equal(conv_transpose2d(torch._neg_view(x), w), -conv_transpose2d(x, w))
    z = torch.complex(x, x)
    assert torch.equal(
        conv_transpose2d(z.conj(), w.to(z.dtype)), conv_transpose2d(z, w.to(z.dtype)).conj()
    )
    assert torch.equal(conv_transpose2d(z.conj().imag, w), -conv_transpose2d(x, w))


def test_inference_mode_and_parameters_as_inputs():
    x, w = torch.nn.Parameter(integers((1, 2, 3, 4))), torch.nn.Parameter(integers((2, 2, 3, 3)))
    expected = conv_transpose2d(x, w)
    assert type(expected) is torch.Tensor
    with torch.inference_mode():
        y = conv_transpose2d(x, w)
    assert torch.equal(y, expected.detach())
    assert y.is_inference()


REFUSED = [
    ("dtype", Unsupported, lambda x, w: conv_transpose2d(x.bool(), w.bool())),
    ("dtypes", GeometryError, lambda x, w: conv_transpose2d(x, w.double())),
    ("axes", GeometryError, lambda x, w: conv_transpose2d(x[0, 0], w)),
    ("channels", GeometryError, lambda x, w: conv_transpose2d(x[:, :1], w)),
    ("bias", GeometryError, lambda x, w: conv_transpose2d(x, w, torch.ones(3))),
    ("no positions", GeometryError, lambda x, w: conv_transpose2d(x[:, :, :0], w)),
    ("a list", TypeError, lambda x, w: conv_transpose2d(x, w.tolist())),
    ("an array", TypeError, lambda x, w: conv_transpose2d(x, w, np.ones(2))),
    ("a float", TypeError, lambda x, w: conv_transpose2d(x, w, stride=2.0)),
    ("bool as PyTorch", NotImplementedError, lambda x, w: conv_transpose2d(x.bool(), w.bool())),
    ("nested", Unsupported, lambda x, w: conv_transpose2d(torch.nested.nested_tensor([x[0]]), w)),
    ("sparse", RuntimeError, lambda x, w: conv_transpose2d(x.to_sparse(), w)),
]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize(("error", "call"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_refused(error, call):
    with pytest.raises(error):
        call(integers((1, 2, 3, 4)), integers((2, 2, 3, 3)))


def test_out_is_for_arrays():
    x, w = integers((1, 2, 3, 4)), integers((2, 2, 3, 3))
    with pytest.raises(TypeError, match="out receives the result of NumPy arrays"):
        conv_transpose2d(x, w, out=torch.empty((1, 2, 5, 6)))


def test_without_torch_nothing_of_torch_is_loaded():
    program = (
        "import sys, numpy as np, polyphase as pp\n"
        "pp.functional.conv_transpose1d(np.ones((1, 1, 2)), np.ones((1, 1, 2)))\n"
        "print({'torch', 'polyphase.functional.tensors.calls'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"


# beside what PyTorch can say itself: ends that differ, crops beyond the result, and extensions
PADDINGS = [((1, 1), (0, 0)), ((0, 2), (3, 1)), ((-2, 1), (0, -3)), ((7, -4), (1, 1)), "same"]


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("output_padding", [0, (1, 0)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_other_devices_get_the_same_meaning(padding, output_padding, bias):
    if padding == "same" and output_padding:
        output_padding = 0
    x, w = integers((2, 4, 3, 4), torch.float64), integers((4, 1, 3, 2), torch.float64)
    b = integers((2,), torch.float64) if bias else None
    s = spatial((3, 2), (2, 3), padding, output_padding, (1, 2), 2)
    keywords = {"stride": (2, 3), "padding": padding, "dilation": (1, 2), "groups": 2}
    y = conv_transpose2d(x, w, b, output_padding=output_padding, **keywords)
    for t in (x, w):
        t.requires_grad_()
    theirs = elsewhere.conv_transpose(x, w, b, s)
    assert torch.equal(theirs, y)
    assert torch.equal(elsewhere.conv_transpose(x[0], w, b, s), y[0])
    gy = integers(y.shape, torch.float64)
    ours = conv_transpose2d(x, w, b, output_padding=output_padding, **keywords)
    gradients = torch.autograd.grad(ours, (x, w), gy)
    folded = s.folded()
    assert torch.equal(elsewhere.conv(gy, w, None, folded), gradients[0])
    assert torch.equal(elsewhere.weight_grad(x, gy, (3, 2), folded), gradients[1])
    for one, other in zip(torch.autograd.grad(theirs, (x, w), gy), gradients, strict=True):
        assert torch.equal(one, other)


def test_other_devices_volume_and_line():
    x, w = integers((2, 3, 2, 3, 2)), integers((3, 2, 2, 1, 3))
    s = spatial(w.shape[2:], 2, [(1, 0), (0, 1), (-1, 1)], 0, 1, 1)
    expected = conv_transpose3d(x, w, stride=2, padding=[(1, 0), (0, 1), (-1, 1)])
    assert torch.equal(elsewhere.conv_transpose(x, w, None, s), expected)
