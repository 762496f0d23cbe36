# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a dump, and which files are one."""

from __future__ import annotations

import contextlib
import os
import random
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.dumps import group_dumps, is_dump, open_dump
from tests.lab.kdump import HEADER, RAW, SUB_HEADER, flattened, kdump

from ..made_up.core import core_bytes
from ..made_up.kdumps import EXCLUDED, NOTES, PAGES, PARTS, RANGES, SAMPLE, written
from ..made_up.machine import PAGE
from ..made_up.strategies import times

FOLDERS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_dump_is_known_by_its_beginning(tmp_path: Path) -> None:
    program = core_bytes([], e_type=2)
    for content, wanted in (
        (SAMPLE, True), (flattened(SAMPLE), True), (core_bytes([]), True),
        (program, False), (b"", False), (b"KDUM", False), (bytes(5000), False),
    ):  # fmt: skip
        (path,) = written(tmp_path, content)
        assert is_dump(path) == wanted
    assert not is_dump(tmp_path / "nosuchfile")
    assert not is_dump(tmp_path)


# The files of a split dump


def put(folder: Path, *contents: bytes) -> list[str]:
    """Write files into a new or an old folder; return their paths."""
    folder.mkdir(exist_ok=True)
    return [str(path) for path in written(folder, *contents)]


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
def test_the_files_of_a_split_dump_are_one_dump_in_any_order(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    paths = put(tmp_path, *PARTS)
    given_order = [paths[i] for i in order]
    assert group_dumps(given_order) == [given_order]


def test_they_are_in_one_folder_unless_they_may_be_anywhere(tmp_path: Path) -> None:
    one, two, three = PARTS
    first, third = put(tmp_path / "a", one, three)
    (second,) = put(tmp_path / "b", two)
    paths = [first, second, third]
    assert group_dumps(paths) == [[first, third], [second]]
    assert group_dumps(paths, anywhere=True) == [paths]


def test_they_are_found_among_other_files(tmp_path: Path) -> None:
    one, two, three = put(tmp_path / "split", *PARTS)
    elf, whole, again, text = put(tmp_path / "others", core_bytes([]), SAMPLE, SAMPLE, b"text")
    gone = str(tmp_path / "gone")
    paths = [elf, two, whole, gone, three, again, text, str(tmp_path), one]
    assert group_dumps(paths) == [
        [elf], [two, three, one], [whole], [gone], [again], [text], [str(tmp_path)],
    ]  # fmt: skip
    assert group_dumps([]) == []


def test_some_files_of_a_split_dump_are_one_dump(tmp_path: Path) -> None:
    one, two, three = put(tmp_path, *PARTS)
    assert group_dumps([one]) == [[one]]
    assert group_dumps([three, one]) == [[three, one]]
    assert group_dumps([two]) == [[two]]


def test_a_copy_of_a_part_is_another_dump(tmp_path: Path) -> None:
    one, two, three, copy = put(tmp_path, *PARTS, PARTS[1])
    assert group_dumps([one, two, three, copy]) == [[one, two, three], [copy]]
    assert group_dumps([copy, two, one, three]) == [[copy, one, three], [two]]
    assert group_dumps([one, one]) == [[one], [one]]


def test_two_copies_of_a_split_dump_are_two_dumps(tmp_path: Path) -> None:
    one, two, three, *copies = put(tmp_path, *PARTS, *PARTS)
    assert group_dumps([one, two, three, *copies]) == [[one, two, three], copies]
    for group in group_dumps([one, copies[2], copies[0], two, three, copies[1]]):
        assert all(open_dump(group).read(f * PAGE, PAGE, "page") == PAGES[f] for f in PAGES)


def test_parts_that_share_some_frames_are_of_two_dumps(tmp_path: Path) -> None:
    other = kdump(PAGES, EXCLUDED, notes=NOTES, part=(4000, 40002))
    one, two, three = put(tmp_path, PARTS[0], PARTS[1], other)
    assert group_dumps([one, two, three]) == [[one, two], [three]]
    assert group_dumps([one, three, two]) == [[one, three], [two]]


def test_parts_in_two_folders_are_two_dumps(tmp_path: Path) -> None:
    one, two = put(tmp_path / "a", *PARTS[:2])
    (three,) = put(tmp_path / "b", PARTS[2])
    assert group_dumps([one, three, two]) == [[one, two], [three]]


def test_a_folder_is_the_same_by_every_name_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = put(tmp_path / "a", *PARTS)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "third").symlink_to(three)
    monkeypatch.chdir(tmp_path)
    names = ["a/vmcore0", "./link/vmcore1", str(tmp_path / "third")]
    assert group_dumps(names) == [names]
    assert [os.path.realpath(name) for name in names] == [one, two, three]


