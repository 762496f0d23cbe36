# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Xen's store, from the memory of the process ``xenstored`` in dom0.

    print(find_store(prog).value("/local/domain/1/name"))

The xenstored of Xen 4.17, which is written in C, keeps the store in memory as a database of
tools/xenstore/tdb.c, unless it runs with ``--internal-db off``. Later ones have no such database,
and oxenstored has none. A database is taken only where the process's allocator has it in use,
and a value only by the database's own chain of records for its key, as xenstored finds it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import drgn

from ..errors import P2mError
from .helpers import linux

__all__ = ["Store", "find_store"]

PAGE = 4096
MOST_MEMORY = 256 << 20  # bytes of the process that are searched
# Before the database the allocator has its size and a magic number (tools/xenstore/talloc.c); the
# lowest bit of that is set when the memory is given back
IN_USE = struct.Struct("<QQ")
TALLOC_MAGIC = 0xE814EC70
# The database begins with this; in a file, the name of its kind is in the place of the zeros
VERSION = bytes(32) + (0x26011967 + 7).to_bytes(4, "little")
HEADER = len(VERSION) + 33 * 4  # bytes; then come the chains: of free records, and by hash
RECORD = struct.Struct("<6I")  # the next one, lengths of the record, its key and its data, hash
RECORD_MAGIC = 0x26011999
TOO_SHORT = "xenstored's database is damaged: it ends too early"
LONGEST_CHAIN = 1 << 20  # records
# What is before a value: a generation, the number of permissions, the lengths of the value and of
# the children's names that follow it; then come the permissions, 8 bytes each
NODE = struct.Struct("<Q3I")
NODE_SIZES = (20, 24)  # as which it counts in a record's length: a compiler adds 4 bytes to it


class Store:
    """The database of xenstored.

    :param data: its bytes.
    :raises P2mError: it is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        (self.chains,) = self._unpacked("<I", len(VERSION))

    def _unpacked(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self.data, at)
        except struct.error:
            raise P2mError(TOO_SHORT) from None

    def value(self, path: str) -> bytes | None:
        """Return the value of a node, or None if there is no such node.

        :raises P2mError: the database is damaged.
        """
        key = path.encode()
        hashed = _hash(key)
        (at,) = self._unpacked("<I", HEADER + (hashed % max(self.chains, 1) + 1) * 4)
        for _ in range(LONGEST_CHAIN):
            if not at:
                return None
            following, _, key_size, size, full_hash, magic = self._unpacked(RECORD.format, at)
            start = at + RECORD.size
            known = magic == RECORD_MAGIC and full_hash == hashed
            if known and self.data[start : start + key_size] == key:
                return self._value(start + key_size, size)
            at = following
        raise P2mError("xenstored's database is damaged: a chain of it has no end")

    def _value(self, at: int, size: int) -> bytes:
        """Return the value in a node's record of ``size`` bytes."""
        _, permissions, length, names = self._unpacked(NODE.format, at)
        start = at + NODE.size + permissions * 8
        if at + size > len(self.data):
            raise P2mError(TOO_SHORT)
        if size not in [start - at - NODE.size + each + length + names for each in NODE_SIZES]:
            raise P2mError("xenstored's database has nodes of a form that is not known")
        return self.data[start : start + length]


def _hash(key: bytes) -> int:
    """Return the hash of a key, as ``default_tdb_hash()`` has it."""
    value = 0x238F13AF * len(key)
    for index, byte in enumerate(key):
        value += byte << index * 5 % 24
    return (1103515243 * value + 12345) & 0xFFFFFFFF


def find_store(prog: drgn.Program) -> Store | None:
    """Return the store, or None where no xenstored of dom0 has one in its memory.

    :raises P2mError: it is not clear which of several it is, or the dump has only a part of it.
    """
    found = [
        data
        for task in linux.for_each_task(prog)
        if task.mm and task.comm.string_() == b"xenstored" and task.pid == task.tgid
        for data in _databases(task)
    ]
    if len(found) > 1:
        raise P2mError(f"xenstored has {len(found)} databases in its memory")
    return Store(found[0]) if found else None


def _databases(task: drgn.Object) -> Iterator[bytes]:
    """Yield each database in the memory of a process that its allocator has in use.

    :raises P2mError: the dump does not have all of it.
    """
    left = MOST_MEMORY
    for area in linux.for_each_vma(task.mm):
        start, size = area.vm_start.value_(), area.vm_end.value_() - area.vm_start.value_()
        if area.vm_file or size > left:
            continue
        left -= size
        pages = [_page(task, page) for page in range(start, start + size, PAGE)]
        memory = b"".join(page or bytes(PAGE) for page in pages)
        at = memory.find(VERSION)
        while at >= 0:
            if at >= IN_USE.size:
                length, magic = IN_USE.unpack_from(memory, at - IN_USE.size)
                if magic & 0xFFFFFFFF == TALLOC_MAGIC and length <= len(memory) - at:
                    if None in pages[at // PAGE : (at + length) // PAGE + 1]:
                        raise P2mError("a part of xenstored's database is not in the dump")
                    yield memory[at : at + length]
            at = memory.find(VERSION, at + 1)


def _page(task: drgn.Object, address: int) -> bytes | None:
    """Return a page of a process, or None if it is not in the dump."""
    try:
        data: bytes = linux.access_remote_vm(task.mm, address, PAGE)
    except drgn.FaultError:
        return None
    return data
