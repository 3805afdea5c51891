"""The pool of large outputs: pages come back when the last array goes, and only then."""

import gc
import os
import threading
import weakref

import ml_dtypes
import numpy as np
import pytest

import polyphase as pp
from polyphase.engine import memory

LARGE = memory.SMALLEST_KEPT


@pytest.fixture
def pool():
    return memory.Pool()


def address(array):
    return array.__array_interface__["data"][0]


def kept(pool):
    return sum(map(len, pool._idle))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int8, "complex128"])
def test_arrays_are_what_was_asked_for(pool, dtype):
    for shape in ((3, 5, 7), (2, 300, 1000), (0, 4), (1 << 20,), ()):
        array = pool.array(shape, dtype)
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
        array[...] = 1
        assert (array == 1).all()


def test_large_arrays_begin_at_a_cache_line(pool):
    for elements in (LARGE, LARGE + 1, 3 * LARGE + 7):
        assert address(pool.array((elements,), np.uint8)) % memory.ALIGNMENT == 0


def test_small_arrays_are_numpy_s_own(pool):
    array = pool.array((LARGE - 1,), np.uint8)
    assert array.base is None
    del array
    assert kept(pool) == 0


def test_pages_serve_again(pool):
    first = pool.array((LARGE,), np.float32)
    place = address(first)
    del first
    assert kept(pool) >= LARGE
    second = pool.array((LARGE,), np.float32)
    assert address(second) == place
    assert kept(pool) == 0
    # while they are in use, nobody else has them
    third = pool.array((LARGE,), np.float32)
    second[...], third[...] = 2, 3
    assert (second == 2).all()


def test_pages_serve_only_what_nearly_fills_them(pool):
    large = pool.array((40 * LARGE,), np.uint8)
    place = address(large)
    del large
    little = pool.array((LARGE,), np.uint8)
    assert address(little) != place
    fitting = pool.array((39 * LARGE,), np.uint8)
    assert address(fitting) == place


def test_the_smallest_pages_that_fit_serve(pool):
    arrays = [pool.array((count * LARGE,), np.uint8) for count in (20, 24, 22)]
    places = list(map(address, arrays))
    del arrays
    assert address(pool.array((20 * LARGE,), np.uint8)) == places[0]
    first = pool.array((20 * LARGE,), np.uint8)
    second = pool.array((20 * LARGE,), np.uint8)
    assert [address(first), address(second)] == [places[0], places[2]]


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[5:7],
        lambda array: array.reshape(-1, 2).T,
        lambda array: array.view(np.int32)[::3],
        lambda array: memoryview(array),
        lambda array: np.asarray(array)[None],
        lambda array: np.frombuffer(array, np.uint8),
    ],
    ids=["slice", "transposed", "other dtype", "memoryview", "reshaped", "buffer"],
)
def test_any_view_keeps_the_pages(pool, hold):
    array = pool.array((LARGE,), np.float32)
    place = address(array)
    view = hold(array)
    del array
    gc.collect()
    assert kept(pool) == 0
    assert address(pool.array((LARGE,), np.float32)) != place
    assert len(pool._idle) == 1
    del view
    assert len(pool._idle) == 2


def test_a_tensor_keeps_the_pages(pool):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(pool.array((LARGE,), np.float32))
    assert kept(pool) == 0
    part = tensor[3:9]
    del tensor
    assert kept(pool) == 0
    del part
    assert kept(pool) >= LARGE


def test_an_array_in_a_cycle_gives_its_pages_back(pool):
    holder = [pool.array((LARGE,), np.float32)]
    holder.append(holder)
    del holder
    gc.collect()
    assert kept(pool) >= LARGE


