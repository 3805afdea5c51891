"""Running shapes through a torch model without computing: fake tensors, and a mode that watches."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from polyphase.arithmetic.geometry import Geometry
from polyphase.arithmetic.problem import Problem
from polyphase.errors import PolyphaseError
from polyphase.tools.check.loading import CheckError
from polyphase.tools.check.torch_complex import ComplexAsOne
from polyphase.tools.check.torch_names import Names, following
from polyphase.tools.check.walk import Journal, Shape, Walk

DTYPES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
    torch.complex64: "c64",
    torch.complex128: "c128",
}
JOINS = {"cat", "add", "add_", "sub", "sub_", "mul", "mul_", "div", "maximum", "minimum", "where"}
NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
# the second is what torch.jit.trace writes down
CONVOLUTIONS = {"aten::convolution", "aten::_convolution"}
CROPS = {"slice", "narrow"}
QUANTISED = {f"quantized::conv_transpose{n}d{how}" for n in (1, 2, 3) for how in ("", "_dynamic")}
DATA = (DataDependentOutputException, DynamicOutputShapeException)


def walk(
    model: Callable[..., Any],
    inputs: Sequence[tuple[Shape, str]],
    *,
    compute: bool = False,
    mend: bool = True,
) -> Walk:
    """What the model does with inputs of these shapes and dtypes.

    Nothing is computed unless ``compute`` is true, which models need whose shapes depend on values.
    ``mend`` lengthens a layer's result that does not fit what it meets, so that the walk goes on.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 2, stride=2))
    >>> seen = walk(net, [((1, 1, 8, 8), "float32")])
    >>> seen.outputs, seen.layers[0].name, str(seen.layers[0].problem.geometry)
    (((1, 2, 12, 12),), '1', 'Geometry(kernel_size=(2, 2), stride=(2, 2))')
    """
    journal = Journal(tuple(shape for shape, _ in inputs))
    seen = journal.walk
    with ExitStack() as stack:
        if compute:
            # the same numbers every time
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(0)
        else:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_without_mkldnn())
        stack.enter_context(_without_logs())
        tensors = [_empty(shape, dtype) for shape, dtype in inputs]
        names = stack.enter_context(following(model))
        stack.enter_context(ComplexAsOne())
        watcher = stack.enter_context(_Watcher(journal, names, mend))
        try:
            made = model(*tensors)
        except DATA as error:
            seen.stopped, seen.stopped_by = _told(error, names), "data"
        except Exception as error:
            # whatever the model raises, what was seen before is worth showing
            seen.stopped, seen.stopped_by = _told(error, names), _blame(watcher, error)
        else:
            seen.outputs = tuple(tuple(t.shape) for t in _tensors(made))
    seen.multiply_adds = watcher.operations // 2
    return seen


def built(make: Callable[[], Any], limit: int) -> tuple[nn.Module, bool]:
    """The module that ``make`` builds, and whether its weights are real.

    It is first built of fake tensors; one of more than ``limit`` bytes stays so.

    >>> net, is_real = built(lambda: nn.Linear(10**6, 10**6), limit=10**9)
    >>> is_real, tuple(net.weight.shape)
    (False, (1000000, 1000000))
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            fake = make()
        size = sum(p.numel() * p.element_size() for p in fake.parameters())
    except Exception:
        # some code that builds cannot do without values
        return make(), True
    return (fake, False) if size > limit else (make(), True)


