from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae_cli.relabelling.pipeline import group, grouped_map, ordered_map


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_results_come_in_order_whatever_takes_longest(pool: ThreadPoolExecutor) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 5))
        return number

    assert list(ordered_map(pool, work, range(40), ahead=8)) == list(range(40))


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_than_the_bound_is_in_flight(pool: ThreadPoolExecutor, ahead: int) -> None:
    taken = 0
    lock, now, most = threading.Lock(), 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(30):
            taken += 1
            yield number

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.001)
        with lock:
            now -= 1
        return number

    for done, _ in enumerate(ordered_map(pool, work, items(), ahead=ahead)):
        assert taken <= done + ahead + 1
    assert most <= ahead


def test_what_the_work_raises_is_raised(pool: ThreadPoolExecutor) -> None:
    results = ordered_map(pool, lambda number: 1 // number, [1, 0, 1], ahead=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def even(number: int) -> bool:
    return number % 2 == 0


def test_groups_hold_so_many_that_count_and_what_lies_between() -> None:
    assert list(group(range(9), 2, counts=even, limit=100)) == [[0, 1, 2], [3, 4, 5, 6], [7, 8]]
    assert list(group([], 2, counts=even, limit=100)) == []


def test_a_long_stretch_that_does_not_count_is_handed_on() -> None:
    groups = list(group([1] * 25 + [2], 3, counts=even, limit=10))
    assert [len(one) for one in groups] == [10, 10, 6]


def test_the_first_groups_are_small_so_that_all_threads_begin_at_once() -> None:
    groups = list(group(range(40), 8, counts=lambda number: True, limit=100, first=1))
    assert [len(one) for one in groups] == [1, 2, 4, 8, 8, 8, 8, 1]
    groups = list(group(range(9), 4, counts=lambda number: True, limit=100, first=6))
    assert [len(one) for one in groups] == [4, 4, 1]


def test_items_are_handed_over_in_groups(pool: ThreadPoolExecutor) -> None:
    sizes: list[int] = []

    def draw(numbers: list[int]) -> list[str]:
        sizes.append(sum(map(even, numbers)))
        return [f"{number}" for number in numbers]

    results = grouped_map(pool, draw, range(101), size=4, counts=even, ahead=4)
    assert list(results) == [f"{number}" for number in range(101)]
    assert max(sizes) == 4
    assert sum(sizes) == 51


def test_nothing_is_taken_before_a_result_is_asked_for(pool: ThreadPoolExecutor) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    for results in (
        ordered_map(pool, str, items(), ahead=2),
        grouped_map(pool, lambda some: [str(one) for one in some], items(), size=2, counts=bool, ahead=3),
    ):
        assert taken == []
        assert next(results) == "0"
        assert 0 < len(taken) <= 10
        taken.clear()


def test_a_loop_that_ends_early_takes_no_more(pool: ThreadPoolExecutor) -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number

    results = ordered_map(pool, work, range(1000), ahead=5)
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= 3 + 5


@given(
    st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 8).map(lambda times: times * 5)
)
def test_groups_keep_every_item_in_its_place(items: list[bool], size: int, limit: int) -> None:
    groups = list(group(items, size, counts=bool, limit=limit))
    assert [item for one in groups for item in one] == items
    assert all(sum(one) <= size and 1 <= len(one) <= limit for one in groups)
    assert all(sum(one) == size or len(one) == limit for one in groups[:-1])


def test_what_is_raised_in_a_group_is_raised(pool: ThreadPoolExecutor) -> None:
    def draw(numbers: list[int]) -> list[int]:
        raise RuntimeError("surprise")

    with pytest.raises(RuntimeError, match="surprise"):
        next(grouped_map(pool, draw, range(9), size=2, counts=even, ahead=3))
