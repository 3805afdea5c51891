"""The registered operators, and everyone in PyTorch who looks at a call instead of running it."""

import contextlib
import itertools
import shutil

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import polyphase as pp
from polyphase import GeometryError, functional
from polyphase.functional import conv2d, conv_transpose1d, conv_transpose2d

OPS = ("conv_transpose", "conv", "weight_grad")
KEYWORDS = {"stride": (2, 1), "padding": [(1, 0), (2, 1)], "dilation": (1, 2), "groups": 2}


def op(name):
    functional.conv1d(torch.ones(1, 1, 2), torch.ones(1, 1, 1))
    return getattr(torch.ops.polyphase, name).default


def randn(*shape, memory_format=torch.contiguous_format, **options):
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator, **options)
    return values.contiguous(memory_format=memory_format).requires_grad_()


def given(name, memory_format, bias=True):
    """Arguments of a registered operator."""
    small, large, parameters = (2, 4, 3, 5), (2, 6, 5, 8), ([2, 1], [1, 0], [0, 1], [1, 2], 2)
    b = (randn(6 if name == "conv_transpose" else 4),) if bias else (None,)
    w = randn(4, 3, 3, 2, memory_format=memory_format)
    x, y = randn(*small, memory_format=memory_format), randn(*large, memory_format=memory_format)
    stride, begin, end, dilation, groups = parameters
    if name == "conv_transpose":
        return x, w, *b, stride, begin, end, [1, 1], dilation, groups
    if name == "conv":
        return y, w, *b, stride, begin, end, dilation, groups
    y = op("conv_transpose")(*given("conv_transpose", memory_format)).detach().requires_grad_()
    return x, y, [3, 2], stride, begin, [e - 1 for e in end], dilation, groups


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", OPS)
def test_opcheck(name, memory_format):
    found = opcheck(op(name), given(name, memory_format))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ["conv_transpose", "conv"])