class QuantisedError(NotImplementedError):
    """A layer whose weights are packed integers, which is not looked into."""


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes every operation into the journal."""

    def __init__(self, journal: Journal, names: Names, mend: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self._calls = 0
        self.seen = journal.walk
        self._journal = journal
        self._names = names
        self._mend = mend
        self._keys: dict[int, int] = {}
        # an id means something only as long as its tensor lives
        self._alive: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.name in QUANTISED:
            raise QuantisedError(f"{func._schema.name} is quantised")
        name = func._schema.name.partition("::")[2]
        read = list(_tensors((args, kwargs)))
        keys = [self._key(t) for t in read]
        if name in JOINS:
            args = self._joined(name, read, keys, args)
            keys = [self._key(t) for t in _tensors((args, kwargs))]
        is_layer = is_transposed(func, args)
        if func._schema.name in CONVOLUTIONS:
            _same_dtype(args[0], args[1])
        try:
            if is_layer:
                self._announce(*meant(func, args))
            made = func(*args, **kwargs)
        except Exception:
            if is_layer:
                self.seen.stopped_at = self._names.of(args[1])[0]
                del self.seen.layers[self._calls :]
            raise
        if is_layer:
            self._calls += 1
            made = self._as_asked(made)
        outputs = [self._new(t) for t in _tensors(made)]
        kind, change = _kind(name, args, self.seen.shapes, keys, outputs)
        if kind != "conv_transpose" and func._overloadpacket in flop_registry:
            self.operations += _flops(func, args, kwargs, made)
        # questions about a tensor make nothing
        if outputs:
            self._journal.step(kind, keys, outputs, change)
        return made

    def _announce(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int
    ) -> None:
        rank = geometry.rank
        problem = Problem(
            geometry,
            tuple(x.shape[-rank:]),
            x.shape[-rank - 1],
            weight.shape[1] * groups,
            batch=x.shape[0] if x.dim() == rank + 2 else 1,
            groups=groups,
            dtype=DTYPES.get(x.dtype, "f32"),
        )
        name, read = self._names.of(weight)
        calls = sum(layer.name.partition(" call ")[0] == name for layer in self.seen.layers)
        name += f" call {calls + 1}" if calls else ""
        asked, self._names.asked = self._names.asked, ()
        self._journal.layer(name, problem, bias is not None, read, asked=asked)

    def _as_asked(self, made: Tensor) -> Tensor:
        """The result in the size that the call asked for, also where the layer cannot make it."""
        asked = self.seen.layers[-1].asked
        if not self._mend or not asked or tuple(made.shape[-len(asked) :]) == asked:
            return made
        return made.new_zeros((*made.shape[: -len(asked)], *asked))

    def _joined(
        self, name: str, read: list[Tensor], keys: list[int], args: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        if name == "cat":
            # joined along a spatial axis, sizes differ on purpose
            dim = args[1] if len(args) > 1 else 0
            if dim % max(read[0].dim(), 1) > 1:
                return args
        misfits = self._journal.meet(keys, name)
        if not misfits or not self._mend:
            return args
        others = [t for t, key in zip(read, keys, strict=True) if key not in misfits]
        target = max((tuple(t.shape[2:]) for t in others if t.dim() == read[0].dim()), default=())
        swapped = {
            id(t): t.new_empty((*t.shape[:2], *target))
            for t, key in zip(read, keys, strict=True)
            if key in misfits
        }
        for old, new in swapped.items():
            self._keys[id(new)] = self._keys[old]
        return tuple(_swap(arg, swapped) for arg in args)

    def _key(self, tensor: Tensor) -> int:
        if id(tensor) not in self._keys:
            self._new(tensor)
        return self._keys[id(tensor)]

    def _new(self, tensor: Tensor) -> int:
        self._alive.append(tensor)
        key = self._journal.value(tensor.shape)
        self._keys[id(tensor)] = key
        return key


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    """Its operations for whole recurrent layers hide their arithmetic."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextmanager
def _without_logs() -> Iterator[None]:
    """PyTorch writes a traceback for each operation that refuses fake tensors; we tell it once."""
    found = logging.root.manager.loggerDict
    loggers = [found[name] for name in list(found) if name.partition(".")[0] == "torch"]
    before = [(log, log.disabled) for log in loggers if isinstance(log, logging.Logger)]
    for log, _ in before:
        log.disabled = True
    try:
        with warnings.catch_warnings():
            # what a model warns of when it runs would be said again at every size
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, was in before:
            log.disabled = was


