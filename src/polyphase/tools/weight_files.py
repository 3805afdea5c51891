"""Files of weights, ``.npz`` and ``.safetensors``, from one framework to another."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from polyphase.errors import GeometryError, Unsupported
from polyphase.interop import FRAMEWORKS, spread_taps
from polyphase.interop import convert as convert_one

if TYPE_CHECKING:
    from polyphase.interop import Instead, Meaning

Arrays = dict[str, NDArray[Any]]
SUFFIXES = (".npz", ".safetensors")
# of safetensors, as NumPy writes them
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "C64": "<c8",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


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
    """The arrays of a file by their names.

    What NumPy has no dtype for, such as bfloat16, comes as a structured dtype of one field, which
    has the name of the real one, so that axes can be moved and zeros put in between.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise GeometryError(f"there is no file {path}")
    package = _safetensors() if suffix == ".safetensors" else None
    damaged = (package.SafetensorError,) if package else (ValueError, EOFError, BadZipFile)
    try:
        if package:
            found = package.deserialize(path.read_bytes())
            return {name: _array(path, name, **told) for name, told in found}
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, *damaged) as error:
        raise GeometryError(f"{path} cannot be read: {error}") from None


def write(path: Path, arrays: Arrays) -> None:
    """A file with these arrays."""
    if _suffix(path) == ".safetensors":
        _write_safetensors(path, arrays)
        return
    for name, array in arrays.items():
        if array.dtype.names:
            raise Unsupported(
                f"{name} is {array.dtype.names[0]}, for which .npz files have no dtype: write a "
                ".safetensors file"
            )
    # numpy.savez takes arrays as keywords, so that none could be called "file"
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _array(path: Path, name: str, dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    if dtype in DTYPES:
        return np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    count = int(np.prod(shape))
    width = len(data) // count if count else 1
    if width * count != len(data):
        raise Unsupported(f"{name} in {path} is {dtype}, whose values are no whole bytes")
    return np.frombuffer(data, [(dtype, f"<u{width}")]).reshape(shape)


def _write_safetensors(path: Path, arrays: Arrays) -> None:
    """The format by hand, because the package does not write what NumPy has no dtype for."""
    little = {
        name: array.astype(array.dtype.newbyteorder("<"), copy=False)
        for name, array in arrays.items()
    }
    known = {np.dtype(code): dtype for dtype, code in DTYPES.items()}
    header, at = {}, 0
    # wide values first, so that all are aligned
    ordered = sorted(little.items(), key=lambda item: -item[1].itemsize)
    for name, array in ordered:
        dtype = array.dtype.names[0] if array.dtype.names else known.get(array.dtype)
        if dtype is None:
            raise Unsupported(
                f"{name} is {array.dtype}, for which .safetensors files have no dtype: write a "
                ".npz file"
            )
        offsets = [at, at + array.nbytes]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        at += array.nbytes
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as file:
        file.write(len(told).to_bytes(8, "little") + told)
        for _, array in ordered:
            file.write(array.tobytes())


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
        import safetensors
    except ImportError:
        raise Unsupported(
            "these files need safetensors; install it with: pip install 'polyphase[safetensors]'"
        ) from None
    return safetensors