def test_opcheck_of_lines_and_of_channels_last_weights(name):
    line = randn(2, 7, 4).detach().transpose(1, 2).requires_grad_()
    parameters = [2], [1], [0], *([[1]] if name == "conv_transpose" else []), [1], 2
    weight = randn(4, 2, 3)
    assert set(opcheck(op(name), (line, weight, None, *parameters)).values()) == {"SUCCESS"}
    x, w, *rest = given(name, torch.contiguous_format)
    w = w.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert set(opcheck(op(name), (x, w, *rest)).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", OPS)
def test_opcheck_without_a_bias(name):
    assert set(opcheck(op(name), given(name, torch.contiguous_format, bias=False)).values()) == {
        "SUCCESS"
    }


@pytest.mark.parametrize("rank", [1, 3])
def test_opcheck_on_other_ranks_and_without_a_batch(rank):
    x, w = randn(2, *(3,) * rank), randn(2, 2, *(2,) * rank)
    one, none = [1] * rank, [0] * rank
    opcheck(op("conv_transpose"), (x, w, None, [2] * rank, one, none, one, one, 1))
    opcheck(op("conv"), (x, w, None, [2] * rank, none, one, one, 1))


class Decoder(torch.nn.Module):
    """A layer of each operator, and sizes that must fit the input again."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.up = pp.nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)

    def forward(self, x):
        h = conv2d(x, self.down.weight, self.down.bias, stride=2, padding=1).relu()
        return torch.cat([self.up(h, output_size=x.shape[2:]), x], 1)


@contextlib.contextmanager
def fresh_compiler():
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()


def step(function, model, x):
    """Result and gradients of one training step."""
    model.zero_grad()
    y = function(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler"),
    ],
)


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile(dynamic, backend):
    torch.manual_seed(0)
    model = Decoder()
    sizes = [(9, 12), (12, 9), (16, 7)] if dynamic else [(9, 12)]
    with fresh_compiler():
        compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend=backend)
        for size, memory_format in itertools.product(
            sizes, (torch.contiguous_format, torch.channels_last)
        ):
            x = torch.randn(2, 2, *size).contiguous(memory_format=memory_format)
            found, expected = step(compiled, model, x), step(model, model, x)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            with torch.no_grad():
                torch.testing.assert_close(compiled(x), expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_functions_take_pairs_and_words():
    x, w = randn(1, 2, 4, 5).detach(), randn(2, 3, 3, 3).detach()
    with fresh_compiler():
        for padding in ([(1, 0), (-1, 2)], "same", 1):
            function = lambda x, w, p=padding: conv_transpose2d(x, w, stride=2, padding=p)  # noqa: E731
            compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
            assert torch.equal(compiled(x, w), function(x, w))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_export_with_dynamic_sizes(strict):
    # PyTorch's own layer compares the sizes, which fixes them, and this export then fails
    model = Decoder().eval()
    height, width = torch.export.Dim("height", min=3), torch.export.Dim("width", min=3)
    shapes = {"x": {2: height, 3: width}}
    with fresh_compiler():
        example = torch.randn(1, 2, 11, 12)
        program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=strict)
    exported = program.module()
    for size in ((11, 12), (12, 11), (3, 30), (7, 7)):
        x = torch.randn(1, 2, *size)
        assert torch.equal(exported(x), model(x))


def test_an_impossible_size_is_refused_when_an_exported_program_runs():
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up = pp.nn.ConvTranspose2d(1, 1, 2, stride=2)

        def forward(self, x, like):
            return self.up(x, output_size=like.shape[2:])

    sides = [torch.export.Dim(name, min=2) for name in "abcd"]
    shapes = {"x": {2: sides[0], 3: sides[1]}, "like": {2: sides[2], 3: sides[3]}}
    example = torch.randn(1, 1, 4, 5), torch.randn(1, 1, 9, 10)
    exported = torch.export.export(Fixed(), example, dynamic_shapes=shapes).module()
    x = torch.randn(1, 1, 6, 3)
    assert exported(x, torch.randn(1, 1, 13, 6)).shape == (1, 1, 13, 6)
    with pytest.raises(GeometryError, match="output_padding"):
        exported(x, torch.randn(1, 1, 14, 6))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_trace():
    model = Decoder().eval()
    x = torch.randn(2, 2, 9, 12)
    traced = torch.jit.trace(model, x)
    assert "polyphase::conv_transpose" in str(traced.inlined_graph)
    assert torch.equal(traced(x), model(x))
    # sizes with the same remainder fit the constants of the trace
    other = torch.randn(1, 2, 11, 14)
    assert torch.equal(traced(other), model(other))


def test_proxies_of_fx():
    x, w = randn(1, 2, 4, 5), randn(2, 3, 3, 3)
    function = lambda x, w: conv_transpose2d(x, w, stride=2, padding="same")  # noqa: E731
    assert torch.equal(torch.fx.symbolic_trace(function)(x, w), function(x, w))
    backwards = torch.fx.symbolic_trace(lambda y, w: conv2d(y, w, stride=2))
    assert torch.equal(backwards(randn(1, 3, 5, 5), w), conv2d(randn(1, 3, 5, 5), w, stride=2))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_sees_one_node(mode):
    x, w = randn(1, 4, 4, 5).detach(), randn(4, 3, 3, 3).detach()
    function = lambda x, w: conv_transpose2d(x, w, **KEYWORDS)  # noqa: E731
    graph = make_fx(function, tracing_mode=mode)(x, w)
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert calls.count(op("conv_transpose")) == 1
    assert torch.equal(graph(x, w), function(x, w))


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def test_modes_see_the_call():
    x, w = randn(1, 4, 4, 5).detach(), randn(4, 3, 3, 3).detach()
    expected = conv_transpose2d(x, w, **KEYWORDS)
    with Seen() as seen:
        assert torch.equal(conv_transpose2d(x, w, **KEYWORDS), expected)
    assert seen.names.count("polyphase.conv_transpose.default") == 1
    with Called() as called:
        assert torch.equal(conv_transpose2d(x, w, **KEYWORDS), expected)
    assert conv_transpose2d in called.functions
    with torch.profiler.profile() as profile:
        conv_transpose2d(x, w, **KEYWORDS)
    assert "polyphase::conv_transpose" in {event.key for event in profile.key_averages()}


class Logged(torch.Tensor):
    """A tensor that notes which functions it came through."""

    functions: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.functions.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_subclasses_take_part():
    x, w = randn(1, 4, 4, 5).detach(), randn(4, 3, 3, 3).detach()
    y = conv_transpose2d(x.as_subclass(Logged), w, **KEYWORDS)
    assert conv_transpose2d in Logged.functions
    assert type(y) is Logged
    assert torch.equal(y.as_subclass(torch.Tensor), conv_transpose2d(x, w, **KEYWORDS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    x, w, b = randn(1, 4, 4, 5), randn(4, 3, 3, 3), randn(6)
    with torch.autocast("cpu", dtype=dtype):
        y = conv_transpose2d(x, w, b, **KEYWORDS)
        wide = conv_transpose2d(x.double(), w.double(), b.double(), **KEYWORDS)
    assert (y.dtype, wide.dtype) == (dtype, torch.float64)
    halves = (t.detach().to(dtype) for t in (x, w, b))
    assert torch.equal(y.detach(), conv_transpose2d(*halves, **KEYWORDS))
    gx, gw = torch.autograd.grad(y.float().sum(), (x, w))
    assert (gx.dtype, gw.dtype) == (torch.float32, torch.float32)
    exact = torch.autograd.grad(conv_transpose2d(x, w, b, **KEYWORDS).sum(), (x, w))
    torch.testing.assert_close((gx, gw), exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("name", ["conv_transpose2d", "conv2d"])
@pytest.mark.parametrize("watched", [False, True])
def test_derivatives_are_those_of_the_call_also_within_autocast(name, watched):
    x, w, b = randn(1, 4, 4, 5), randn(4, 4, 3, 3), randn(4)
    # within a mode calls go through the registered operators
    mode = pp.enabled() if watched else contextlib.nullcontext()
    for create_graph in (False, True):
        y = getattr(functional, name)(x, w, b, padding=1)
        keywords = {"grad_outputs": torch.full_like(y, 1.2345), "create_graph": create_graph}
        expected = torch.autograd.grad(y, (x, w, b), retain_graph=True, **keywords)
        with torch.autocast("cpu", dtype=torch.bfloat16), mode:
            found = torch.autograd.grad(y, (x, w, b), retain_graph=True, **keywords)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "padding"),
    [((2, 3, 1, 4), 1), ((2, 3, 2, 2), [(1, 2), (0, 0)]), ((0, 3, 2, 2), 0), ((3, 1, 1), 1)],
)
def test_empty_results_are_the_same_everywhere(shape, padding):
    x, w = torch.zeros(shape), torch.zeros(3, 4, 2, 2)
    function = lambda x, w: conv_transpose2d(x, w, padding=padding)  # noqa: E731
    y = function(x, w)
    assert y.numel() == 0
    assert function(x.to("meta"), w.to("meta")).shape == y.shape
    compare_with_fake(function, x, w)


def test_fakes_lie_in_memory_as_results_do():
    last = torch.channels_last
    for x, w in itertools.product(
        (randn(2, 3, 4, 5), randn(2, 3, 4, 5, memory_format=last), randn(2, 3, 1, 1)),
        (randn(3, 4, 2, 2), randn(3, 4, 2, 2, memory_format=last), randn(3, 4, 1, 1)),
    ):
        compare_with_fake(conv_transpose2d, x, w)
    for x in (randn(2, 3, 9), randn(2, 9, 3).detach().transpose(1, 2), randn(2, 3, 1)):
        compare_with_fake(conv_transpose1d, x, randn(3, 4, 2))


def compare_with_fake(function, x, w):
    y = function(x, w)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = function(mode.from_tensor(x), mode.from_tensor(w))
    assert (fake.shape, fake.stride(), fake.dtype) == (y.shape, y.stride(), y.dtype)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fakes_refuse_what_calls_refuse(device):
    x, w = torch.zeros(2, 4, 5, 6, device=device), torch.zeros(4, 3, 3, 3, device=device)
    bad = [
        {"stride": 0},
        {"padding": -1},
        {"output_padding": 1},
        {"groups": 3},
        {"bias": torch.zeros(2, device=device)},
        {"padding": 9},
        {"padding": "valid"},
    ]
    for keywords in bad:
        with pytest.raises(GeometryError):
            conv_transpose2d(x, w, **keywords)
    with pytest.raises(GeometryError, match="one device"):
        conv_transpose2d(x, torch.zeros(4, 3, 3, 3, device="meta" if device == "cpu" else "cpu"))
