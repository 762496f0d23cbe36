# SPDX-License-Identifier: GPL-3.0-or-later
"""Kdump-compressed dumps in several files."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.compression import LZO
from tests.lab.kdump import (
    PAGE,
    kdump,
)

from ..made_up.core import core_bytes
from ..made_up.kdumps import EXCLUDED, PAGES, PARTS, RANGES, SAMPLE, opened, page, why
from ..made_up.strategies import times


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_split_dump_is_read_whatever_the_order_of_its_files(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    dump = opened(tmp_path, *(PARTS[i] for i in order))
    for frame, content in PAGES.items():
        assert dump.read(frame * PAGE, PAGE, "page") == content
    assert {why(dump, frame) for frame in EXCLUDED} == {"page excluded"}
    assert why(dump, 3) == "not in the dump"
    assert len(dump.notes) == 2


def test_a_file_of_a_split_dump_knows_what_is_in_the_others(tmp_path: Path) -> None:
    dump = opened(tmp_path, PARTS[1])
    assert dump.read(500 * PAGE, PAGE, "page") == PAGES[500]
    for frame in (0, 1, 9, 9000, 40000):
        assert why(dump, frame) == "in a file of the split dump that is not given"
    assert why(dump, 40002) == "not in the dump"


def test_the_format_says_whether_all_files_of_a_split_dump_are_given(tmp_path: Path) -> None:
    for parts, says in (
        (PARTS[:1], "1 file of a split dump"),
        (PARTS[1:2], "1 file of a split dump"),
        (PARTS[1:], "2 files of a split dump"),
        (PARTS, "split into 3 files"),
        ([kdump(PAGES, part=(0, 40002))], "split into 1 file"),
    ):
        assert opened(tmp_path, *parts).format == f"kdump-compressed, {says}"


def test_old_split_dumps_have_their_range_elsewhere(tmp_path: Path) -> None:
    parts = []
    for start, end in RANGES:
        part = bytearray(kdump(PAGES, part=(start, end), header_version=5))
        struct.pack_into("<QQ", part, PAGE + 80, 0, 0)
        parts.append(bytes(part))
    dump = opened(tmp_path, *parts)
    assert all(dump.read(f * PAGE, PAGE, "page") == PAGES[f] for f in PAGES)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ((PARTS[0], PARTS[0]), "have the same frames"),
        ((PARTS[0], SAMPLE), "not files of one split dump"),
        ((SAMPLE, SAMPLE), "not files of one split dump"),
        ((PARTS[0], kdump(PAGES, part=RANGES[1], nr_cpus=2)), "not files of one split dump"),
        ((PARTS[0], core_bytes([])), "not the files of one split dump"),
    ],
    ids=["the same", "one not split", "none split", "of two dumps", "of two formats"],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, contents: tuple[bytes, ...], says: str
) -> None:
    with pytest.raises(P2mError, match=says):
        opened(tmp_path, *contents)


@settings(max_examples=times(1.5))
@given(
    st.sets(st.integers(0, 20000), max_size=30),
    st.sets(st.integers(0, 20000), max_size=30),
    st.lists(st.integers(0, 20001), max_size=3),
)
def test_any_dump_split_anywhere_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, dumped: set[int], left_out: set[int], cuts: list[int]
) -> None:
    pages = {frame: page(frame) for frame in dumped}
    left_out -= dumped
    borders = sorted({0, 20001, *cuts})
    contents = [
        kdump(pages, left_out, LZO, part=part, max_mapnr_64=20001)
        for part in zip(borders, borders[1:])
    ]
    random.shuffle(contents)
    dump = opened(tmp_path_factory.getbasetemp(), *contents)
    for frame in (*dumped, *left_out, 5, 20000):
        if frame in pages:
            assert dump.read(frame * PAGE, PAGE, "page") == pages[frame]
        else:
            expected = "page excluded" if frame in left_out else "not in the dump"
            assert why(dump, frame) == expected
