"""The floors of the house: a file imports from its own floor or from one below, lazily or not.

cli -> tools, interop, models -> nn, acceleration -> functional -> engine || gpu -> arithmetic
    -> errors
"""

import ast
import sys
import tomllib
from collections.abc import Iterator

import pytest
import repository

FLOORS = (
    ("errors",),
    ("arithmetic",),
    ("engine", "gpu"),
    ("functional",),
    ("nn", "acceleration"),
    ("tools", "interop", "models"),
    ("cli", "__main__", "polyphase"),
)
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
STRANGERS = {frozenset({"engine", "gpu"})}

# a package that has one door is imported by these modules only
DOORS = {
    "click": (
        "polyphase.cli",
        "polyphase.tools.arguments",
        "polyphase.tools.check.command",
        "polyphase.tools.convert",
    ),
    "llvmlite": ("polyphase.engine",),
    "llvmlite.binding": ("polyphase.engine.jit",),
    "triton": ("polyphase.gpu",),
}
DISTRIBUTIONS = {"skimage": "scikit-image"}


def room(module: str) -> str:
    """The first name below the package: a floor has one or more rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """Every module that a file imports, wherever in the file, with its syntax node."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from a import b` may mean the module a.b, so b counts
            yield from ((f"{base}.{alias.name}", node) for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and getattr(node.func, "id", getattr(node.func, "attr", ""))
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value), node


def complaints(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one file of the package."""
    found = []
    own = room(module)
    if own not in HEIGHT:
        return [f"{module}: polyphase.{own} is on no floor; add it to FLOORS"]
    for name, node in imports(source, module, is_package):
        target = room(name)
        where = f"{module}, line {getattr(node, 'lineno', 0)}"
        if name.split(".")[0] != "polyphase":
            found += [
                f"{where}: {door} is imported in {' and '.join(owners)} only"
                for door, owners in DOORS.items()
                if f"{name}.".startswith(f"{door}.")
                and not any(f"{module}.".startswith(f"{owner}.") for owner in owners)
            ]
        elif name == "polyphase.__version__" or own == "polyphase":
            continue
        elif target not in HEIGHT:
            found.append(f"{where}: import {target} from the module it lives in")
        elif HEIGHT[target] > HEIGHT[own]:
            found.append(f"{where}: {own} must not know {target}, which is above it")
        elif frozenset({own, target}) in STRANGERS:
            found.append(f"{where}: {own} and {target} must not know each other")
    return found


def declared() -> tuple[set[str], set[str]]:
    """The distributions that a plain installation brings, and those of the extras."""
    project = tomllib.loads((repository.ROOT / "pyproject.toml").read_text())["project"]
    plain = project["dependencies"]
    extra = [line for lines in project["optional-dependencies"].values() for line in lines]
    return tuple(
        {line.replace("[", " ").replace(">", " ").replace("=", " ").split()[0] for line in lines}
        for lines in (plain, extra)
    )


@pytest.mark.parametrize("path", repository.source_files(), ids=repository.relative)
def test_imports_point_down(path):
    is_package = path.name == "__init__.py"
    assert complaints(path.read_text(), repository.module_name(path), is_package) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("polyphase.arithmetic.axis", "from polyphase.engine import reference"),
        ("polyphase.arithmetic.axis", "def late():\n    import polyphase.cli"),
        ("polyphase.arithmetic.axis", "from polyphase import Geometry"),
        ("polyphase.arithmetic.axis", "import polyphase"),
        ("polyphase.arithmetic.axis", "from .. import functional"),
        ("polyphase.arithmetic.axis", "from ..engine.reference import conv"),
        ("polyphase.errors", "from polyphase.arithmetic import axis"),
        ("polyphase.engine.plan", "import polyphase.gpu.launch"),
        ("polyphase.gpu.launch", "import_module('polyphase.engine.plan')"),
        ("polyphase.functional", "import importlib\nimportlib.import_module('polyphase.nn')"),
        ("polyphase.engine.run", "import llvmlite.binding"),
        ("polyphase.engine.run", "from llvmlite import binding"),
        ("polyphase.tools.explain", "import click"),
        ("polyphase.attic", "import polyphase.errors"),
    ],
)
def test_a_wrong_import_is_noticed(module, line):
    assert len(complaints(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("polyphase.cli", "from polyphase.tools import explain"),
        ("polyphase.tools.demo", "from polyphase.models.unet import UNet"),
        ("polyphase.engine.jit", "from llvmlite import binding\nfrom polyphase import __version__"),
        ("polyphase.engine.emit", "from llvmlite import ir"),
        ("polyphase.arithmetic.phases", "from .axis import Axis\nfrom ..errors import Unsupported"),
        ("polyphase.arithmetic.phases", "from polyphase.arithmetic.axis import Axis"),
    ],
)
def test_a_right_import_is_left_alone(module, line):
    assert complaints(line, module) == []


@pytest.mark.parametrize("path", repository.source_files(), ids=repository.relative)
def test_arithmetic_and_errors_use_the_standard_library_only(path):
    module = repository.module_name(path)
    foreign = third_party(path.read_text(), module)
    if room(module) in ("errors", "arithmetic", "polyphase"):
        assert foreign == set()
    plain, extra = declared()
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= plain | extra


def third_party(source: str, module: str) -> set[str]:
    """First names of the packages that a file imports from outside."""
    names = {name.split(".")[0] for name, _ in imports(source, module)}
    return names - set(sys.stdlib_module_names) - {"polyphase"}
