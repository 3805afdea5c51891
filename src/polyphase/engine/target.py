"""What code is generated for: this processor, or a lower target that ``POLYPHASE_TARGET`` names."""

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from polyphase.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster of processors that share vector width and number of vector registers.

    ``halves`` says whether it has instructions that convert float16, ``pairs`` whether it has one
    that multiplies two bfloat16 in each lane and adds both products. ``fmas`` is how many vector
    multiply-adds it begins in a cycle.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    halves: bool
    fmas: int = 2
    pairs: bool = False

    def lanes(self, dtype: str) -> int:
        """Accumulator elements in a vector: float64 is summed as such, the others as float32."""
        return self.vector_bytes // (8 if dtype == "f64" else 4)

    def together(self, dtype: str) -> int:
        """Products that a lane adds to its sum in one instruction."""
        return 2 if self.pairs and dtype == "bf16" else 1


# from best to plainest; what the processor must report for each
_X86 = (
    ("avx512", "x86-64-v4", 64, 32, True, ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")),
    ("avx2", "x86-64-v3", 32, 16, True, ("avx2", "fma", "f16c", "bmi2")),
    ("sse2", "x86-64", 16, 16, False, ()),
)
# processors that take two cycles for a multiply-add of 64 bytes, or have one unit for it
_HALF_RATE = {"znver4", "icelake-client", "tigerlake", "rocketlake", "cannonlake"}
NEON = Target("neon", "aarch64-unknown-linux-gnu", "generic", "+neon", 16, 32, True)


def available() -> tuple[Target, ...]:
    """Every target that this machine can execute, best first.

    >>> available()[-1].vector_bytes
    16
    """
    from polyphase.engine.jit import host

    triple, cpu, features = host()
    if triple.startswith(("aarch64", "arm64")):
        return (replace(NEON, triple=triple, cpu=cpu),)
    if not triple.startswith("x86_64"):
        return (Target("portable", triple, cpu, "", 16, 16, False),)
    found = []
    for name, generic, width, registers, halves, needs in _X86:
        if all(features.get(need) for need in needs):
            chosen, flags = generic, ""
            if name == "avx512":
                # a virtual machine may lack what its processor is known for, and llvm halves the
                # vectors of some processors unless told not to
                chosen = cpu
                flags = ",".join(f"{'-+'[has]}{flag}" for flag, has in sorted(features.items()))
                flags += ",-prefer-256-bit"
            fmas = 1 if name == "avx512" and cpu in _HALF_RATE else 2
            pairs = name == "avx512" and features.get("avx512bf16", False)
            found.append(Target(name, triple, chosen, flags, width, registers, halves, fmas, pairs))
    return tuple(found)


@cache
def current() -> Target:
    """The target in use: the best one, or the one that ``POLYPHASE_TARGET`` names."""
    targets = available()
    wanted = os.environ.get("POLYPHASE_TARGET", "")
    for target in targets:
        if wanted in ("", target.name):
            return target
    names = ", ".join(target.name for target in targets)
    raise Unsupported(f"POLYPHASE_TARGET={wanted!r} cannot run on this machine; it offers {names}")


@cache
def cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cache_bytes() -> int:
    """Size of a core's second-level cache; a common one where the system does not say."""
    # the first two are those of instructions and of data of the first level, where both are there
    for number in (2, 1, 3, 0):
        folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{number}")
        try:
            level = (folder / "level").read_text().strip()
            size = (folder / "size").read_text().strip()
        except OSError:
            continue
        if level == "2" and size.endswith("K") and size[:-1].isdigit():
            return int(size[:-1]) << 10
    return 512 << 10
