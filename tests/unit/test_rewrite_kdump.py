# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of kdump-compressed dumps with a whole list."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.machine.kdump import KdumpFile
from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.rewrite.copies import rewrite_dump
from pykdump_ext.rewrite.kdump import PLACES_AT
from tests.lab.kdump import kdump

from .made_up.copies import diagnosed, notes_of
from .made_up.guest import Guest, guest_with
from .made_up.p2m import P2M, P2m

LAYOUTS = ("two-level", "three-level", "linear")


def written(guest: Guest, path: Path, excluded: set[int], frames: int) -> KdumpFile:
    """Write a guest's machine with these frames as excluded ones, and open it."""
    pages = {mfn: bytes(page) for mfn, page in guest.machine.pages.items() if mfn < 1 << 24}
    changes: dict[str, Any] = {"max_mapnr": frames, "max_mapnr_64": frames}
    path.write_bytes(kdump(pages, excluded, notes=notes_of(guest), **changes))
    core = open_dump([path])
    assert isinstance(core, KdumpFile)
    return core


def small(p2m: P2m = P2M, layout: str = "linear") -> Guest:
    guest, _ = guest_with(layout, p2m, 1)
    return guest


@given(st.integers(0, 2**32), st.sampled_from(LAYOUTS))
def test_the_copy_has_the_list_and_every_page_that_was_there(seed: int, layout: str) -> None:
    random, guest = Random(seed), small(layout=layout)
    used = {*guest.machine.pages}
    excluded = {random.randrange(max(used) + 3000) for _ in range(random.choice((0, 5, 900)))}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "vmcore", Path(folder) / "out"
        core = written(guest, path, excluded - used, max(used) + 4000)
        before = path.read_bytes()
        found = diagnosed(guest, core)
        assert not found.healthy
        pages, _, cloned = rewrite_dump(core, found, out)
        assert not cloned and path.read_bytes() == before
        copy = open_dump([out])
        assert diagnosed(guest, copy).healthy
        for mfn in [*used, *random.choices(range(max(used) + 4000), k=200)]:
            if not pages.mfn <= mfn < pages.mfn + pages.frames:
                assert answer(copy, mfn) == answer(core, mfn), hex(mfn)


def answer(core: object, mfn: int) -> object:
    try:
        return core.read(mfn * PAGE_SIZE, PAGE_SIZE, "page")  # type: ignore[attr-defined]
    except P2mError as error:
        return str(error)


def test_a_dump_without_room_for_a_list_is_told_what_to_do_with(tmp_path: Path) -> None:
    guest = small()
    last = max(guest.machine.pages)
    core = written(guest, tmp_path / "vmcore", set(range(last)), last + 1)
    with pytest.raises(P2mError, match="has no 4 machine frames in a row without a page"):
        rewrite_dump(core, diagnosed(guest, core), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["vmcore"]


def test_a_dump_that_is_cut_in_its_descriptors_is_told_so(tmp_path: Path) -> None:
    guest = small()
    core = written(guest, tmp_path / "vmcore", set(), max(guest.machine.pages) + 4000)
    found = diagnosed(guest, core)
    places = core.places()
    with (tmp_path / "vmcore").open("r+b") as file:
        file.truncate(places.descriptors + 100)
    with pytest.raises(P2mError, match="ends inside its descriptors of pages"):
        rewrite_dump(core, found, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_damaged_stays_as_it_is(tmp_path: Path) -> None:
    guest = small()
    path, out = tmp_path / "vmcore", tmp_path / "out"
    written(guest, path, set(), max(guest.machine.pages) + 4000)
    at = PAGE_SIZE + PLACES_AT[2]  # of eraseinfo
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 8)
    core = open_dump([path])
    assert isinstance(core, KdumpFile)
    rewrite_dump(core, diagnosed(guest, core), out)
    assert out.read_bytes()[at : at + 8] == b"\xff" * 8
