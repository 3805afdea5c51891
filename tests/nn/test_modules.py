"""PyTorch's own test cases for its transposed layers, with polyphase's in their place."""

import copy
import io
import itertools
import pickle
import warnings

import pytest
import torch
from torch.testing import assert_close

import polyphase as pp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import module_db

CASES = {
    info.module_cls.__name__: info
    for info in module_db
    if info.module_cls.__name__ in pp.nn.__all__
}
PARAMETERS = [
    (name, dtype, training)
    for name, info in CASES.items()
    for dtype in info.dtypes
    for training in (True, False)
]
WIDE = {torch.complex32: torch.complex64}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]


def pairs(name, dtype, training):
    """The same layer twice, PyTorch's and ours, and the arguments of its forward."""
    info = CASES[name]
    options = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": training}
    for case in info.module_inputs_func(info, **options):
        made = case.constructor_input
        layers = []
        for kind in (info.module_cls, getattr(pp.nn, name)):
            torch.manual_seed(0)
            layers.append(kind(*made.args, **made.kwargs, dtype=dtype).train(training))
        yield (*layers, case.forward_input)


def close(found, expected):
    """Within a few roundings of the largest value."""
    eps = torch.finfo(expected.dtype).eps
    # PyTorch can hardly compare halves of complex numbers
    found, expected = (t.to(WIDE.get(t.dtype, t.dtype)) for t in (found, expected))
    assert_close(found, expected, rtol=0, atol=16 * eps * expected.abs().max().item())


def test_no_layer_is_left_out():
    assert sorted(CASES) == pp.nn.__all__


@pytest.mark.parametrize(("name", "dtype", "training"), PARAMETERS, ids=str)
def test_forward_and_gradients(name, dtype, training):
    for theirs, ours, given in pairs(name, dtype, training):
        results = []
        for layer in (theirs, ours):
            # a lazy layer draws its weights now
            torch.manual_seed(1)
            results.append(layer(*given.args, **given.kwargs))
        assert repr(ours) == repr(theirs)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert one.tolist() == other.tolist()
        close(results[1], results[0])
        weights = torch.randn_like(results[0], dtype=WIDE.get(dtype, dtype)).to(dtype)
        gradients = [
            torch.autograd.grad(y, [*layer.parameters(), *given.args], weights)
            for y, layer in zip(results, (theirs, ours), strict=True)
        ]
        for one, other in zip(*gradients, strict=True):
            close(one, other)


@pytest.mark.parametrize("name", CASES)
def test_pickle_deepcopy_and_checkpoints(name):
    for theirs, ours, given in pairs(name, torch.float32, training=False):
        expected = ours(*given.args, **given.kwargs)
        for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
            assert type(twin) is type(ours)
            assert torch.equal(twin(*given.args, **given.kwargs), expected)
        file = io.BytesIO()
        torch.save(ours.state_dict(), file)
        file.seek(0)
        # the lazy form of PyTorch's layer takes the sizes from the checkpoint as well
        theirs.load_state_dict(torch.load(file, weights_only=True))
        assert_close(theirs(*given.args, **given.kwargs), expected)
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("name", [name for name in CASES if "1d" not in name])
def test_memory_formats(name):
    last = torch.channels_last if "2d" in name else torch.channels_last_3d
    for theirs, ours, given in pairs(name, torch.float32, training=False):
        [x] = given.args
        if x.dim() < int(name[-2]) + 2:
            continue
        # weights of lazy layers are there after a call
        theirs(x)
        ours(x)
        theirs.load_state_dict(ours.state_dict())
        # once the weights are channels-last, they stay so
        for of_layer, of_input in itertools.product((torch.contiguous_format, last), repeat=2):
            placed = x.detach().contiguous(memory_format=of_input).requires_grad_()
            y, z = (layer.to(memory_format=of_layer)(placed) for layer in (ours, theirs))
            assert y.stride() == z.stride()
            assert y.is_contiguous(memory_format=last) == (last in (of_layer, of_input))
            assert_close(y, z)
            gradients = (
                torch.autograd.grad(v.sum(), (placed, m.weight))
                for v, m in ((y, ours), (z, theirs))
            )
            for one, other in zip(*gradients, strict=True):
                assert_close(one, other, check_stride=False)


@pytest.mark.parametrize("name", CASES)
def test_inputs_with_gaps(name):
    for _, ours, given in pairs(name, torch.float64, training=True):
        [x] = given.args
        spread = torch.repeat_interleave(x, 2, dim=-1).detach()[..., ::2].requires_grad_()
        assert not spread.is_contiguous()
        results = [ours(value) for value in (x, spread)]
        assert torch.equal(*results)
        gradients = [
            torch.autograd.grad(y.sum(), v)[0] for y, v in zip(results, (x, spread), strict=True)
        ]
        assert torch.equal(*gradients)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("Lazy")])
def test_dtype_and_device_of_the_parameters(name):
    for _, _, _ in pairs(name, torch.float32, training=True):
        kind, rank = getattr(pp.nn, name), int(name[-2])
        for dtype in (torch.float64, torch.bfloat16):
            layer = kind(2, 3, 2, dtype=dtype)
            assert {p.dtype for p in layer.parameters()} == {dtype}
            x = torch.ones(1, 2, *(3,) * rank)
            assert layer(x.to(dtype)).dtype is dtype
            assert layer.float()(x).dtype is torch.float32
        meta = kind(2, 3, 2, device="meta")
        assert meta(torch.ones(1, 2, *(3,) * rank, device="meta")).shape == layer(x).shape
