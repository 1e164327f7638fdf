import ctypes
import threading
from pathlib import Path

import pytest
import torch

from bfr.runtime import side_by_side
from bfr.runtime.side_by_side import in_order, one_thread, share_cores

OPENMP = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(at_once: int):
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0 and at_once > 1:
            assert second.wait(10), "the second must not wait for the first"
        if number == 1:
            second.set()
        return number * number

    assert list(in_order(range(7), work, at_once)) == [(n, n * n) for n in range(7)]


def test_no_more_than_so_many_at_once():
    lock, now, most = threading.Lock(), 0, 0

    def work(number: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1

    assert len(list(in_order(range(12), work, 3))) == 12
    assert 1 <= most <= 3


def test_an_error_is_raised_in_its_turn_and_nothing_more_begins():
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise KeyboardInterrupt
        return number

    done = []
    with pytest.raises(KeyboardInterrupt):
        for item, _ in in_order(range(100), work, 2):
            done.append(item)
    assert done == [0]
    assert len(begun) < 10


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not OPENMP, reason="torch brings no OpenMP of its own here")
def test_each_works_with_the_threads_that_are_set(threads):
    """As OpenMP has it, which counts for each of Python's threads by itself."""
    torch.set_num_threads(3)  # which no environment has set
    openmp = ctypes.CDLL(str(OPENMP[0]))

    counts = in_order(range(4), lambda _: openmp.omp_get_max_threads(), 2)
    assert [count for _, count in counts] == [3] * 4


def test_photographs_share_the_idle_cores_and_the_memory(monkeypatch, threads):
    cpu = torch.device("cpu")
    monkeypatch.setattr(side_by_side, "idle_cores", lambda: 4)
    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 2**40)
    assert (share_cores(10, cpu), torch.get_num_threads()) == (4, 1)
    assert (share_cores(2, cpu), torch.get_num_threads()) == (2, 2)
    assert (share_cores(1, cpu), torch.get_num_threads()) == (1, 4)
    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 5 * 2**30)
    assert share_cores(10, cpu) == 2
    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 0)
    assert share_cores(10, cpu) == 1
    assert share_cores(10, torch.device("meta")) == 1


@pytest.mark.parametrize(("device", "inside"), [("cpu", 1), ("meta", 3)])
def test_one_thread_and_then_as_many_as_before(threads, device: str, inside: int):
    torch.set_num_threads(3)
    with pytest.raises(InterruptedError), one_thread(torch.device(device)):
        assert torch.get_num_threads() == inside
        raise InterruptedError
    assert torch.get_num_threads() == 3
