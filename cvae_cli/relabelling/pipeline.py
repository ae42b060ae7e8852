"""The scheduler: generators that keep threads busy while results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import chain
from typing import TypeVar

from cvae_cli.errors import ListStopped

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def ordered_map(
    pool: Executor, work: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[_Out]:
    """The results of ``work`` for each item, in the order of the items.

    Args:
        pool: where the work is done.
        work: called once per item; what it raises is raised here.
        items: taken only as they are needed; a ListStopped from them is raised once all others are done.
        ahead: most items in flight at once, so that memory does not grow with their number.
    """
    pending: deque[Future[_Out]] = deque()
    stopped: ListStopped | None = None
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            while pending and (len(pending) >= ahead or pending[0].done()):
                yield pending.popleft().result()
    except ListStopped as error:
        stopped = error  # while the next item was waited for: what is in flight is finished
    while pending:
        yield pending.popleft().result()
    if stopped is not None:
        raise stopped


def group(
    items: Iterable[_In], size: int, *, counts: Callable[[_In], bool], limit: int, first: int | None = None
) -> Iterator[list[_In]]:
    """Consecutive items in groups that each hold ``size`` items that count.

    Args:
        items: items that count, and others that only keep their place in the order.
        size: of a group; the last one may have fewer.
        counts: which items count.
        limit: most items in a group, so that a long stretch of others does not hold up the rest.
        first: size of the first group, if it is smaller; those after it are twice as large each time.
    """
    wanted = min(size, first or size)
    current: list[_In] = []
    counted = 0
    for item in items:
        current.append(item)
        counted += counts(item)
        if counted == wanted or len(current) == limit:
            yield current
            current, counted = [], 0
            wanted = min(size, 2 * wanted)
    if current:
        yield current


def grouped_map(
    pool: Executor,
    work: Callable[[list[_In]], list[_Out]],
    items: Iterable[_In],
    *,
    size: int,
    counts: Callable[[_In], bool],
    ahead: int,
    first: int | None = None,
) -> Iterator[_Out]:
    """``work`` on groups of items, in order: to hand over each by itself costs more than some work takes.

    Args:
        pool: where the work is done.
        work: such as drawing a batch; it returns one result for each item of a group.
        items: taken only as they are needed.
        size: number of items that count in a group.
        counts: which items count.
        ahead: most groups in flight at once.
        first: size of the first group: see :func:`group`.
    """
    groups = group(items, size, counts=counts, limit=_GROUP_LIMIT * size, first=first)
    return chain.from_iterable(ordered_map(pool, work, groups, ahead=ahead))


_GROUP_LIMIT = 16
"""A group holds at most this many times ``size`` items."""
