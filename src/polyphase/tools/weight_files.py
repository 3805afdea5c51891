"""Files of weights, ``.npz`` and ``.safetensors``, from one framework to another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from polyphase.errors import GeometryError, Unsupported
from polyphase.interop import FRAMEWORKS, spread_taps
from polyphase.interop import convert as convert_one

if TYPE_CHECKING:
    from polyphase.interop import Instead, Meaning

Arrays = dict[str, NDArray[Any]]
SUFFIXES = (".npz", ".safetensors")


class Converted(NamedTuple):
    """An array of the source file, and the shapes of what it became, by name."""

    name: str
    shape: tuple[int, ...]
    results: dict[str, tuple[int, ...]]


def convert(
    source_file: Path,
    target_file: Path,
    source: str,
    target: str,
    meant: "Meaning",
    groups: int = 1,
    only: tuple[str, ...] = (),
    instead: "Instead | None" = None,
) -> list[Converted]:
    """Write a file with the weights converted and everything else copied; tells what it converted.

    ``meant`` is the call of ``source`` that has these weights. Converted are the arrays named in
    ``only``, or else those whose shape fits the kernel. Where ``instead`` asks for it, the taps are
    spread, or each group becomes an array of its own, called ``name.0``, ``name.1`` and so on.

    Raises :class:`~polyphase.GeometryError` for files, names and shapes that cannot be, and where
    an array may or may not be meant.
    """
    _suffix(target_file)
    arrays = read(source_file)
    kernel = _Kernel(source, meant, groups)
    names = _chosen(arrays, kernel, only)
    result = {name: array for name, array in arrays.items() if name not in names}
    told = []
    for name in names:
        made = _converted(name, kernel.in_torch_order(arrays[name]), target, kernel, instead)
        taken = [new for new in made if new in result]
        if taken:
            raise GeometryError(
                f"{name} would become {taken[0]}, which is in the file: rename one of them"
            )
        result |= made
        shapes = {new: array.shape for new, array in made.items()}
        told.append(Converted(name, arrays[name].shape, shapes))
    write(target_file, result)
    return told


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


class _Kernel(NamedTuple):
    """The weights that a call has."""

    source: str
    meant: "Meaning"
    groups: int

    def fits(self, array: NDArray[Any]) -> bool:
        extra = self._has_group_axis()
        if array.ndim != self.meant.geometry.rank + 2 + extra:
            return False
        spatial = self.meant.permutation[2:]
        kernel = tuple(axis.kernel_size for axis in self.meant.geometry.axes)
        return tuple(array.shape[at + extra] for at in spatial) == kernel

    def in_torch_order(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.groups > 1:
            return convert_one(array, source=self.source, target="torch", groups=self.groups)
        # parameters of the call may say that the axes lie otherwise than by default
        ordered = array.transpose(self.meant.permutation)
        return np.flip(ordered, tuple(range(2, array.ndim))) if self.meant.flip else ordered

    def _has_group_axis(self) -> bool:
        return self.groups > 1 and FRAMEWORKS[self.source].CONVENTION.group_axis


def _chosen(arrays: Arrays, kernel: _Kernel, only: tuple[str, ...]) -> list[str]:
    size = "x".join(str(axis.kernel_size) for axis in kernel.meant.geometry.axes)
    for name in only:
        if name not in arrays:
            raise GeometryError(f"there is no array {name}; there are {', '.join(arrays)}")
        if not kernel.fits(arrays[name]):
            raise GeometryError(
                f"{name} must have a kernel of {size} as {kernel.source} has it, got shape "
                f"{arrays[name].shape}"
            )
    if only:
        return list(only)
    fitting = [name for name, array in arrays.items() if kernel.fits(array)]
    unclear = [name for name, a in arrays.items() if a.ndim > 2 and name not in fitting]
    if unclear or not fitting:
        raise GeometryError(
            f"which arrays are weights with a kernel of {size} is not clear: fitting are "
            f"{', '.join(fitting) or 'none'}, others are {', '.join(unclear) or 'none'}; "
            "name them with --only"
        )
    return fitting


def _converted(
    name: str,
    ordered: NDArray[Any],
    target: str,
    kernel: _Kernel,
    instead: "Instead | None",
) -> Arrays:
    if instead is not None and instead.spread_taps:
        ordered = spread_taps(ordered, kernel.meant.geometry.dilation)
    if instead is None or not instead.per_group:
        return {name: convert_one(ordered, source="torch", target=target, groups=kernel.groups)}
    return {
        f"{name}.{at}": convert_one(part, source="torch", target=target)
        for at, part in enumerate(np.split(ordered, kernel.groups))
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