def test_the_oldest_give_way_beyond_the_limit(pool, monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES", 20 * LARGE)
    arrays = [pool.array((8 * LARGE,), np.uint8) for _ in range(4)]
    places = list(map(address, arrays))
    while arrays:
        arrays.pop(0)
    assert kept(pool) <= 20 * LARGE
    found = [pool.array((8 * LARGE,), np.uint8) for _ in range(2)]
    assert {address(array) for array in found} == set(places[2:])


def test_what_is_larger_than_the_limit_drives_nothing_out(pool, monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES", 20 * LARGE)
    small = pool.array((2 * LARGE,), np.uint8)
    place = address(small)
    huge = pool.array((30 * LARGE,), np.uint8)
    del small, huge
    assert kept(pool) == 2 * LARGE
    assert address(pool.array((2 * LARGE,), np.uint8)) == place


def test_clear_gives_everything_back(pool):
    pool.array((LARGE,), np.float32)
    assert kept(pool)
    pool.clear()
    assert kept(pool) == 0


def test_a_pool_that_is_gone_does_no_harm():
    pool = memory.Pool()
    gone = weakref.ref(pool)
    array = pool.array((LARGE,), np.float32)
    del pool
    # the array still needs it
    assert gone() is not None
    array[...] = 1
    del array
    assert gone() is None


def test_collecting_garbage_within_the_pool_does_not_block(pool):
    # a dying array calls the pool from within the pool, in the same thread
    garbage = [pool.array((LARGE,), np.uint8)]
    garbage.append(garbage)

    class Collected(list):
        def __getitem__(self, which):
            gc.collect()
            return super().__getitem__(which)

    pool._idle = Collected()
    del garbage
    caller = threading.Thread(target=pool.array, args=((LARGE,), np.uint8), daemon=True)
    caller.start()
    caller.join(30)
    assert not caller.is_alive()
    # what was found in the garbage served at once
    assert len(pool._idle) == 1


def test_only_the_latest_pages_are_not_offered(pool, monkeypatch):
    advised = []
    monkeypatch.setattr(memory, "HOT_BYTES", 8 * LARGE)
    monkeypatch.setattr(memory, "_advise", lambda pages, advice: advised.append(id(pages)))
    arrays = [pool.array((4 * LARGE,), np.uint8) for _ in range(4)]
    for place in range(4):
        arrays[place] = None
    advised.clear()
    oldest, second, third, latest = pool._idle
    assert [oldest.offered, second.offered] == [True, True]
    assert [third.offered, latest.offered] == [False, False]
    # the latest serve first and come back as they are; the system is not asked again
    array = pool.array((4 * LARGE,), np.uint8)
    assert latest not in pool._idle
    del array
    assert not advised
    # what is offered while another thread takes it stays as it is
    pool._idle.remove(third)
    pool._offer(third)
    assert not third.offered
    assert not advised


def test_threads_share_the_pool(pool):
    wrong = []

    def work(number):
        for _ in range(60):
            array = pool.array((LARGE // 4 + number,), np.float32)
            array[...] = number
            if not (array == number).all():
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    # nothing is in the pool twice
    assert pool._idle
    assert len(set(map(id, pool._idle))) == len(pool._idle)


def test_a_system_without_such_advice(pool, monkeypatch):
    # kernels may be built without huge pages, containers may lack MADV_FREE
    for name in ("_HUGE", "_FREE"):
        monkeypatch.setattr(memory, name, 9999)
    array = pool.array((LARGE,), np.float32)
    place = address(array)
    del array
    assert address(pool.array((LARGE,), np.float32)) == place
    for name in ("_HUGE", "_FREE"):
        monkeypatch.setattr(memory, name, None)
    assert address(pool.array((LARGE,), np.float32)) == place


def test_where_there_is_no_page_numpy_answers(pool, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory, "_Pages", refuse)
    array = pool.array((LARGE,), np.float32)
    array[...] = 1
    assert array.base is None


def test_too_large_is_a_memory_error(pool):
    with pytest.raises(MemoryError):
        pool.array((1 << 58,), np.float32)
    with pytest.raises(MemoryError):
        pp.functional.conv_transpose1d(
            np.ones((1, 1, 2), np.float32), np.ones((1, 1, 1), np.float32), stride=2**50
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_parent_and_child_have_pages_of_their_own(pool):
    array, other = (pool.array((LARGE,), np.float32) for _ in range(2))
    array[...] = 1
    place = address(other)
    del other
    child = os.fork()
    if not child:
        # the same address, another memory
        mine = pool.array((LARGE,), np.float32)
        mine[...] = array[...] = 2
        os._exit(0 if address(mine) == place else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (array == 1).all()


def test_results_of_calls_do_not_share_memory():
    x, w = np.ones((1, 2, 400, 400), np.float32), np.ones((2, 4, 2, 2), np.float32)
    results = [pp.functional.conv_transpose2d(x * i, w, stride=2) for i in (1, 2, 3)]
    assert all(result.nbytes >= LARGE for result in results)
    assert [float(result.max()) for result in results] == [2, 4, 6]
    last = results[-1]
    results.clear()
    again = pp.functional.conv_transpose2d(x * 5, w, stride=2)
    assert (float(again.max()), float(last.max())) == (10, 6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.float32),
        np.zeros((3, 4), np.float64)[1:],
        np.zeros((3, 4))[:, ::2],
        np.zeros((3, 4)).T,
        np.zeros(9)[::-1],
        np.zeros((0, 4)),
        np.zeros(()),
        np.zeros(7, ml_dtypes.bfloat16)[2:],
        np.zeros(7, np.float16),
        np.zeros(7, "c16"),
        np.zeros(65, np.uint8)[1:].view(np.float64),
        np.broadcast_to(np.float32(1), (3, 4)),
        np.frombuffer(bytes(16), np.int32),
    ],
    ids=lambda array: f"{array.dtype} {array.shape} {array.strides}",
)
def test_the_address_is_that_of_the_first_element(array):
    assert memory.address(array) == array.ctypes.data
    # no buffer is left exported
    array.flags.writeable = False
    assert memory.address(array) == array.ctypes.data


def test_scratch_is_aligned_and_kept():
    scratch = memory.Scratch()
    first = scratch.borrow(1000)
    second = scratch.borrow(10)
    for buffer in (first, second):
        assert buffer.address % memory.ALIGNMENT == 0
        assert buffer.size >= 10
    assert first.address != second.address
    place = first.address
    scratch.give_back(first)
    assert scratch.borrow(900).address == place
    scratch.give_back(second)
    # too small: another one takes its place
    assert scratch.borrow(5000).size >= 5000


def test_scratch_of_many_callers_is_not_kept_for_ever():
    scratch = memory.Scratch()
    borrowed = [scratch.borrow(100) for _ in range(3 * memory.MOST_BUFFERS)]
    for buffer in borrowed:
        scratch.give_back(buffer)
    assert len(scratch._idle) == memory.MOST_BUFFERS
