"""What ``torch.onnx.export`` makes of the operators, without the packages that an export needs.

``interop_oracles/test_export.py`` exports models and runs them.
"""

import io
import random

import foreign
import numpy as np
import onnx
import oracle
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch.fx.experimental.proxy_tensor import make_fx

import polyphase as pp
from polyphase import GeometryError, interop
from polyphase.functional.tensors import exported
from polyphase.functional.tensors.spatial import Spatial


@pytest.fixture
def nodes(monkeypatch):
    """The attributes of the nodes that are made; each is computed as the specification has it."""
    made = []

    def symbolic(name, inputs, attributes, *, dtype, shape):
        assert name == "ConvTranspose"
        made.append(attributes)
        result = interop.onnx.conv_transpose(*(t.numpy() for t in inputs), **attributes)
        assert result.shape == tuple(shape)
        return torch.from_numpy(result).to(dtype)

    monkeypatch.setattr(torch.onnx.ops, "symbolic", symbolic)
    return made


def parameters(geometry, groups):
    pads = tuple(tuple(pair) for pair in geometry.pads)
    columns = zip(*((axis.stride, axis.dilation) for axis in geometry.axes), strict=True)
    stride, dilation = columns
    extra = geometry.output_padding
    extra = extra if isinstance(extra, tuple) else (extra,) * geometry.rank
    return Spatial(stride, pads, extra, dilation, groups)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_nodes_have_the_values_of_the_operator(nodes, rank):
    rng = random.Random(rank)
    for _ in range(100):
        geometry = foreign.geometry_of(rng, rank)
        size, groups = foreign.several(rng, rank, 1, 4), rng.choice((1, 2))
        try:
            wanted = geometry.output_size(size)
        except GeometryError:
            continue
        if 0 in np.ravel(wanted):
            continue
        kernel = [axis.kernel_size for axis in geometry.axes]
        x = foreign.numbers(rng, (1, 2, *size))
        w = foreign.numbers(rng, (2, 3, *kernel))
        b = foreign.numbers(rng, (3 * groups,)) if rng.random() < 0.5 else None
        tensors = [None if a is None else torch.from_numpy(a) for a in (x, w, b)]
        nodes.clear()
        result = exported.conv_transpose(*tensors, parameters(geometry, groups))
        expected = oracle.conv_transpose(x, w, b, geometry, groups)
        oracle.assert_same(result.numpy(), expected, geometry)
        [node] = nodes
        # every runtime takes these
        assert min(node["pads"]) >= 0
        for op, axis in zip(node["output_padding"], geometry.axes, strict=True):
            assert 0 <= op < axis.stride


def test_what_one_node_can_say_is_one_node(nodes):
    x, w = torch.ones(2, 5), torch.ones(2, 3, 4)
    geometry = pp.Geometry(4, stride=3, padding=[(2, -1)])
    exported.conv_transpose(x, w, None, parameters(geometry, 1))
    [node] = nodes
    assert node == {
        "kernel_shape": [4],
        "strides": [3],
        "dilations": [1],
        "pads": [2, 0],
        "output_padding": [1],
        "group": 1,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("padding", [1, ((2, -1),), "same"])
def test_the_exporter_that_traces(padding):
    layer = pp.nn.ConvTranspose1d(2, 3, 4, stride=2, padding=padding)
    layer.weight.data = torch.arange(24.0).reshape(2, 3, 4)
    layer.bias.data = torch.arange(3.0)
    x = torch.arange(10.0).reshape(1, 2, 5)
    file = io.BytesIO()
    torch.onnx.export(layer, (x,), file, dynamo=False)
    found = ReferenceEvaluator(onnx.load_from_string(file.getvalue()))
    [result] = found.run(None, {found.input_names[0]: x.numpy()})
    oracle.assert_same(result, layer(x).detach().numpy())


def test_outside_of_an_export_the_operator_stays():
    assert torch.onnx.is_in_onnx_export() is False
    program = make_fx(pp.nn.ConvTranspose1d(2, 3, 3, stride=2))(torch.ones(1, 2, 5))
    assert "polyphase.conv_transpose" in str(program.graph)
