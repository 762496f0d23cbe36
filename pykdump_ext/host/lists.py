# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists and hash tables of the kernel, followed in C: their entries, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from struct import iter_unpack
from typing import Any

from .guarded import check, error, failure, ffi, lib
from .integers import ALL_BITS
from .memory import AT_ONCE, KVADDR, LARGEST_READ, WORDS, kind_and_task, new, readmem

__all__ = ["getFullBuckets", "getFullBucketsH", "getListSize", "read_list"]


def read_list(
    head: int, offset: int = 0, mtype: int | None = None, *, end: int | None = None
) -> Iterator[int]:
    """Yield the address of each structure on a list of the kernel, in the list's order::

        >>> tasks = crash.offsetof("task_struct", "tasks")
        >>> for task in crash.read_list(init_task + tasks, tasks): ...

    The list is followed by the first pointer of each ``struct list_head`` until it comes back to
    ``head``, which is not yielded.  It is read ahead, by up to 1,024 entries.

    :param head: the address of the head, a ``struct list_head``.
    :param offset: the offset of the ``struct list_head`` in each structure, in bytes.
    :param mtype: the kind of the addresses, as for :func:`readmem`.
    :param end: the pointer that ends the list; without it, ``head``.  Lists that begin with a
        ``struct hlist_head`` end with 0.
    :raises error: an entry cannot be read, or its pointer is 0; or the list goes in a circle and
        never ends, which is found after three times the entries that it has, at the latest.
    :raises NullPointer: ``head`` is the virtual address 0.
    """
    start = head & ALL_BITS
    last = start if end is None else end & ALL_BITS
    return _list(start, offset, last, *kind_and_task(mtype))


def _list(head: int, offset: int, end: int, kind: int, task: int) -> Iterator[int]:
    walk = ffi.new("struct host_list *", {"at": head, "end": end, "mark": head, "to_mark": 1})
    entries = new(WORDS, AT_ONCE)
    done = ffi.new("long *")
    while not walk.ended:
        result = lib.host_read_list(walk, kind, task, entries, AT_ONCE, b"list", done)
        problem = _problem_of_list(head, walk, result)
        if isinstance(problem, KeyboardInterrupt):
            raise problem
        for entry in ffi.unpack(entries, done[0]):
            yield entry - offset & ALL_BITS
        if problem is not None:
            raise problem


def _problem_of_list(head: int, walk: Any, result: int) -> BaseException | None:
    """Return the exception for what ended a walk before the list's end, or None."""
    if walk.circles:
        return error(
            f"the list at {head:x} never ends: after {walk.at:x} the entry {walk.mark:x} comes"
            " again, so the list is damaged or this is no head of a list"
        )
    if result == lib.HOST_NULL and head:
        return error(
            f"the list at {head:x} breaks off: the pointer at {walk.at:x} is 0; for a list that"
            " ends so, give end=0"
        )
    return failure(result, f'read error: address: {walk.at:x}  type: "list"')


def getListSize(addr: int, offset: int, maxel: int) -> int:
    """Return how many entries a list has without its head, or ``maxel`` where it has more.

    The list ends where a pointer leads back to ``addr``, or is 0.  One that goes in a circle and
    never comes back to ``addr`` has ``maxel`` entries.

    :param addr: the address of the head; an ``addr`` of 0 is a list without entries.
    :param offset: where the head and each entry have the pointer to the next one, in bytes.
    :raises error: an entry cannot be read.
    """
    start, count = addr & ALL_BITS, 0
    first = start + offset & ALL_BITS
    walk = ffi.new(
        "struct host_list *",
        {"at": first, "end": start, "offset": offset & ALL_BITS, "mark": start, "to_mark": 1},
    )
    entries, done = new(WORDS, AT_ONCE), ffi.new("long *")
    while start and count < maxel and not walk.ended:
        room = min(AT_ONCE, maxel - count)
        result = lib.host_read_list(walk, KVADDR, 0, entries, room, b"list", done)
        count += done[0]
        if walk.circles:
            return maxel
        if result == lib.HOST_NULL:
            break
        check(result, f'read error: address: {walk.at:x}  type: "list"')
    return count


_BYTES_AT_ONCE = 1 << 20


def _buckets(start: int, bsize: int, items: int, chain_off: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the pointer of each bucket that is not empty."""
    start &= ALL_BITS
    if not start or items <= 0 or not 0 <= chain_off <= bsize - 8:
        raise error(
            f"bad arguments: {items:,} buckets of {bsize:,} bytes at {start:x}, with a pointer at"
            f" {chain_off:,}, are no hash table"
        )
    if bsize * items > LARGEST_READ:
        raise error(
            f"{items:,} buckets of {bsize:,} bytes are too many for one call: ask for"
            f" {LARGEST_READ:,} bytes at most, and for the rest by further calls"
        )
    layout = f"<{chain_off}xQ{bsize - chain_off - 8}x"
    step = max(1, _BYTES_AT_ONCE // bsize)
    for first in range(0, items, step):
        size = bsize * min(step, items - first)
        data = readmem(start + first * bsize, size, KVADDR)
        for number, (pointer,) in enumerate(iter_unpack(layout, data), first):
            if pointer:
                yield number, pointer


def getFullBuckets(start: int, bsize: int, items: int, chain_off: int) -> list[int]:
    """Return the pointer of each bucket of a hash table that is not empty.

    :param start: the address of the table.
    :param bsize: the size of a bucket in bytes.
    :param items: how many buckets there are.
    :param chain_off: where a bucket has its pointer, in bytes.
    :raises error: the table cannot be read, or is no table, or is larger than ``LARGEST_READ``.
    """
    return [pointer for _, pointer in _buckets(start, bsize, items, chain_off)]


def getFullBucketsH(start: int, bsize: int, items: int, chain_off: int) -> list[tuple[int, int]]:
    """Return what :func:`getFullBuckets` returns as pairs: a bucket's number, and its pointer."""
    return list(_buckets(start, bsize, items, chain_off))
