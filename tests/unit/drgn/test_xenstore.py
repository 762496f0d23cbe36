# SPDX-License-Identifier: GPL-3.0-or-later
"""The database of xenstored: a value is found by its own chain, or not at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.drgn.xenstore import HEADER, RECORD_MAGIC, VERSION, Store
from pykdump_ext.errors import P2mError

CHAINS = 3
FREED = ~RECORD_MAGIC & 0xFFFFFFFF


def hashed(key: bytes) -> int:
    """Return what xenstored's ``default_tdb_hash()`` has for a key, in 32 bits at each step."""
    value = 0x238F13AF * len(key) & 0xFFFFFFFF
    for index, byte in enumerate(key):
        value = value + (byte << (index * 5 % 24)) & 0xFFFFFFFF
    return (1103515243 * value + 12345) & 0xFFFFFFFF


def database(nodes: list[tuple[str, bytes, bytes, int]], padding: int = 4) -> bytearray:
    """Return a database of nodes: path, value, children's names, the magic number."""
    data = bytearray(VERSION + struct.pack("<I", CHAINS)).ljust(HEADER + 4 * (CHAINS + 1), b"\0")
    for path, value, children, magic in nodes:
        key = path.encode()
        top = HEADER + (hashed(key) % CHAINS + 1) * 4
        (following,) = struct.unpack_from("<I", data, top)
        struct.pack_into("<I", data, top, len(data))
        node = struct.pack("<Q3I", 9, 2, len(value), len(children)) + bytes(16) + value + children
        node += bytes(padding)
        data += struct.pack("<6I", following, 99, len(key), len(node), hashed(key), magic)
        data += key + node
    return data


PATHS = [f"/local/domain/{number}/name" for number in range(12)]


@given(st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=9)), st.sampled_from([0, 4]))
def test_each_node_has_its_value(values: dict[str, bytes], padding: int) -> None:
    nodes = [(path, value, b"a\0b\0", RECORD_MAGIC) for path, value in values.items()]
    store = Store(bytes(database(nodes, padding)))
    assert {path: store.value(path) for path in PATHS} == {path: values.get(path) for path in PATHS}


def test_of_two_records_the_chain_decides() -> None:
    """A value that has been written again may stay where it was, outside any chain."""
    old = database([(PATHS[1], b"old", b"", RECORD_MAGIC)])
    data = database([(PATHS[1], b"new", b"", RECORD_MAGIC)]) + old
    assert Store(bytes(data)).value(PATHS[1]) == b"new"


def test_a_record_that_is_free_is_passed_over() -> None:
    assert Store(bytes(database([(PATHS[1], b"x", b"", FREED)]))).value(PATHS[1]) is None


@pytest.mark.parametrize("cut", [HEADER - 9, HEADER + 4, -1])
def test_a_database_that_ends_too_early_is_an_error(cut: int) -> None:
    whole = database([(path, b"x", b"", RECORD_MAGIC) for path in PATHS])[:cut]
    with pytest.raises(P2mError, match="it ends too early"):
        store = Store(bytes(whole))
        [store.value(path) for path in PATHS]


def test_a_chain_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykdump_ext.drgn.xenstore.LONGEST_CHAIN", 50)
    data = database([(PATHS[1], b"x", b"", RECORD_MAGIC)])
    at = data.index(PATHS[1].encode()) - 24
    struct.pack_into("<I", data, at, at)
    struct.pack_into("<I", data, at + 16, 7)  # another hash
    with pytest.raises(P2mError, match="a chain of it has no end"):
        Store(bytes(data)).value(PATHS[1])


def test_a_node_whose_lengths_do_not_fit_is_an_error() -> None:
    with pytest.raises(P2mError, match="of a form that is not known"):
        Store(bytes(database([(PATHS[1], b"x", b"", RECORD_MAGIC)], 8))).value(PATHS[1])
