"""Derivatives of every order and direction, with PyTorch's own checks and against PyTorch."""

from functools import partial

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from polyphase import functional
from polyphase.engine.sums import BiasOperation
from polyphase.functional.tensors import native
from polyphase.functional.tensors.derivatives import channel_sums, weight_grad
from polyphase.functional.tensors.spatial import Spatial

# forward mode makes PyTorch load decompositions by what it warns of itself
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

# name, shapes of input, weight and bias, keywords; each has a stride, groups or an odd end
CALLS = {
    "k3s2": ("conv_transpose1d", ((2, 3, 4), (3, 2, 3), (2,)), {"stride": 2, "padding": 1}),
    "same": ("conv_transpose1d", ((1, 2, 3), (2, 2, 4), (2,)), {"stride": 3, "padding": "same"}),
    "pairs": (
        "conv_transpose2d",
        ((2, 2, 3, 2), (2, 1, 3, 2), None),
        {"stride": (2, 1), "padding": [(2, 0), (-1, 1)]},
    ),
    "groups": (
        "conv_transpose2d",
        ((1, 4, 2, 3), (4, 1, 2, 2), (2,)),
        {"stride": (1, 3), "groups": 2, "dilation": (2, 1), "output_padding": 1},
    ),
    "volume": (
        "conv_transpose3d",
        ((1, 2, 2, 1, 2), (2, 1, 1, 2, 2), (1,)),
        {"stride": (1, 2, 2)},
    ),
    "unbatched": ("conv_transpose2d", ((2, 2, 3), (2, 2, 3, 2), (2,)), {"stride": 2}),
    # the last position is read by no output, and its gradient is still there
    "conv": ("conv1d", ((2, 2, 8), (3, 2, 3), (3,)), {"stride": 2, "padding": 1}),
    "conv groups": (
        "conv2d",
        ((1, 2, 5, 4), (2, 1, 2, 2), None),
        {"stride": 2, "groups": 2, "padding": [(1, 0), (0, 1)]},
    ),
}


