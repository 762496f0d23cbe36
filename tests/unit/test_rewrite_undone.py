# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a copy goes, and that nothing is left behind of one that failed."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pykdump_ext import rewrite
from pykdump_ext.errors import P2mError
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.p2m.framelist import FrameList
from pykdump_ext.rewrite import check_paths, rewrite_dump

from .made_up.copies import Broken, headers, list_by

# What goes wrong leaves nothing behind


def left(broken: Broken) -> list[str]:
    return sorted(path.name for path in broken.core.file.path.parent.iterdir())


def interrupt(done: int, size: int) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing(broken: Broken) -> None:
    before = broken.core.file.path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        rewrite_dump(broken.core, broken.found, broken.core.file.path.with_name("out"), interrupt)
    assert left(broken) == ["vmcore"]
    assert broken.core.file.path.read_bytes() == before


def test_a_full_disk_is_told_before_anything_is_copied(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = broken.core.file.path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))
    with pytest.raises(P2mError, match=r"has 0\.0 GB free, the copy takes 0\.0 GB"):
        rewrite_dump(broken.core, broken.found, broken.core.file.path.with_name("out"), interrupt)
    assert left(broken) == ["vmcore"]


def test_a_copy_whose_list_does_not_read_back_is_not_kept(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "read_list", lambda memory, mfn: FrameList(array("Q", [1])))
    with pytest.raises(P2mError, match="does not read back"):
        rewrite_dump(broken.core, broken.found, broken.core.file.path.with_name("out"))
    assert left(broken) == ["vmcore"]


def test_holes_stay_holes_and_a_clone_is_not_copied(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = broken.core.file.path
    with path.open("r+b") as file:  # of what no segment has
        file.truncate(path.stat().st_size + (64 << 20))
    core = ElfCore(path)
    out = path.with_name("out")
    assert rewrite_dump(core, broken.found, out)[2] is False
    assert out.stat().st_size > 64 << 20 > out.stat().st_blocks * 512
    copied = out.read_bytes()

    def clone(source: int, copy: int) -> bool:
        os.pwrite(copy, os.pread(source, 1 << 30, 0), 0)
        return True

    monkeypatch.setattr(rewrite, "_cloned", clone)
    assert rewrite_dump(core, broken.found, out, interrupt)[2] is True
    body = headers(path)[0][2]
    assert out.read_bytes()[body:] == copied[body:]
    assert list_by(ElfCore(out))


# Where the copy goes

Place = Callable[[Path, Path], None]


def symlinked(vmcore: Path, out: Path) -> None:
    out.symlink_to(vmcore)


def hard_linked(vmcore: Path, out: Path) -> None:
    out.hardlink_to(vmcore) if hasattr(out, "hardlink_to") else os.link(vmcore, out)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("place", [symlinked, hard_linked])
def test_never_onto_the_input(tmp_path: Path, place: Place, force: bool) -> None:
    vmcore, out = tmp_path / "vmcore", tmp_path / "out"
    vmcore.write_bytes(b"dump")
    place(vmcore, out)
    for target in (out, vmcore, tmp_path / "." / "vmcore"):
        with pytest.raises(P2mError, match="is the dump itself, which is never written"):
            check_paths(vmcore, target, force)


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    vmcore, out = tmp_path / "vmcore", tmp_path / "out"
    vmcore.write_bytes(b"dump")
    check_paths(vmcore, out, False)
    out.write_bytes(b"mine")
    check_paths(vmcore, out, True)
    with pytest.raises(P2mError, match="exists; name another file, or use --force"):
        check_paths(vmcore, out, False)
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    with pytest.raises(P2mError, match="exists"):
        check_paths(vmcore, dangling, False)
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(P2mError, match="is not a file"):
            check_paths(vmcore, target, True)
    with pytest.raises(P2mError, match="no such folder"):
        check_paths(vmcore, tmp_path / "none" / "out", False)
