"""``torch.onnx.export`` of polyphase's layers: plain nodes, and the layers' numbers everywhere."""

import random
import re
from collections import Counter

import foreign
import numpy as np
import onnx
import onnx_models
import oracle
import pytest
import repository
import torch

import polyphase as pp
from polyphase import GeometryError, interop

RUNTIMES = {"onnxruntime": onnx_models.in_onnxruntime, "openvino": onnx_models.in_openvino}
LAYERS = {1: pp.nn.ConvTranspose1d, 2: pp.nn.ConvTranspose2d, 3: pp.nn.ConvTranspose3d}
AUTO = torch.export.Dim.AUTO
# the exporter warns of itself
pytestmark = pytest.mark.filterwarnings("ignore")


class Several(torch.nn.Module):
    """Layers side by side on the same input, so that one export serves them all."""

    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        return tuple(layer(x) for layer in self.layers)


def exported(model, inputs, dynamic):
    """The model with small integers for weights, as ONNX."""
    generator = torch.Generator().manual_seed(0)
    for values in model.parameters():
        values.data = torch.randint(-2, 3, values.shape, generator=generator).float()
    shapes = tuple(dict.fromkeys(range(2, x.dim()), AUTO) for x in inputs) if dynamic else None
    program = torch.onnx.export(
        model.eval(), inputs, dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    onnx.checker.check_model(program.model_proto, full_check=True)
    return program.model_proto


def integers(seed, *shape):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def check(model, made, *inputs):
    """Everyone gives the model's numbers, as it is and rewritten."""
    with torch.no_grad():
        expected = model(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    rewritten = interop.onnx.rewrite(made).model
    names = [given.name for given in made.graph.input]
    arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    for run in RUNTIMES.values():
        for one in (made, rewritten):
            for theirs, ours in zip(run(one, **arrays), expected, strict=True):
                oracle.assert_same(theirs, ours.numpy())


def is_plain(geometry):
    """Whether one node that everyone understands can say it."""
    strides = [axis.stride for axis in geometry.axes]
    return all(a >= 0 and -b < s for (a, b), s in zip(geometry.crops, strides, strict=True))


def layers(rank, count, size):
    """Random layers, with pads that PyTorch's own do not have, and their geometries."""
    rng = random.Random(rank)
    while count:
        geometry = foreign.geometry_of(rng, rank)
        try:
            sizes = [geometry.output_size(at) for at in (size, tuple(n + 2 for n in size))]
        except GeometryError:
            continue
        if 0 in np.ravel(sizes):
            continue
        count -= 1
        groups = rng.choice((1, 1, 2, 4))
        yield (
            LAYERS[rank](
                4,
                groups * rng.choice((1, 2)),
                geometry.kernel_size,
                stride=geometry.stride,
                padding=geometry.pads,
                output_padding=geometry.output_padding,
                dilation=geometry.dilation,
                groups=groups,
                bias=rng.random() < 0.5,
            ),
            geometry,
        )


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("rank", "count"), [(1, 60), (2, 40), (3, 15)])
def test_random_layers(rank, count, dynamic):
    size = (5, 4, 3)[:rank]
    drawn = list(layers(rank, count, size))
    model = Several(layer for layer, _ in drawn)
    made = exported(model, (integers(0, 1, 4, *size),), dynamic)
    check(model, made, integers(1, 1, 4, *size))
    if dynamic:
        check(model, made, integers(2, 1, 4, *(n + 2 for n in size)))
    types = Counter(node.op_type for node in made.graph.node)
    assert types["ConvTranspose"] == count
    plain = sum(is_plain(geometry) for _, geometry in drawn)
    assert plain > count / 2
    assert types["Pad"] + types["Slice"] >= count - plain
    assert interop.onnx.rewrite(made).changes == ()


def test_a_chain_of_layers_is_a_chain_of_nodes():
    model = torch.nn.Sequential(
        pp.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        torch.nn.ReLU(),
        pp.nn.ConvTranspose2d(6, 6, 4, stride=2, padding="same", groups=6, bias=False),
        pp.nn.ConvTranspose2d(6, 2, (2, 3), stride=(3, 2), padding=((0, 1), (2, 0))),
    )
    made = exported(model, (integers(0, 1, 4, 5, 6),), dynamic=True)
    assert [n.op_type for n in made.graph.node] == ["ConvTranspose", "Relu", *["ConvTranspose"] * 2]
    pads = [onnx_models.attributes(n)["pads"] for n in made.graph.node if n.op_type != "Relu"]
    assert pads == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 2, 1, 0]]
    # sizes stay formulas of the input's
    assert all(d.dim_param for d in made.graph.output[0].type.tensor_type.shape.dim[2:])
    for size in ((5, 6), (1, 1), (7, 3)):
        check(model, made, integers(3, 1, 4, *size))