def is_transposed(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether it is PyTorch's operator, or polyphase's."""
    name = func._schema.name
    return name == "polyphase::conv_transpose" or bool(name in CONVOLUTIONS and args[6])


def meant(func: Any, args: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor | None, Geometry, int]:
    """Input, weight, bias, geometry and groups of a call."""
    if func._schema.name in CONVOLUTIONS:
        x, weight, bias, stride, padding, dilation, _, output_padding, groups = args[:9]
        pads = tuple(padding)
    else:
        x, weight, bias, stride, begin, end, output_padding, dilation, groups = args
        pads = tuple(zip(begin, end, strict=True))
    geometry = Geometry(
        tuple(weight.shape[2:]),
        tuple(stride),
        padding=pads,
        output_padding=tuple(output_padding),
        dilation=tuple(dilation),
    )
    return x, weight, bias, geometry, groups


def _kind(
    name: str,
    args: tuple[Any, ...],
    shapes: dict[int, Shape],
    read: list[int],
    made: list[int],
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The kind of an operation, and what a crop or a pad does to each spatial axis."""
    if name == "conv_transpose" or (name in ("convolution", "_convolution") and args[6]):
        return "conv_transpose", ()
    if name in ("convolution", "_convolution", "conv"):
        return "conv", ()
    if name in NORMS:
        # in training mode the statistics are those of the batch
        return ("norm" if name != "native_batch_norm" or not args[5] else "other"), ()
    before = shapes[read[0]] if read else ()
    after = shapes[made[0]] if made else ()
    if name in JOINS and len(read) > 1:
        return "join", ()
    if len(before) != len(after) or len(before) < 3 or before[:2] != after[:2]:
        return "other", ()
    if name in CROPS and isinstance(args[0], Tensor):
        dim = (args[1] if len(args) > 1 else 0) % len(before)
        start = (args[2] if len(args) > 2 else 0) or 0
        start = min(max(start + before[dim] if start < 0 else start, 0), before[dim])
        step = args[4] if len(args) > 4 else 1
        if dim < 2 or step != 1:
            return "other", ()
        cut = [(0, 0)] * (len(before) - 2)
        cut[dim - 2] = (-start, after[dim] - before[dim] + start)
        return "crop", tuple(cut)
    if "pad" in name and len(args) > 1 and isinstance(args[1], list | tuple):
        flat = [int(n) for n in args[1]]
        pairs = list(zip(flat[::2], flat[1::2], strict=False))[::-1]
        change = ((0, 0),) * (len(before) - 2 - len(pairs)) + tuple(pairs)
        return ("crop" if any(n < 0 for n in flat) else "pad"), change
    if "upsample" in name or "interpolate" in name:
        return "resize", ()
    return ("pointwise" if before == after else "other"), ()


def _same_dtype(x: Tensor, weight: Tensor) -> None:
    """PyTorch computes nothing of mixed dtypes, but lets shapes through."""
    if x.dtype != weight.dtype:
        raise TypeError(f"the input is {x.dtype} and the weights are {weight.dtype}")


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> int:
    try:
        return int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=made))
    except Exception:
        # the table does not know every form of a call
        return 0


def _blame(watcher: _Watcher, error: Exception) -> str:
    if isinstance(error, QuantisedError):
        return "quantised"
    if isinstance(error, PolyphaseError):
        return "model"
    # nothing ran, or only what reads the inputs
    return "model" if len(watcher.seen.steps) > 1 else "inputs"


def _empty(shape: Shape, dtype: str) -> Tensor:
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise CheckError(f"dtype must be a name of torch such as float32 or int64, got {dtype!r}")
    if kind.is_floating_point or kind.is_complex:
        return torch.randn(shape, dtype=kind)
    return torch.zeros(shape, dtype=kind)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _swap(arg: Any, swapped: dict[int, Tensor]) -> Any:
    if isinstance(arg, list | tuple):
        return type(arg)(_swap(inner, swapped) for inner in arg)
    return swapped.get(id(arg), arg)


def _told(error: Exception, names: Names) -> str:
    """The first line of an error, and where it was raised."""
    text = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__
    place = names.place(error)
    return f"{told}, {place}" if place else told
