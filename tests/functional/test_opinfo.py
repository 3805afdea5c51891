"""PyTorch's own test cases for its convolutions, with polyphase in PyTorch's place."""

import warnings

import pytest
import torch
from torch.testing import assert_close

from polyphase import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

CASES = {
    info.name.removeprefix("nn.functional."): info
    for info in op_db
    if info.name.removeprefix("nn.functional.") in functional.__all__
}
DIFFERENTIATED = (torch.float32, torch.float64, torch.complex128)
# by how many roundings of the largest sum of magnitudes two ways of adding up may differ
ROUNDINGS = 16


def test_no_function_is_left_out():
    assert sorted(CASES) == functional.__all__


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name, info in CASES.items() for dtype in sorted(info.dtypes, key=str)],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_the_samples(name, dtype):
    op, ours = CASES[name].op, getattr(functional, name)
    differentiated = dtype in DIFFERENTIATED
    for sample in CASES[name].sample_inputs("cpu", dtype, requires_grad=differentiated):
        tensors = [t for t in (sample.input, *sample.args) if isinstance(t, torch.Tensor)]
        rest, keywords = (sample.input, *sample.args)[len(tensors) :], sample.kwargs
        found, expected = (f(*tensors, *rest, **keywords) for f in (ours, op))
        magnitudes = [t.detach().abs().requires_grad_(differentiated) for t in tensors]
        total = op(*magnitudes, *rest, **keywords)
        assert_same(found, expected, total)
        if differentiated:
            weights = torch.randn_like(expected)
            gradients = (torch.autograd.grad(y, tensors, weights) for y in (found, expected))
            totals = torch.autograd.grad(total, magnitudes, weights.abs())
            for one, other, most in zip(*gradients, totals, strict=True):
                assert_same(one, other, most)


def assert_same(found, expected, total):
    exact = not (found.is_floating_point() or found.is_complex())
    eps = 0 if exact else torch.finfo(found.dtype).eps
    most = total.abs().max().item() if total.numel() else 0
    assert_close(found, expected, rtol=0, atol=ROUNDINGS * eps * most)


@pytest.mark.parametrize("name", [name for name, info in CASES.items() if info.error_inputs_func])
def test_the_errors(name):
    for error in CASES[name].error_inputs("cpu"):
        sample = error.sample_input
        with pytest.raises(error.error_type):
            getattr(functional, name)(sample.input, *sample.args, **sample.kwargs)