class UNet(torch.nn.Module):
    """Two levels, whose way up takes its sizes from the way down."""

    def __init__(self, dilation):
        super().__init__()
        self.down = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 3, stride=2, padding=dilation, dilation=dilation)
            for a, b in ((2, 3), (3, 4))
        )
        self.up = torch.nn.ModuleList(
            pp.nn.ConvTranspose2d.inverse_of(conv) for conv in reversed(self.down)
        )

    def forward(self, x):
        kept = []
        for conv in self.down:
            kept.append(x)
            x = conv(x)
        for layer in self.up:
            skip = kept.pop()
            x = layer(x, output_size=skip.shape[2:]) + skip
        return x


@pytest.mark.parametrize("dilation", [1, 3])
def test_sizes_that_only_the_running_model_knows(dilation):
    model = UNet(dilation)
    made = exported(model, (integers(0, 1, 2, 21, 18),), dynamic=True)
    for size in ((21, 18), (20, 23), (13, 14), (32, 32), (7, 9)):
        check(model, made, integers(4, 1, 2, *size))


def test_swapping_layers_makes_such_a_model_exportable():
    model = UNet(dilation=1)
    model.up = torch.nn.ModuleList(
        torch.nn.ConvTranspose2d(conv.out_channels, conv.in_channels, 3, stride=2, padding=1)
        for conv in reversed(model.down)
    )
    inputs = (integers(0, 1, 2, 21, 18),)
    # PyTorch's own has no place for an output padding that is not known
    with pytest.raises(torch.onnx.OnnxExporterError):
        exported(model, inputs, dynamic=True)
    made = exported(pp.accelerate(model), inputs, dynamic=True)
    for size in ((21, 18), (20, 23), (13, 14)):
        check(model, made, integers(4, 1, 2, *size))


def test_swapped_and_functional_layers():
    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up = pp.accelerate(torch.nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1))
            self.weight = torch.nn.Parameter(torch.zeros(3, 2, 3))

        def forward(self, x):
            y = pp.functional.conv_transpose1d(self.up(x), self.weight, stride=2, padding=[(0, 1)])
            return y, pp.functional.conv1d(y, self.weight, padding=[(1, 0)])

    model = Mixed()
    made = exported(model, (integers(0, 1, 2, 6),), dynamic=True)
    check(model, made, integers(1, 1, 2, 9))


def test_an_input_without_a_batch():
    model = pp.nn.ConvTranspose2d(2, 3, 3, stride=2, padding=((1, 0), (0, 1)))
    made = exported(model, (integers(0, 2, 4, 5),), dynamic=False)
    check(model, made, integers(1, 2, 4, 5))


def test_the_example_of_the_page(tmp_path, monkeypatch):
    page = (repository.ROOT / "docs" / "interop.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    [example] = [block for block in blocks if not block.startswith(">>>")]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    x = integers(0, 1, 16, 3, 5)
    [theirs] = onnx_models.in_onnxruntime(onnx.load("up.onnx"), input=x.numpy())
    np.testing.assert_allclose(theirs, names["layer"](x).detach().numpy(), atol=1e-5)
