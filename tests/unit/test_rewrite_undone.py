# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of dumps that come to nothing: what is left of them, and what they do not replace."""

from __future__ import annotations

import filecmp
import multiprocessing
import os
import shutil
import signal
from array import array
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.machine.dumps import is_dump, open_dump
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.outputs import write_at
from pykdump_ext.p2m.framelist import FrameList
from pykdump_ext.rewrite import copies as rewrite
from pykdump_ext.rewrite.copies import copy_dump, rewrite_dump

from .made_up.copies import Broken, headers, list_by

pytestmark = pytest.mark.usefixtures("way")


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

    out.unlink()
    monkeypatch.setattr(rewrite, "_cloned", clone)
    assert rewrite_dump(core, broken.found, out, interrupt)[2] is True
    body = headers(path)[0][2]
    assert out.read_bytes()[body:] == copied[body:]
    assert list_by(ElfCore(out))


# Killed


def killed(run: Callable[[], object]) -> None:
    """Call ``run`` in a process that kills itself, as ``kill -9`` does."""
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_the_end(done: int, size: int) -> None:
    if done == size:
        kill()


def no_dump_is_left(folder: Path, unnamed: bool) -> None:
    names = sorted(path.name for path in folder.iterdir())
    names.remove("vmcore")
    if unnamed:
        assert names == []
        return
    (name,) = names
    assert name.startswith(".p2mfix-")
    assert not is_dump(folder / name)
    with pytest.raises(P2mError):
        open_dump([folder / name])


@pytest.mark.parametrize("moment", [kill, kill_at_the_end])
@pytest.mark.parametrize("rebuilt", [True, False])
def test_kill_9_while_it_copies_leaves_no_dump(
    broken: Broken, way: bool, moment: Callable[[int, int], None], rebuilt: bool
) -> None:
    path = broken.core.file.path
    out = path.with_name("out")
    if rebuilt:
        killed(lambda: rewrite_dump(broken.core, broken.found, out, moment))
    else:
        killed(lambda: copy_dump(path, out, moment))
    no_dump_is_left(path.parent, way)


@pytest.mark.parametrize("cloned", [True, False])
def test_kill_9_while_the_list_is_written_leaves_no_dump(
    broken: Broken, way: bool, cloned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source: int, copy: int) -> bool:
        if cloned:
            os.pwrite(copy, os.pread(source, 1 << 30, 0), 0)
        return cloned

    monkeypatch.setattr(rewrite, "_cloned", clone)
    monkeypatch.setattr(rewrite, "write_at", kill)
    path = broken.core.file.path
    killed(lambda: rewrite_dump(broken.core, broken.found, path.with_name("out")))
    no_dump_is_left(path.parent, way)


def test_the_header_is_written_last(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: bytes, offset: int) -> None:
        written.append(offset)
        write_at(fd, data, offset)

    written: list[int] = []
    monkeypatch.setattr(rewrite, "write_at", write)
    rewrite_dump(broken.core, broken.found, broken.core.file.path.with_name("out"))
    assert len(written) > 2 and written.index(0) == len(written) - 1


# What is not replaced


def test_what_came_meanwhile_stays(broken: Broken) -> None:
    def other(done: int, size: int) -> None:
        out.write_bytes(b"mine")

    path = broken.core.file.path
    out = path.with_name("out")
    with pytest.raises(P2mError, match="out: exists; name another file, or use --force"):
        rewrite_dump(broken.core, broken.found, out, other)
    assert out.read_bytes() == b"mine"
    assert left(broken) == ["out", "vmcore"]
    rewrite_dump(broken.core, broken.found, out, other, replace=True)
    assert is_dump(out)


@pytest.mark.parametrize("replace", [False, True])
def test_a_dump_that_came_meanwhile_stays_whatever_was_asked(broken: Broken, replace: bool) -> None:
    path = broken.core.file.path
    out = path.with_name("out")

    def other(done: int, size: int) -> None:
        out.write_bytes(path.read_bytes() + b"other")

    with pytest.raises(P2mError, match="out: is a dump, which is never replaced"):
        rewrite_dump(broken.core, broken.found, out, other, replace=replace)
    assert out.read_bytes().endswith(b"other")
    assert left(broken) == ["out", "vmcore"]


def test_the_dump_itself_is_never_replaced(broken: Broken) -> None:
    path = broken.core.file.path
    before = path.read_bytes()
    os.link(path, path.with_name("hard"))
    path.with_name("soft").symlink_to(path)
    for name in ("vmcore", "hard", "soft"):
        with pytest.raises(P2mError, match=f"{name}: is {path}, which is never written"):
            rewrite_dump(broken.core, broken.found, path.with_name(name), replace=True)
    assert path.read_bytes() == before
    assert left(broken) == ["hard", "soft", "vmcore"]


# A dump whose list is whole


@pytest.mark.parametrize("more", [0, 1, 64 << 20])
def test_a_copy_as_it_is_has_the_same_bytes_and_mode(broken: Broken, more: int) -> None:
    path = broken.core.file.path
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + more)
    path.chmod(0o440)
    out = path.with_name("out")
    shown: list[tuple[int, int]] = []
    copy_dump(path, out, lambda done, size: shown.append((done, size)))
    assert filecmp.cmp(path, out, shallow=False)
    assert out.stat().st_mode & 0o777 == 0o440
    assert out.stat().st_blocks * 512 <= path.stat().st_blocks * 512 + 8192
    assert not shown or shown[-1] == (path.stat().st_size, path.stat().st_size)
