"""Transposed convolution that is right, fast and clear.

The public names are loaded when first used: importing polyphase imports neither torch nor llvmlite.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyphase import functional, interop, nn
    from polyphase.acceleration import accelerate, enabled, restore
    from polyphase.arithmetic.geometry import Geometry
    from polyphase.arithmetic.network import Network
    from polyphase.arithmetic.phases import Phase
    from polyphase.arithmetic.problem import Problem
    from polyphase.arithmetic.solve import inverse_of, solve
    from polyphase.engine.plan import plan
    from polyphase.engine.threads import get_num_threads, set_num_threads
    from polyphase.errors import GeometryError, OutputSizeError, PolyphaseError, Unsupported

__version__ = "0.1.0"

# where each public name lives; a module stands for itself
_HOMES = {
    "Geometry": "polyphase.arithmetic.geometry",
    "GeometryError": "polyphase.errors",
    "Network": "polyphase.arithmetic.network",
    "OutputSizeError": "polyphase.errors",
    "Phase": "polyphase.arithmetic.phases",
    "PolyphaseError": "polyphase.errors",
    "Problem": "polyphase.arithmetic.problem",
    "Unsupported": "polyphase.errors",
    "accelerate": "polyphase.acceleration",
    "enabled": "polyphase.acceleration",
    "functional": "polyphase.functional",
    "get_num_threads": "polyphase.engine.threads",
    "interop": "polyphase.interop",
    "inverse_of": "polyphase.arithmetic.solve",
    "nn": "polyphase.nn",
    "plan": "polyphase.engine.plan",
    "restore": "polyphase.acceleration",
    "set_num_threads": "polyphase.engine.threads",
    "solve": "polyphase.arithmetic.solve",
}

__all__ = [
    "Geometry",
    "GeometryError",
    "Network",
    "OutputSizeError",
    "Phase",
    "PolyphaseError",
    "Problem",
    "Unsupported",
    "accelerate",
    "enabled",
    "functional",
    "get_num_threads",
    "interop",
    "inverse_of",
    "nn",
    "plan",
    "restore",
    "set_num_threads",
    "solve",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'polyphase' has no attribute {name!r}")
    module = import_module(home)
    value = module if home == f"polyphase.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