def test_split_dumps_of_two_crashes_in_one_folder_are_two_dumps(tmp_path: Path) -> None:
    later = [
        kdump(PAGES, EXCLUDED, notes=NOTES, part=part, utsname=b"later", seconds=9)
        for part in RANGES
    ]
    one, two, three, *others = put(tmp_path, *PARTS, *later)
    paths = [others[2], one, others[0], three, two, others[1]]
    assert group_dumps(paths) == [[others[2], others[0], others[1]], [one, three, two]]


def test_flattened_parts_belong_together_too(tmp_path: Path) -> None:
    paths = put(tmp_path, *map(flattened, PARTS))
    assert group_dumps(paths) == [paths]
    assert open_dump(paths).read(500 * PAGE, PAGE, "page") == PAGES[500]


@FOLDERS
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sets(st.integers(1, 200), max_size=4)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_dumps_split_anywhere_are_found_in_any_order(
    tmp_path: Path, dumps: list[tuple[str, set[int]]], order: random.Random
) -> None:
    """Each dump is of its own crash; one of two files or more is split."""
    pages = {frame: bytes([frame]) * PAGE for frame in (0, 7, 99, 150, 200)}
    groups: list[set[str]] = []
    for number, (folder, cuts) in enumerate(dumps):
        borders = [0, *sorted(cuts), 201]
        parts = [*zip(borders, borders[1:])] if cuts else [None]
        its = set()
        for part in parts:
            path = tmp_path / folder / f"{number}-{part}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(kdump(pages, (), RAW, part=part, seconds=number))
            its.add(str(path))
        groups.append(its)
    paths = sorted(path for group in groups for path in group)
    order.shuffle(paths)
    found = group_dumps(paths)
    assert sorted(map(sorted, found)) == sorted(map(sorted, groups))
    assert [paths.index(group[0]) for group in found] == sorted(
        paths.index(group[0]) for group in found
    )
    for group in found:
        assert group == sorted(group, key=paths.index)
        dump = open_dump(group)
        assert all(dump.read(f * PAGE, PAGE, "page") == pages[f] for f in pages)


# Damaged headers


def damaged(content: bytes, first: int, last: int, data: st.DataObject) -> bytes:
    """Return a file with some of its bytes from ``first`` to ``last`` changed."""
    changed = bytearray(content)
    places = st.lists(st.integers(first, last), min_size=1, max_size=5, unique=True)
    for at in data.draw(places):
        changed[at] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


@settings(FOLDERS, max_examples=times(3))
@given(st.sampled_from([*permutations(range(3))]), st.integers(0, 2), st.data())
def test_a_part_with_a_damaged_header_leaves_the_others_together(
    tmp_path: Path, order: tuple[int, ...], which: int, data: st.DataObject
) -> None:
    contents = list(PARTS)
    contents[which] = damaged(contents[which], 0, HEADER.size - 1, data)
    paths = put(tmp_path, *contents)
    found = group_dumps([paths[i] for i in order])
    assert [paths[which]] in found
    assert [paths[i] for i in order if i != which] in found
    assert len(found) == 2


@settings(FOLDERS, max_examples=times(3))
@given(st.data())
def test_every_file_is_in_one_group_whatever_its_headers_say(
    tmp_path: Path, data: st.DataObject
) -> None:
    contents = [
        damaged(part, PAGE, PAGE + SUB_HEADER.size - 1, data) if data.draw(st.booleans()) else part
        for part in (*PARTS, PARTS[0])
    ]
    cut = data.draw(st.integers(0, 3 * PAGE))
    paths = put(tmp_path, *contents, PARTS[1][:cut])
    data.draw(st.randoms(use_true_random=False)).shuffle(paths)
    found = group_dumps(paths)
    assert sorted(path for group in found for path in group) == sorted(paths)
    for group in found:
        assert group == sorted(group, key=paths.index)
        with contextlib.suppress(P2mError):
            open_dump(group)
        if len(group) > 1:  # files that are opened together are never refused as another dump's
            open_dump(group)
