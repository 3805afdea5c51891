"""Files of weights, ``.npz`` and ``.safetensors``, from one framework to another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from polyphase.arithmetic.geometry import Geometry
from polyphase.errors import GeometryError, Unsupported
from polyphase.interop import FRAMEWORKS, spread_taps
from polyphase.interop import convert as convert_one

if TYPE_CHECKING:
    from polyphase.interop.exact import Instead

Arrays = dict[str, NDArray[Any]]
SUFFIXES = (".npz", ".safetensors")


def convert(
    source_file: Path,
    target_file: Path,
    source: str,
    target: str,
    geometry: Geometry,
    groups: int = 1,
    only: tuple[str, ...] = (),
    instead: "Instead | None" = None,
) -> list[str]:
    """Write a file with the weights converted and everything else copied; returns their names.

    Converted are the arrays named in ``only``, or else those whose shape fits the kernel. Where
    ``instead`` asks for it, the taps are spread, or each group becomes an array of its own, called
    ``name.0``, ``name.1`` and so on.

    Raises :class:`~polyphase.GeometryError` for files and names that cannot be, and where an array
    may or may not be meant.
    """
    _suffix(target_file)
    arrays = read(source_file)
    names = _chosen(arrays, source, geometry, only)
    result = {name: array for name, array in arrays.items() if name not in names}
    for name in names:
        result |= _converted(name, arrays[name], source, target, geometry, groups, instead)
    write(target_file, result)
    return names


def read(path: Path) -> Arrays:
    """The arrays of a file by their names."""
    suffix = _suffix(path)
    if not path.is_file():
        raise GeometryError(f"there is no file {path}")
    package = _safetensors() if suffix == ".safetensors" else None
    damaged = (package.SafetensorError,) if package else (ValueError, EOFError, BadZipFile)
    try:
        if package:
            return dict(package.numpy.load_file(path))
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, *damaged) as error:
        raise GeometryError(f"{path} cannot be read: {error}") from None


def write(path: Path, arrays: Arrays) -> None:
    """A file with these arrays."""
    if _suffix(path) == ".safetensors":
        _safetensors().numpy.save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path
        )
    else:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def _chosen(arrays: Arrays, source: str, geometry: Geometry, only: tuple[str, ...]) -> list[str]:
    missing = [name for name in only if name not in arrays]
    if missing:
        raise GeometryError(f"there is no array {missing[0]}; there are {', '.join(arrays)}")
    if only:
        return list(only)
    fitting = [name for name, array in arrays.items() if _fits(array, source, geometry)]
    unclear = [name for name, a in arrays.items() if a.ndim > 2 and name not in fitting]
    if unclear or not fitting:
        raise GeometryError(
            f"which arrays are weights of this kernel is not clear: fitting are "
            f"{', '.join(fitting) or 'none'}, others are {', '.join(unclear) or 'none'}; "
            "name them with --only"
        )
    return fitting


def _fits(array: NDArray[Any], source: str, geometry: Geometry) -> bool:
    convention = FRAMEWORKS[source].CONVENTION
    extra = array.ndim - geometry.rank - 2
    if extra not in ((0, 1) if convention.group_axis else (0,)):
        return False
    spatial = convention.layout.permutation(geometry.rank)[2:]
    kernel = tuple(axis.kernel_size for axis in geometry.axes)
    return tuple(array.shape[at + extra] for at in spatial) == kernel


def _converted(
    name: str,
    array: NDArray[Any],
    source: str,
    target: str,
    geometry: Geometry,
    groups: int,
    instead: "Instead | None",
) -> Arrays:
    if instead is None or not (instead.spread_taps or instead.per_group):
        return {name: convert_one(array, source=source, target=target, groups=groups)}
    ordered = convert_one(array, source=source, target="torch", groups=groups)
    if instead.spread_taps:
        ordered = spread_taps(ordered, geometry.dilation)
    if not instead.per_group:
        return {name: convert_one(ordered, source="torch", target=target, groups=groups)}
    return {
        f"{name}.{at}": convert_one(part, source="torch", target=target)
        for at, part in enumerate(np.split(ordered, groups))
    }


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise GeometryError(f"{path} is neither a .npz nor a .safetensors file")
    return path.suffix


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise Unsupported(
            "these files need safetensors; install it with: pip install 'polyphase[safetensors]'"
        ) from None
    return safetensors
