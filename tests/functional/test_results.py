"""Tensors for results: warm where they can be, and never anybody else's."""

import gc
import threading

import pytest
import torch

from polyphase.engine import memory
from polyphase.functional.tensors import results
from polyphase.functional.tensors.results import Results

SHAPE = (1, 4, 300, 300)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(results, "_kept", [])


def fresh(shape=SHAPE, dtype=torch.float32, last=False):
    results = Results(shape, dtype)
    return results.last() if last else results.first()


def address_of_one_that_is_gone(*args):
    return fresh(*args).data_ptr()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("inference", [False, True])
def test_the_next_one_lies_where_the_last_one_was(last, inference):
    with torch.inference_mode(inference):
        address = address_of_one_that_is_gone(SHAPE, torch.float32, last)
        y = fresh(last=last)
        assert y.data_ptr() == address
        assert y.shape == SHAPE
        assert y.is_contiguous(memory_format=torch.channels_last) == last
        assert y.is_inference() == inference
        assert not y._is_view()
        assert inference or y._version == 0


def test_what_is_made_in_one_mode_is_not_used_in_the_other():
    with torch.inference_mode():
        fresh()
    assert not fresh().is_inference()
    fresh().requires_grad_()


HOLDERS = {
    "tensor": lambda y: y,
    "view": lambda y: y[0, 1:],
    "numpy": lambda y: y.numpy(),
    "storage": lambda y: y.untyped_storage(),
    "typed storage": lambda y: y.storage(),
    "detached": lambda y: y.detach(),
    "data": lambda y: y.data,
    "dlpack": lambda y: y.__dlpack__(),
    "parameter": torch.nn.Parameter,
}


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_what_somebody_holds_is_not_given_to_another(hold):
    y = fresh()
    address = y.data_ptr()
    held = hold(y)
    del y
    assert fresh().data_ptr() != address
    del held
    gc.collect()
    assert address in {y.data_ptr() for y in [fresh(), fresh()]}


def test_memory_that_processes_share_is_not_used_again():
    y = fresh()
    y.share_memory_()
    shared = y.data_ptr()
    del y
    assert shared not in {y.data_ptr() for y in [fresh(), fresh()]}
    assert all(not kept.has_moved() for kept in results._kept)


def test_results_may_be_changed_in_place_in_every_way():
    y = fresh()
    y.fill_(1).squeeze_(0)
    assert y.shape == SHAPE[1:]
    y.unsqueeze_(0).transpose_(1, 2)
    y.requires_grad_()
    assert fresh().shape == SHAPE
    z = fresh()
    z.fill_(2).mul_(torch.ones(1, requires_grad=True))
    z.sum().backward()


def test_no_more_than_a_limit_is_kept(monkeypatch):
    monkeypatch.setattr(results, "KEPT_BYTES", 5 << 20)
    for rows in range(300, 320):
        fresh((1, 4, rows, 300))
        assert sum(kept.kind.bytes for kept in results._kept) <= 5 << 20
    before = list(results._kept)
    fresh((2, 8, 300, 300))
    assert results._kept == before


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(value):
        for _ in range(300):
            y = fresh()
            y.fill_(value)
            if not bool((y == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_results_are_left_to_pytorch():
    assert fresh((1, 1, 8, 8)).numel() * 4 < memory.SMALLEST_KEPT
    assert not results._kept
