# SPDX-License-Identifier: GPL-3.0-or-later
"""Packed pages, sound and damaged."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine import compression
from pykdump_ext.machine.compression import ZLIB, ZSTD, unpack
from tests.lab.kdump import (
    PAGE,
    kdump,
    pack,
)

from ..made_up.kdumps import METHODS, PAGES, opened
from ..made_up.strategies import times


def test_a_missing_library_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = opened(tmp_path, kdump(PAGES, method=ZSTD))
    gone = {ZSTD: ("libnosuchzstd.so.1", "libzstd1 (Debian)")}
    compression.library.cache_clear()
    monkeypatch.setattr(compression, "LIBRARIES", gone)
    with pytest.raises(P2mError, match=r"need libnosuchzstd\.so\.1 .*: install libzstd1 \(Deb"):
        dump.read(0, 8, "x")
    monkeypatch.undo()
    compression.library.cache_clear()
    assert dump.read(0, PAGE, "x") == PAGES[0]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_packed_data_of_another_size_than_a_page_is_damaged(method: int) -> None:
    for size in (0, 1, 4095, 4097, 7000):
        data = pack(bytes(size), method)
        assert unpack(data, method, PAGE) is None
    assert unpack(pack(bytes(PAGE), method), method, PAGE) == bytes(PAGE)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = pack(bytes(200_000_000), ZLIB)
    tracemalloc.start()
    try:
        assert unpack(bomb, ZLIB, PAGE) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=times(8))
@given(st.sampled_from(sorted(METHODS.values())), st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_at_all_unpack_or_are_damaged(method: int, data: bytes, at: int) -> None:
    assert unpack(data, method, PAGE) is None or len(data) == PAGE
    packed = bytearray(pack(PAGES[500], method))
    packed[at : at + len(data)] = data
    found = unpack(bytes(packed[:PAGE]), method, PAGE)
    assert found is None or len(found) == PAGE
