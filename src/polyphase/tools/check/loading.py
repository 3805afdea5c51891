"""What MODEL means on the command line, and how it is loaded without running strange code."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    is_trusted: bool = False


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
    elif path.is_dir():
        raise CheckError(
            f"{text} is a folder: name the file in it and what builds the model, as file.py:name"
        )
    elif suffix == ".py":
        names = _callables(_file(path))
        raise CheckError(
            f"{text} may hold several models: name one, as in {text}:{(names or ['name'])[0]}; the "
            f"file has {_listed(names)}"
        )
    else:
        raise CheckError(
            f"cannot tell what {text!r} is{_meant(text, ARCHITECTURES)}: give package.module:name, "
            f"file.py:name, a .pt2 or .onnx file, or one of {', '.join(ARCHITECTURES)}"
        )
    if not subject.is_onnx and _is_lazy(subject.model):
        raise CheckError(
            f"{text} has lazy layers, whose channels are not known yet: run it once, on zeros, in "
            "the function that builds it"
        )
    chosen = inputs or subject.inputs
    if not chosen:
        raise CheckError(f"{text} does not tell what it takes: give --input, as in 1,3,256,256")
    return replace(subject, inputs=chosen, is_trusted=trust)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise CheckError(f"there is no file {str(path)!r}: give the path from {os.getcwd()!r}")
    return path


def _callables(path: Path) -> list[str]:
    """Names of the classes and functions of a file, which is not run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise CheckError(f"{path.name} is no Python ({error}): mend that first") from None
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [one.name for one in tree.body if isinstance(one, kinds) and one.name[0] != "_"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing to call"


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _builtin(name: str) -> Subject:
    _need_torch()
    found = ARCHITECTURES[name]
    inputs = tuple((shape, "float32") for shape in found.input_shapes)
    with _same_weights():
        model = found.build()
    return Subject(name, f"{found.title} ({found.source})", model, inputs)


@contextmanager
def _same_weights() -> Iterator[None]:
    """The same random weights every time, so that a report can be repeated."""
    torch = importlib.import_module("torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _built(text: str, home: str, name: str) -> Subject:
    _need_torch()
    from torch import nn

    from polyphase.tools.check.torch_walk import built

    with _same_weights():
        module = _module(text, home)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            # what the module imports is not what it offers
            names = [
                n
                for n, v in vars(module).items()
                if callable(v) and n[0] != "_" and getattr(v, "__module__", "") == module.__name__
            ]
            raise CheckError(
                f"{home} has no {name!r}{_meant(name, names)}; it has {_listed(names)}: name one "
                "of them"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return Subject(text, text, found, ())
    if not callable(found):
        raise CheckError(f"{text} is of type {type(found).__name__}: name a class or a function")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise CheckError(
            f"{text} cannot be built without arguments ({error}): write a function "
            "that builds it, in a file of your own, and name that as file.py:function"
        ) from None
    except ValueError:
        # what is written in C may have no signature
        pass
    try:
        with _same_weights():
            model, real = built(found, WEIGHT_BYTES)
    except Exception as error:
        raise CheckError(
            f"{text}() raised {_told(error)}: mend that first, so that "
            f"`{name}()` gives a torch.nn.Module"
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
            f"cannot import {home} ({_told(error)}): make `python -c 'import ...'` work in this "
            "folder first"
        ) from None


def _is_lazy(model: Any) -> bool:
    from torch.nn.parameter import is_lazy

    return any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))


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
        # as for modules, what lies in this folder can be imported
        sys.path.insert(0, os.getcwd())
        model = torch.load(str(path), map_location="cpu", weights_only=False)
    except Exception as error:
        raise CheckError(
            f"cannot read {path.name} ({_first_line(error)}): run this where the code of the model "
            "can be imported, or name the code that builds it as file.py:function and load the "
            "weights there"
        ) from None
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


def own_line(error: Exception) -> str:
    """The last line of the user's own code on the way to an error, "" where there is none."""
    packages = [Path(__file__).parents[2], Path(importlib.__file__).parent]
    spec = importlib.util.find_spec("torch")
    packages += [Path(spec.origin).parent] if spec and spec.origin else []
    lines = [
        f"{path.name} line {number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if (path := Path(frame.f_code.co_filename)).suffix == ".py"
        and not any(path.is_relative_to(package) for package in packages)
    ]
    return lines[-1] if lines else ""


def _told(error: Exception) -> str:
    line = own_line(error)
    return f"{_first_line(error)}, {line}" if line else _first_line(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
