"""Models that exist already: swapped, named, restored, and the same results all along."""

import copy
import io
import logging
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import polyphase as pp
from polyphase.models import build

X = torch.randint(-3, 4, (2, 4, 5, 6)).float()


class Named(nn.ConvTranspose2d):
    """A subclass that adds to the layer without changing what it computes."""

    def __init__(self, channels):
        super().__init__(channels, channels, 4, stride=2, padding=1)
        self.note = "kept"

    def reset_parameters(self):
        nn.init.constant_(self.weight, 0.5)
        nn.init.zeros_(self.bias)


class Doubled(nn.ConvTranspose2d):
    def forward(self, input, output_size=None):
        return 2 * super().forward(input, output_size)


class Sized(nn.ConvTranspose2d):
    def _output_padding(self, *arguments):
        return [1, 1]


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.ConvTranspose2d(4, 4, 3, stride=2),
        Named(4),
        parametrizations.weight_norm(nn.ConvTranspose2d(4, 4, 2, stride=2)),
        parametrizations.spectral_norm(Named(4)),
        nn.ModuleDict({"up": nn.ConvTranspose1d(4, 4, 3)}),
    )


def run(layers):
    x = X
    for layer in layers[:5]:
        x = layer(x)
    return layers[5]["up"](x.mean(2))


def classes(layers):
    return [type(module) for module in layers.modules()]


def test_every_layer_that_computes_the_same_is_swapped():
    layers = model().eval()
    before, parameters = run(layers), list(layers.parameters())
    own = classes(layers)
    assert pp.accelerate(layers) is layers
    after = run(layers)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    swapped = [layers[1], layers[2], layers[3], layers[4], layers[5]["up"]]
    kinds = (pp.nn.ConvTranspose1d, pp.nn.ConvTranspose2d)
    assert all(isinstance(layer, kinds) for layer in swapped)
    # the same objects with the same parameters, names and notes
    assert all(p is q for p, q in zip(layers.parameters(), parameters, strict=True))
    assert isinstance(layers[2], Named)
    assert (layers[2].note, layers[4].note) == ("kept", "kept")
    assert repr(pp.accelerate(layers)) == repr(model())
    assert pp.restore(layers) is layers
    assert [kind.__name__ for kind in classes(layers)] == [kind.__name__ for kind in own]
    assert [type(layers[1]), type(layers[2])] == [nn.ConvTranspose2d, Named]
    assert not any(isinstance(layer, kinds) for layer in layers.modules())
    assert torch.equal(run(layers), before)


def test_gradients_and_optimizers_carry_on():
    losses = []
    for swapped in (False, True):
        layers = model()
        optimizer = torch.optim.SGD(layers.parameters(), lr=1e-3)
        if swapped:
            pp.accelerate(layers)
        for _ in range(3):
            optimizer.zero_grad()
            loss = run(layers).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[3:] == pytest.approx(losses[:3], rel=1e-4)


def test_layers_that_compute_something_else_are_left_and_named(caplog):
    patched = nn.ConvTranspose2d(4, 4, 2)
    patched.forward = lambda x: x
    layers = nn.Sequential(Doubled(4, 4, 2), Sized(4, 4, 2, stride=2), patched, nn.Linear(2, 2))
    own = classes(layers)
    with caplog.at_level(logging.INFO, "polyphase"):
        pp.accelerate(layers)
    assert classes(layers) == own
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        (
            "WARNING",
            "0: Doubled(4, 4, kernel_size=(2, 2), stride=(1, 1)) is left as it is: "
            "its class has a forward of its own",
        ),
        (
            "WARNING",
            "1: Sized(4, 4, kernel_size=(2, 2), stride=(2, 2)) is left as it is: "
            "its class has a _output_padding of its own",
        ),
        (
            "WARNING",
            "2: ConvTranspose2d(4, 4, kernel_size=(2, 2), stride=(1, 1)) is left as it is: "
            "forward was replaced on the layer itself",
        ),
        ("INFO", "0 of 3 transposed layers run on polyphase"),
    ]


def test_the_report():
    lines = []
    pp.accelerate(model(), report=lines.append)
    assert [line.split(":")[0] for line in lines[:-1]] == ["1", "2", "3", "4", "5.up"]
    assert (
        lines[0] == "1: ConvTranspose2d(4, 4, kernel_size=(3, 3), stride=(2, 2)) runs on polyphase"
    )
    assert lines[-1] == "5 of 5 transposed layers run on polyphase"


@pytest.mark.parametrize("report", [True, "lines", 1])
def test_a_report_that_cannot_be_called(report):
    untouched = model()
    text = f"report must be a function of one line of text, such as print, or None, got {report!r}"
    with pytest.raises(TypeError, match=text):
        pp.accelerate(untouched, report=report)
    assert not any(type(layer) is pp.nn.ConvTranspose2d for layer in untouched.modules())


def test_a_layer_alone_and_layers_made_as_ours():
    layer = nn.ConvTranspose2d(4, 2, 2)
    assert pp.accelerate(layer) is layer
    assert type(layer) is pp.nn.ConvTranspose2d
    ours = pp.nn.ConvTranspose2d(2, 2, 2)
    both = pp.accelerate(nn.Sequential(layer, ours))
    pp.restore(both)
    assert type(layer) is nn.ConvTranspose2d
    # it never was PyTorch's
    assert type(ours) is pp.nn.ConvTranspose2d
    for wrong in (torch.zeros(1), nn.ConvTranspose2d, None):
        with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
            pp.accelerate(wrong)
        with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
            pp.restore(wrong)


