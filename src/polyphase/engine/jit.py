"""From IR to a callable address: verify, compile, cache, link. Only this file binds to LLVM.

Machine code is cached on disk under a digest of all that it depends on. A cached file holds its own
digest, is written in one step, and must belong to this user; what does not pass is compiled anew.
"""

import ctypes
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from polyphase.engine.collector import paused
from polyphase.engine.target import Target
from polyphase.engine.threads import undivided

_DIGEST = 32


@cache
def host() -> tuple[str, str, dict[str, bool]]:
    """Triple, processor name and features of this machine."""
    return llvm.get_default_triple(), llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def _machine(target: Target) -> Any:
    if target.triple == llvm.get_default_triple():
        _initialize()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def emit(ir_text: str, target: Target) -> bytes:
    """Machine code (an object file) of a verified module."""
    with undivided:
        module = llvm.parse_assembly(ir_text)
        module.verify()
        return bytes(_machine(target).emit_object(module))


def assembly(ir_text: str, target: Target) -> str:
    """The same as text, for people and for tests."""
    with undivided:
        return str(_machine(target).emit_assembly(llvm.parse_assembly(ir_text)))


class Code:
    """A linked kernel; the memory lives as long as this object.

    ``call`` runs it with a context address and without the interpreter lock.
    """

    def __init__(self, image: bytes, target: Target) -> None:
        with undivided:
            self._linker = _linker(target)
            builder = llvm.JITLibraryBuilder().add_object_img(image).export_symbol("run")
            self._library = builder.link(self._linker, f"polyphase.{next(_serial)}")
        self.address: int = self._library["run"]
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)


# link names must differ within a process
_serial = count()


@cache
def _linker(target: Target) -> Any:
    _initialize()
    return llvm.create_lljit_compiler(_machine(target))


def load(key: str, target: Target, build: Callable[[], str]) -> Code:
    """The kernel that ``key`` stands for: from the disk cache, else built, compiled and cached.

    ``key`` must determine what ``build`` returns, given this version of the package.
    """
    name = hashlib.sha256(
        "\n".join([key, repr(target), llvmlite.__version__, _source_digest()]).encode()
    ).hexdigest()
    folder = _folder()
    image = _read(folder / name, name) if folder else None
    if image is not None:
        try:
            return Code(image, target)
        except RuntimeError:
            # whole, yet no object that this linker takes: made anew below
            pass
    # a kernel is a graph of objects: making them would set off the collector again and again, which
    # goes through all others of the process, too
    with paused():
        source = build()
    image = emit(source, target)
    if folder:
        _write(folder, name, image)
    return Code(image, target)


@cache
def _source_digest() -> str:
    """Digest of all that emits code, so that another version never reads this one's files."""
    digest = hashlib.sha256()
    for path in _sources():
        # every process does this before it finds its first kernel: no buffer, which takes as long
        with open(path, "rb", buffering=0) as file:
            digest.update(file.readall())
    return digest.hexdigest()


def _sources() -> list[str]:
    """The files that emit code."""
    here = os.path.dirname(__file__)
    kernels = os.path.join(here, "kernels")
    names = sorted(name for name in os.listdir(kernels) if name.endswith(".py"))
    own = [os.path.join(here, name) for name in ("emit.py", "floats.py", "jit.py")]
    return own + [os.path.join(kernels, name) for name in names]


@cache
def _folder() -> Path | None:
    """The cache folder, private to this user; ``None`` where there is none to be had."""
    chosen = os.environ.get("POLYPHASE_CACHE", "")
    if chosen == "0":
        return None
    try:
        folder = Path(chosen) if chosen else _default_folder()
    except RuntimeError as reason:
        # this user has no home
        _warn(str(reason))
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(os.stat(folder))
    except OSError as reason:
        _warn(f"{folder}: {reason}")
        return None
    return folder


def _default_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "polyphase"


def _require_private(found: os.stat_result) -> None:
    """Refuse what another user could have written."""
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        raise PermissionError(f"it belongs to user {found.st_uid}, not to {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError("others may write to it; make it private (chmod 700)")


def _read(path: Path, name: str) -> bytes | None:
    """The machine code in a cache file, if the file is ours and whole."""
    try:
        with open(path, "rb") as file:
            _require_private(os.fstat(file.fileno()))
            content = file.read()
    except OSError:
        return None
    image = content[_DIGEST:]
    return image if content[:_DIGEST] == _seal(name, image) else None


def _seal(name: str, image: bytes) -> bytes:
    return hashlib.sha256(name.encode() + image).digest()


def _write(folder: Path, name: str, image: bytes) -> None:
    """Put a file in place in one step, so that no reader sees half of it."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(_seal(name, image) + image)
        os.replace(temporary, folder / name)
    except OSError as reason:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink()
        _warn(f"{folder}: {reason}")


_warned = False


def _warn(reason: str) -> None:
    """Say once per process that compiled code is not kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels are kept in memory only ({reason}); set POLYPHASE_CACHE to a "
            "private folder, or to 0 to do without",
            RuntimeWarning,
            stacklevel=2,
        )