def tensors(shapes, dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    return [
        None
        if shape is None
        else torch.randn(shape, dtype=dtype, generator=generator).requires_grad_(requires_grad)
        for shape in shapes
    ]


def call(key, dtype=torch.float64):
    name, shapes, keywords = CALLS[key]
    given = [t for t in tensors(shapes, dtype) if t is not None]
    return (lambda *values: getattr(functional, name)(*values, **keywords)), given


@pytest.mark.parametrize("key", CALLS)
def test_the_first_derivative(key):
    function, given = call(key)
    assert gradcheck(
        function,
        given,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("key", CALLS)
def test_the_second_derivative(key):
    function, given = call(key)
    assert gradgradcheck(function, given, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize("key", ["k3s2", "groups", "conv groups"])
def test_complex_derivatives(key):
    function, given = call(key, torch.complex128)
    assert gradcheck(function, given)
    assert gradgradcheck(function, given)


@pytest.mark.parametrize("size", [(3, 5), (2, 1)])
def test_the_gradient_of_the_weights_itself(size):
    s = Spatial((2, 1), ((1, 0), (0, 1)), (0, 0), (1, 1), 2)
    x, y = tensors([(2, 4, *size), (2, 2, 2 * size[0], size[1])])
    function = lambda x, y: weight_grad(x, y, (3, 2), s)  # noqa: E731
    assert gradcheck(function, (x, y), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, (x, y))


TRANSFORMS = {
    "grad": lambda f: torch.func.grad(lambda *v: f(*v).square().sum(), (0, 1)),
    "grad of grad": lambda f: torch.func.grad(
        lambda *v: torch.func.grad(lambda *u: f(*u).pow(3).sum(), 1)(*v).square().sum()
    ),
    "jvp": lambda f: lambda *v: torch.func.jvp(f, v, v),
    "jvp of jvp": lambda f: (
        lambda *v: torch.func.jvp(
            lambda x: torch.func.jvp(lambda z: f(z, *v[1:]).pow(3), (x,), (x,))[1], v[:1], v[:1]
        )[1]
    ),
    "vjp": lambda f: lambda *v: torch.func.vjp(f, *v)[1](f(*v).sin()),
    "jacrev": lambda f: torch.func.jacrev(lambda *v: f(*v).sin().sum(-1), (0, 1)),
    "jacfwd": lambda f: torch.func.jacfwd(lambda *v: f(*v).sin().sum(-1), (0, 1)),
    "hessian": lambda f: torch.func.hessian(lambda *v: f(*v).square().sum(), (0, 1)),
    "vmap": lambda f: torch.vmap(f, in_dims=(0, None, None)),
    "vmap weight": lambda f: lambda x, w, b: torch.vmap(f, (None, 0, None))(x[0], w[None], b),
    "vmap all": lambda f: (
        lambda x, w, b: torch.vmap(f)(
            torch.stack([x, -x], 1).transpose(0, 1),
            torch.stack([w, w + 1]),
            torch.stack([b, 2 * b]),
        )
    ),
    "vmap bias": lambda f: lambda x, w, b: torch.vmap(f, (None, None, 1))(x, w, b[:, None]),
    "gradients per sample": lambda f: torch.vmap(
        torch.func.grad(lambda x, w, b: f(x, w, b).square().sum(), (1, 2)), (0, None, None)
    ),
}


def _called(function, keywords, *tensors):
    return function(*tensors, **keywords)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", ["conv_transpose2d", "conv2d"])
def test_transforms_agree_with_pytorch(name, transform):
    x, w, b = tensors([(2, 2, 4, 3), (2, 1, 3, 2), (2,)], requires_grad=False)
    keywords = {"stride": (2, 1), "padding": (1, 0), "groups": 2}
    found, expected = (
        TRANSFORMS[transform](partial(_called, getattr(home, name), keywords))(x, w, b)
        for home in (functional, torch.nn.functional)
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_jacobian_of_all_rows_at_once():
    function, (x, w, b) = call("k3s2")
    jacobian = torch.autograd.functional.jacobian
    found = jacobian(lambda x: function(x, w, b), x, vectorize=True)
    torch.testing.assert_close(found, jacobian(lambda x: function(x, w, b), x))


def test_dual_numbers_of_one_argument():
    function, (x, w, b) = call("k3s2")
    for place in range(3):
        with forward_ad.dual_level():
            given = [x.detach(), w.detach(), b.detach()]
            tangent = torch.randn_like(given[place])
            given[place] = forward_ad.make_dual(given[place], tangent)
            found = forward_ad.unpack_dual(function(*given)).tangent
        given = [x.detach(), w.detach(), b.detach()]
        moved = [*given[:place], given[place] + tangent, *given[place + 1 :]]
        torch.testing.assert_close(found, function(*moved) - function(*given))


SUMMED = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


@pytest.mark.parametrize("dtype", SUMMED, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 9000), (2, 1, 40, 50), (2, 5, 4, 3), (3, 4, 2, 3, 2), (1, 7), (0, 3, 2)]
)
def test_sums_over_channels(shape, dtype):
    rank = {2: 1, 3: 1, 4: 2, 5: 3}[len(shape)]
    axes = [axis for axis in range(len(shape)) if axis != len(shape) - rank - 1]
    g = torch.randint(-1, 2, shape).to(dtype)
    if dtype.is_complex:
        g = g + 2j * torch.randint(-1, 2, shape)
    expected = g.sum(axes)
    in_other_memory = g.transpose(0, -1).contiguous().transpose(0, -1), g.movedim(1, -1)
    for given in (g, in_other_memory[0], in_other_memory[1].contiguous().movedim(-1, 1)):
        given = given.detach().requires_grad_()
        sums = channel_sums(given, rank)
        assert torch.equal(sums, expected)
        assert torch.equal(torch.autograd.grad(sums, given, expected)[0],
                           expected.reshape(-1, *(1,) * rank).expand(shape))  # fmt: skip


def test_gradients_of_the_bias_come_from_the_engine(monkeypatch):
    called = []
    run = BiasOperation.run
    monkeypatch.setattr(
        BiasOperation, "run", lambda self, *given: (called.append(self), run(self, *given))[1]
    )
    x, w, b = tensors([(2, 3, 4), (3, 2, 3), (2,)])
    for dtype, count in ((torch.float64, 1), (torch.complex128, 2)):
        called.clear()
        leaves = [t.detach().to(dtype).requires_grad_() for t in (x, w, b)]
        y = functional.conv_transpose1d(*leaves)
        torch.autograd.grad(y, leaves, torch.ones_like(y))
        assert len(called) == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_no_gradient_is_left_to_the_definition(dtype, monkeypatch):
    def called(*_):
        raise AssertionError("the definition was called")

    monkeypatch.setattr(native.reference, "weight_grad", called)
    for name in native._DEFINITIONS:
        monkeypatch.setitem(native._DEFINITIONS, name, called)
    for operator in (functional.conv_transpose1d, functional.conv1d):
        x, w = (t.detach().to(dtype).requires_grad_() for t in tensors([(2, 3, 4), (3, 3, 3)]))
        torch.autograd.grad(operator(x, w).abs().sum(), (x, w))


def test_a_gradient_with_gaps_is_copied_once(monkeypatch):
    x, w, b = tensors([(2, 3, 4, 5), (3, 2, 3, 3), (2,)])
    y = functional.conv_transpose2d(x, w, b)
    copies = []
    contiguous = torch.Tensor.contiguous

    def watched(tensor, **keywords):
        if tensor.shape == y.shape and not tensor.is_contiguous():
            copies.append(tensor)
        return contiguous(tensor, **keywords)

    monkeypatch.setattr(torch.Tensor, "contiguous", watched)
    gradients = torch.autograd.grad(y.sum(), (x, w, b))
    assert len(copies) == 1
    theirs = torch.nn.functional.conv_transpose2d(x, w, b).sum()
    torch.testing.assert_close(gradients, torch.autograd.grad(theirs, (x, w, b)))


def test_gradients_do_not_depend_on_the_number_of_threads():
    x, w, b = tensors([(1, 4, 9000), (4, 1, 16), (1,)], torch.float32)
    cotangent = torch.randn(1, 1, 9000 * 8)
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = functional.conv_transpose1d(x, w, b, stride=8, padding=4)
            found.append((y, *torch.autograd.grad(y, (x, w, b), cotangent)))
    finally:
        torch.set_num_threads(before)
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


def test_a_gradient_through_a_result_without_elements():
    x, w, b = tensors([(2, 1, 2), (1, 3, 2), (3,)])
    y = functional.conv_transpose1d(x, w, b, padding=[(2, 1)])
    assert y.shape == (2, 3, 0)
    for gradient, value in zip(torch.autograd.grad(y.sum(), (x, w, b)), (x, w, b), strict=True):
        assert torch.equal(gradient, torch.zeros_like(value))


def test_the_gradient_of_a_batch_of_nothing():
    x, w = tensors([(0, 2, 3), (2, 1, 2)])
    gx, gw = torch.autograd.grad(functional.conv_transpose1d(x, w, stride=2).sum(), (x, w))
    assert gx.shape == x.shape
    assert torch.equal(gw, torch.zeros_like(w))


def test_only_what_is_asked_for_is_recorded():
    x, w, b = tensors([(1, 2, 3), (2, 2, 2), (2,)])
    y = functional.conv_transpose1d(x.detach(), w.detach(), b)
    assert torch.equal(torch.autograd.grad(y.sum(), b)[0], torch.full((2,), 4.0).double())
    with torch.no_grad():
        assert not functional.conv_transpose1d(x, w, b).requires_grad
    assert not functional.conv_transpose1d(x.detach(), w.detach(), b.detach()).requires_grad


def test_results_may_be_changed_in_place():
    # PyTorch forbids this for views, which results must therefore not be
    for size in (3, 600):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x, w = tensors([(1, 2, size, size), (2, 2, 2, 2)], torch.float32)
            y = functional.conv_transpose2d(x.contiguous(memory_format=memory_format), w, stride=2)
            assert y.is_contiguous(memory_format=memory_format)
            torch.nn.functional.relu(y, inplace=True).sum().backward()
            assert x.grad.shape == x.shape
