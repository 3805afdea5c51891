"""The digest of bytes: what it is, what it sees, and that it reads nothing else."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import kernels
import numpy as np
import pytest
import repository

from polyphase.engine import checksum as module
from polyphase.engine import threads
from polyphase.engine.checksum import CHUNK, FEW, checksum
from polyphase.engine.kernels import checksum as kernel

SIZES = (1, 7, 8, 9, 63, 64, 511, 512, 513, 1024, 5003, CHUNK - 1, CHUNK, CHUNK + 515, 3 * CHUNK)
MASK = 2**64 - 1


@pytest.fixture(params=kernels.TARGETS, ids=lambda target: target.name)
def target(request, monkeypatch):
    monkeypatch.setattr(module, "current", lambda: request.param)
    return request.param


def numbers(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def of(values):
    return checksum(values.ctypes.data, values.nbytes)


def by_definition(data, target):
    """The digest of ``bytes`` in plain Python: a state for each lane, and one for the rest."""
    lanes = kernel.VECTORS * kernel.lanes(target)
    digest = b""
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        width = lanes * kernel.WORD
        states, whole = [0] * (lanes + 1), len(chunk) // width * width
        words = [chunk[i : i + kernel.WORD] for i in range(0, len(chunk) & -8, kernel.WORD)]
        words += [chunk[i : i + 1] for i in range(len(chunk) & -8, len(chunk))]
        for place, word in enumerate(words):
            lane = place % lanes if place < whole // kernel.WORD else lanes
            mixed = (states[lane] + int.from_bytes(word, sys.byteorder)) * kernel.MULTIPLIER & MASK
            states[lane] = mixed ^ mixed >> kernel.SHIFT
        digest += b"".join(state.to_bytes(kernel.WORD, sys.byteorder) for state in states)
    return digest


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_computes_the_definition(size, target, monkeypatch):
    monkeypatch.setattr(module, "FEW", 0)
    # at odd addresses, too
    for offset in (0, 3):
        values = numbers(size + offset)[offset:]
        assert of(values) == by_definition(values.tobytes(), target)


def test_few_bytes_are_their_own_digest():
    for size in (0, 1, FEW):
        values = numbers(size)
        assert of(values) == values.tobytes()
    assert len(of(numbers(FEW + 1))) < FEW


def test_a_change_of_any_byte_is_seen(target, monkeypatch):
    monkeypatch.setattr(module, "FEW", 0)
    values = numbers(2 * 8 * kernel.VECTORS * kernel.lanes(target) + 13)
    seen = {of(values)}
    for place, bit in itertools.product(range(values.size), (1, 128)):
        values[place] ^= bit
        seen.add(of(values))
        values[place] ^= bit
    assert len(seen) == 2 * values.size + 1


CHANGES = {
    "negative": lambda w: -w,
    "every other one negative": lambda w: w * np.resize(np.float32([1, -1]), w.shape),
    "reversed": lambda w: w[::-1],
    "rolled": lambda w: np.roll(w, 1),
    "sorted": np.sort,
    "halves swapped": lambda w: np.roll(w, w.size // 2),
    "twice": lambda w: 2 * w,
    "a little more": lambda w: np.nextafter(w, np.float32(9)),
    "zero": lambda w: 0 * w,
    "one": lambda w: 0 * w + 1,
}


def test_every_change_of_many_is_seen():
    w = np.random.default_rng(0).standard_normal(CHUNK, np.float32)
    found = [of(np.ascontiguousarray(change(w))) for change in (lambda w: w, *CHANGES.values())]
    assert len(set(found)) == len(found)


def test_signs_that_change_in_two_places_do_not_cancel():
    # in the highest bits of a word a product carries nothing further: the folding has to
    w = np.zeros(FEW, np.float32)
    before, lanes = of(w), kernel.VECTORS * kernel.lanes(module.current())
    for distance in (1, 2, lanes, 2 * lanes, 4 * lanes, 6 * lanes):
        for first in (0, 1, 2 * lanes + 1):
            changed = w.copy()
            changed[[first, first + distance]] = -0.0
            assert of(changed) != before, (first, distance)


def test_the_digest_does_not_depend_on_threads(monkeypatch):
    values = numbers(5 * CHUNK + 77)
    found = set()
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(threads, "get_num_threads", lambda count=count: count)
        found.add(of(values))
    assert len(found) == 1


def test_it_computes_in_calls_at_the_same_time():
    values = [numbers(2 * CHUNK + 9, seed) for seed in range(4)]
    expected = [of(v) for v in values]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert list(pool.map(of, values)) == expected


GUARDED = """
import guarded, kernels, numpy as np
from polyphase.engine import checksum as module
module.FEW = -1
module.memory.scratch = guarded.Memory(at_end=True)
for target in kernels.TARGETS:
    module.current = lambda: target
    for size in (*range(0, 1200), module.CHUNK + 5):
        for at_end in (False, True):
            data = guarded.Guarded(size, at_end)
            module.checksum(data.address, size)
            data.assert_margin_untouched()
            data.free()
            for buffer in module.memory.scratch.given:
                buffer.assert_margin_untouched()
                buffer.free()
            module.memory.scratch.given.clear()
print("done")
"""


def test_nothing_outside_of_a_buffer_is_touched():
    folders = [str(repository.ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.run(
        [sys.executable, "-c", GUARDED],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
    )
    assert (process.returncode, process.stdout) == (0, "done\n"), process.stderr
