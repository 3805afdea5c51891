"""Rewritten models mean what the originals mean, to all runtimes; the report names who differed."""

import random
from collections import Counter

import against
import numpy as np
import onnx
import onnx_models
import oracle
import pytest
import torch

from polyphase import interop

RUNTIMES = {"onnxruntime": onnx_models.in_onnxruntime, "openvino": onnx_models.in_openvino}

# those with a text of their own, and one between
OPSETS = (11, 13, 18, 22)
EMPTY = "the end gains a whole stride, and the rest may be empty for a small input"


def legal(rank, count, seed=0):
    """Problems that mean something, and do not come out empty."""
    rng = random.Random(seed + rank)
    while count:
        problem = against.problem("onnx", rng, rank, grouped=True)
        if problem.refusal is None and not problem.empty:
            count -= 1
            yield problem


@pytest.mark.parametrize(("rank", "count"), [(1, 1200), (2, 400), (3, 60)])
def test_every_runtime_gives_the_same_afterwards(rank, count):
    found = Counter()
    for at, problem in enumerate(legal(rank, count)):
        # without output_shape it is all the same whether the sizes are known
        known = at % 2 or "output_shape" in problem.call.keywords
        dynamic = () if known else (0, *range(2, rank + 2))
        original = onnx_models.one_node(problem, opset=OPSETS[at % 4], dynamic=dynamic)
        before = original.SerializeToString()
        rewritten, changes = interop.onnx.rewrite(original)
        assert original.SerializeToString() == before
        if any(change.after is None for change in changes):
            reasons = {change.reason for change in changes}
            assert reasons <= {"no input reaches the output, which is the bias alone", EMPTY}
            assert EMPTY not in reasons or dynamic
            found["left"] += 1
            continue
        onnx.checker.check_model(rewritten, full_check=True)
        [node] = [n for n in rewritten.graph.node if n.op_type == "ConvTranspose"]
        left = onnx_models.attributes(node)
        assert not {"auto_pad", "output_shape"} & set(left) or left["auto_pad"] == "NOTSET"
        sizes = zip(onnx_models.inferred(rewritten), problem.expected.shape, strict=True)
        assert all(size == n or (dynamic and size is None) for size, n in sizes), problem.call
        for run in RUNTIMES.values():
            [theirs] = run(rewritten, x=problem.x)
            oracle.assert_same(theirs, problem.expected, problem.call)
        found["with Pad" if len(rewritten.graph.node) > 1 else "pads alone"] += 1
    assert found["left"] < count / 10, found
    assert found["pads alone"] > count / 2, found
    assert found["with Pad"] > 0, found


@pytest.mark.parametrize(("rank", "count"), [(1, 700), (2, 200)])
def test_the_report_names_exactly_those_who_differ(rank, count):
    found = Counter()
    for problem in legal(rank, count, seed=5):
        original = onnx_models.one_node(problem)
        changes = interop.onnx.rewrite(original).changes
        told = [s for change in changes for s in change.disagreements if "before 1.13" not in s]
        for name, run in RUNTIMES.items():
            try:
                agrees = np.array_equal(run(original, x=problem.x)[0], problem.expected)
            except Exception:
                agrees = False
            named = any(name in sentence for sentence in told)
            # a runtime may be right by chance, where what is shifted or missing is zero
            assert agrees or named, (problem.call, name, told)
            found[name, agrees, named] += 1
        agrees = onnx_models.inferred(original) == problem.expected.shape
        named = any("shape inference" in sentence for sentence in told)
        assert agrees != named, (problem.call, onnx_models.inferred(original), told)
        found["shape inference", agrees, named] += 1
    for name in ("onnxruntime", "openvino", "shape inference"):
        assert found[name, False, True] > 10 * found[name, True, True], found
        assert found[name, True, False] > count / 2, found


def decoder():
    """A network with what exporters have stumbled over."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(6, 6, (2, 3), stride=(3, 2), padding=(0, 2), groups=6),
        torch.nn.ConvTranspose2d(6, 3, 3, dilation=3, padding=3, output_padding=2),
        torch.nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, output_padding=(1, 0), bias=False),
    )


# the exporter warns of itself
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_network_exported_by_torch(dynamic, tmp_path):
    network = decoder().eval()
    for values in network.parameters():
        values.data = torch.randint(-2, 3, values.shape).float()
    x = torch.randint(-2, 3, (1, 4, 5, 6)).float()
    shapes = {"input": {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}} if dynamic else None
    path = tmp_path / "decoder.onnx"
    torch.onnx.export(
        network, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, external_data=False
    )
    rewritten, changes = interop.onnx.rewrite(onnx.load(path))
    # output_padding is not smaller than the stride in the third layer, which onnxruntime refuses
    assert ["onnxruntime refuses" in " ".join(c.disagreements) for c in changes].count(True) == 1
    onnx.checker.check_model(rewritten, full_check=True)
    sizes = [x, torch.randint(-2, 3, (1, 4, 7, 3)).float()] if dynamic else [x]
    for given in sizes:
        expected = network(given).detach().numpy()
        for run in RUNTIMES.values():
            [theirs] = run(rewritten, **{rewritten.graph.input[0].name: given.numpy()})
            oracle.assert_same(theirs, expected)
