"""What MODEL means on the command line, and how it is loaded without running strange code."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from polyphase.errors import PolyphaseError
from polyphase.models import ARCHITECTURES
from polyphase.tools.check.walk import Shape

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
# a model of more than this is not given real weights
WEIGHT_BYTES = 4 << 30
ONNX_BYTES = 2 << 30
Input = tuple[Shape, str]


class CheckError(PolyphaseError, RuntimeError):
    """The model could not be checked; the message says what to do.

    >>> issubclass(CheckError, PolyphaseError)
    True
    """


@dataclass(frozen=True)
class Subject:
    """A loaded model: ``model`` is a callable of tensors, or an ONNX model where ``is_onnx``."""

    name: str
    title: str
    model: Any
    inputs: tuple[Input, ...]
    is_onnx: bool = False
    has_weights: bool = True
    make: Callable[[], Any] | None = None


def read_input(text: str) -> Input:
    """A shape, and the dtype behind a colon.

    >>> read_input("1,3,64,64"), read_input("1x77:int64")
    (((1, 3, 64, 64), 'float32'), ((1, 77), 'int64'))
    """
    shape, _, dtype = text.partition(":")
    words = re.split(r"[,x]", shape.strip())
    try:
        sizes = tuple(int(word) for word in words)
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise CheckError(
            f"an input is a shape of whole numbers from 1 on, such as 1,3,256,256 or 1,77:int64; "
            f"got {text!r}"
        )
    return sizes, dtype or "float32"


def load(text: str, inputs: tuple[Input, ...], trust: bool = False) -> Subject:
    """The model that ``text`` names; ``inputs`` replace those that it brings itself.

    >>> load("fsrcnn", ()).inputs
    (((1, 1, 85, 85), 'float32'),)

    Raises :class:`CheckError` with the next step where that is not possible.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if text in ARCHITECTURES:
        subject = _builtin(text)
    elif suffix == ".onnx":
        subject = _onnx(_file(path))
    elif suffix == ".pt2":
        subject = _exported(_file(path), trust)
    elif suffix in PICKLES:
        subject = _pickled(_file(path), trust)
    elif ":" in text:
        subject = _built(text, *text.rsplit(":", 1))
    else:
        raise CheckError(
            f"cannot tell what {text!r} is: give package.module:name, file.py:name, a .pt2 or "
            f".onnx file, or one of {', '.join(ARCHITECTURES)}"
        )
    chosen = inputs or subject.inputs
    if not chosen:
        raise CheckError(f"{text} does not tell what it takes: give --input, as in 1,3,256,256")
    return Subject(**{**vars(subject), "inputs": chosen})


def _file(path: Path) -> Path:
    if not path.is_file():
        raise CheckError(f"there is no file {str(path)!r}: give the path from {os.getcwd()!r}")
    return path


def _builtin(name: str) -> Subject:
    _need_torch()
    found = ARCHITECTURES[name]
    inputs = tuple((shape, "float32") for shape in found.input_shapes)
    torch = importlib.import_module("torch")
    # the same weights every time, so that a report can be repeated
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = found.build()
    return Subject(name, f"{found.title} ({found.source})", model, inputs)


def _built(text: str, home: str, name: str) -> Subject:
    _need_torch()
    from torch import nn

    from polyphase.tools.check.torch_walk import built

    module = _module(text, home)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise CheckError(
                f"{home} has no {name!r}; it has {', '.join(names[:12]) or 'nothing to call'}"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return Subject(text, text, found, ())
    if not callable(found):
        raise CheckError(f"{text} is of type {type(found).__name__}: name a class or a function")
    try:
        model, real = built(found, WEIGHT_BYTES)
    except Exception as error:
        raise CheckError(
            f"{text} cannot be built without arguments ({_first_line(error)}): write a function "
            "that builds it, in a file of your own, and name that as file.py:function"
        ) from None
    if not isinstance(model, nn.Module):
        raise CheckError(f"{text}() gives {type(model).__name__}: it must give a torch.nn.Module")
    return Subject(text, text, model, (), has_weights=real)


def _module(text: str, home: str) -> ModuleType:
    try:
        if home.endswith(".py"):
            path = _file(Path(home))
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            # what lies beside the file can be imported, as when Python runs it
            sys.path.insert(0, str(path.parent.resolve()))
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, os.getcwd())
        return importlib.import_module(home)
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(
            f"cannot import {home} ({_first_line(error)}): make `python -c 'import ...'` work in "
            "this folder first"
        ) from None


def _exported(path: Path, trust: bool) -> Subject:
    _need_torch()
    torch = importlib.import_module("torch")
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    if not trust:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise CheckError(
            f"cannot read {path.name} ({_first_line(error)}): write it anew with "
            "torch.export.save, with the version of torch that is installed here; --trust also "
            "allows pickles that run code"
        ) from None
    finally:
        if not trust:
            os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)
            if before is not None:
                os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
    inputs = []
    user = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in user and isinstance(value, torch.Tensor):
            shape = tuple(n if isinstance(n, int) else (n.node.hint or 2) for n in value.shape)
            inputs.append((tuple(map(int, shape)), str(value.dtype).removeprefix("torch.")))
    return Subject(str(path), path.name, program.module(), tuple(inputs))


def _pickled(path: Path, trust: bool) -> Subject:
    if not trust:
        raise CheckError(
            f"{path.name} is a pickle, and reading one can run any code: export the model with "
            "torch.export.save, name the code that builds it as file.py:function, or, if you trust "
            "the file, give --trust"
        )
    _need_torch()
    torch = importlib.import_module("torch")
    try:
        model = torch.load(str(path), map_location="cpu", weights_only=False)
    except Exception as error:
        raise CheckError(f"cannot read {path.name} ({_first_line(error)})") from None
    if not isinstance(model, torch.nn.Module):
        raise CheckError(
            f"{path.name} holds {type(model).__name__}, no module: name the code that builds the "
            "model as file.py:function and load these weights there"
        )
    return Subject(str(path), path.name, model, ())


def _onnx(path: Path) -> Subject:
    from polyphase.tools.check import onnx_walk

    size = path.stat().st_size
    if size > ONNX_BYTES:
        raise CheckError(
            f"{path.name} has {size / 2**30:.1f} GiB, and a protobuf ends at 2: save the model "
            "with its weights in an external file (onnx.save(..., save_as_external_data=True))"
        )
    model, inputs = onnx_walk.read(path)
    return Subject(str(path), path.name, model, inputs, is_onnx=True)


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise CheckError("checking this needs torch; install: pip install 'polyphase[torch]'")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