def test_a_layer_that_stands_in_two_places():
    layer = nn.ConvTranspose2d(4, 4, 3, padding=1)
    layers = pp.accelerate(nn.Sequential(layer, layer))
    assert layers[0] is layers[1] is layer
    assert type(layer) is pp.nn.ConvTranspose2d


def test_copies_and_pickles():
    layers = pp.accelerate(nn.Sequential(nn.ConvTranspose2d(4, 4, 3), Named(4))).eval()
    expected = layers(X)
    file = io.BytesIO()
    torch.save(layers, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(layers),
        pickle.loads(pickle.dumps(layers)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(twin(X), expected)
        assert classes(twin) == classes(layers)
        pp.restore(twin)
        assert classes(twin)[1:] == [nn.ConvTranspose2d, Named]
    deep = copy.deepcopy(pp.accelerate(model()))
    assert isinstance(deep[3], pp.nn.ConvTranspose2d)


def test_parametrizations_come_and_go_afterwards():
    layer = pp.accelerate(parametrizations.weight_norm(nn.ConvTranspose2d(4, 4, 3)))
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is pp.nn.ConvTranspose2d
    parametrizations.spectral_norm(layer)
    y = layer(X)
    pp.restore(layer)
    assert not isinstance(layer, pp.nn.ConvTranspose2d)
    torch.testing.assert_close(layer.eval()(X), pp.accelerate(layer)(X))
    assert y.shape == (2, 4, 7, 8)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_layers():
    layers = pp.accelerate(nn.Sequential(nn.LazyConvTranspose2d(2, 3)))
    assert layers(X).shape == (2, 2, 7, 8)
    assert type(layers[0]) is pp.nn.ConvTranspose2d
    assert type(pp.restore(layers)[0]) is nn.ConvTranspose2d


def test_hooks_stay():
    layer = nn.ConvTranspose2d(4, 2, 2)
    layer.register_forward_hook(lambda module, given, y: y + 1)
    before = layer(X)
    torch.testing.assert_close(pp.accelerate(layer)(X), before)


@pytest.mark.parametrize(
    ("name", "options", "given"),
    [
        ("unet", {"width": 8}, [(1, 1, 48, 64)]),
        ("dcgan", {"width": 8}, [(3, 100, 1, 1)]),
        ("hifigan", {"width": 32}, [(1, 80, 9)]),
        ("vae", {}, [(2, 32)]),
        ("sam", {}, [(1, 256, 6, 7)]),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_real_architectures(name, options, given, memory_format):
    torch.manual_seed(0)
    network = build(name, **options).eval().to(memory_format=memory_format)
    inputs = [torch.randn(shape) for shape in given]
    if len(given[0]) == 4:
        inputs = [x.contiguous(memory_format=memory_format) for x in inputs]
    with torch.no_grad():
        before = network(*inputs)
        lines = []
        pp.accelerate(network, report=lines.append)
        after = network(*inputs)
    assert not any("left as it is" in line for line in lines)
    assert len(lines) > 1
    scale = before.abs().max().item()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * scale)


def test_enabled_routes_the_functions_and_all_who_call_them():
    layers = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, stride=2), Doubled(4, 4, 2), nn.ReLU())
    x = X.clone().requires_grad_()
    before = layers(x)
    with pp.enabled():
        after = layers(x)
        direct = nn.functional.conv_transpose1d(X[:, :, 0], torch.ones(4, 2, 3), None, 2)
    names = {node.name() for node in graph(after)}
    assert "ConvTransposeBackward" in names
    assert "ConvolutionBackward0" not in names
    torch.testing.assert_close(after, before)
    line = nn.functional.conv_transpose1d(X[:, :, 0], torch.ones(4, 2, 3), None, 2)
    assert torch.equal(direct, line)
    assert "ConvolutionBackward0" in {node.name() for node in graph(layers(x))}


def graph(y):
    seen, waiting = set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return seen


def test_enabled_ends_and_is_of_one_thread():
    layer = nn.ConvTranspose2d(4, 4, 3)
    x = X.clone().requires_grad_()
    found = []
    with pp.enabled(), pp.enabled():
        thread = threading.Thread(target=lambda: found.append(layer(x).grad_fn.name()))
        thread.start()
        thread.join()
        found.append(layer(x).grad_fn.name())
    with pytest.raises(ZeroDivisionError), pp.enabled():
        raise ZeroDivisionError
    found.append(layer(x).grad_fn.name())
    assert found == ["ConvolutionBackward0", "ConvTransposeBackward", "ConvolutionBackward0"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_enabled_and_accelerated_models_compile():
    layers = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, stride=2), nn.ReLU())
    expected = layers(X)
    torch._dynamo.reset()
    with pp.enabled():
        compiled = torch.compile(layers, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), expected)
    torch._dynamo.reset()
    compiled = torch.compile(pp.accelerate(layers), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), expected)
    torch._dynamo.reset()
