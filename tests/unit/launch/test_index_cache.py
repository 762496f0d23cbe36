# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder for gdb's index of a kernel: whose it is, and what gdb may read in it."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.launch import index_cache as module
from pykdump_ext.launch.index_cache import KERNELS, index_cache, index_folder, is_whole

BUILD_ID = "eb4fbcd037e7253717950bf2b93bd5566f47c56f.gdb-index"


def made_up_index(names: list[str], version: int = 8) -> bytes:
    """Return an index as gdb writes it: one unit, no addresses, a slot or two for each name."""
    fields = 6 if version == 9 else 5
    start = 4 + 4 * fields
    slots = 1 << (2 * len(names)).bit_length()
    pool = b"".join(struct.pack("<II", 1, number) for number in range(len(names)))
    table = bytearray(8 * slots)
    for number, name in enumerate(names):
        struct.pack_into("<II", table, 16 * number, len(pool), 8 * number)
        pool += name.encode() + b"\0"
    symbols = start + 16
    behind = symbols + len(table)
    shortcuts = [behind] if version == 9 else []
    strings = behind + 8 * len(shortcuts)
    starts = [start, symbols, symbols, symbols, *shortcuts, strings]
    head = struct.pack(f"<{1 + fields}I", version, *starts)
    return head + bytes(16) + table + bytes(8 * len(shortcuts)) + pool


INDEX = made_up_index(["main", "schedule", "task_struct"])
names = st.lists(st.text("abc_", min_size=1), min_size=1, max_size=5)


@given(names, st.sampled_from([8, 9]))
def test_an_index_is_whole_until_it_lacks_a_byte_of_its_end(names: list[str], version: int) -> None:
    index = made_up_index(names, version)
    assert is_whole(index)
    assert not any(is_whole(index[:size]) for size in range(len(index)))


@given(st.binary(max_size=200))
def test_any_other_file_is_no_index(data: bytes) -> None:
    assert not is_whole(data)
    for version in (6, 10):  # what no known gdb writes
        assert not is_whole(
            made_up_index(["main"], version=8).replace(b"\x08", bytes([version]), 1)
        )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pykdump-ext" / "gdb-index"


@pytest.fixture
def vmlinux(tmp_path: Path) -> str:
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF")
    return str(path)


@pytest.fixture
def other() -> Iterator[int]:
    """A process that is not this one."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def folder_for(vmlinux: str, process: int = 0, version: str = "9.0.2") -> Path | None:
    return index_folder(version, [vmlinux], process or os.getpid())


def written(vmlinux: str, data: bytes = INDEX) -> Path:
    """Have a first session write an index; return the file."""
    folder = folder_for(vmlinux)
    assert folder is not None and not [*(folder / "gdb").iterdir()]
    file = folder / "gdb" / BUILD_ID
    file.write_bytes(data)
    return file


def test_a_kernel_has_a_folder_that_only_its_user_can_enter(cache: Path, vmlinux: str) -> None:
    folder = folder_for(vmlinux)
    assert folder == cache / "1" == folder_for(vmlinux)
    for path in (cache.parent, cache):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    cache.chmod(0o777)
    assert folder_for(vmlinux) == folder
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_an_index_is_kept_as_it_was_written(cache: Path, vmlinux: str) -> None:
    file = written(vmlinux)
    for _ in range(3):
        assert folder_for(vmlinux) == file.parent.parent
        assert file.read_bytes() == INDEX


@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_index_is_removed(cache: Path, vmlinux: str, seen: bool) -> None:
    file = written(vmlinux)
    if seen:
        folder_for(vmlinux)
        file.write_bytes(INDEX.replace(b"schedule", b"scheduld"))  # which no other check notices
    else:
        file.write_bytes(INDEX[:-1])
    assert folder_for(vmlinux) == file.parent.parent and not file.exists()


def test_what_is_no_file_of_this_user_is_removed(
    cache: Path, vmlinux: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(vmlinux)
    kept = tmp_path / "kept"
    kept.write_bytes(INDEX)
    for make in (
        lambda: file.symlink_to(kept),
        lambda: os.mkfifo(file),
        file.mkdir,
        lambda: file.with_name(f"{BUILD_ID}-x1y2z3").write_bytes(INDEX),  # of a killed session
    ):
        file.unlink(missing_ok=True)
        make()
        assert folder_for(vmlinux) and not [*file.parent.iterdir()]
    assert kept.read_bytes() == INDEX
    file.write_bytes(INDEX)
    owner = os.fstat

    def foreign(fd: int) -> os.stat_result:
        found = [*owner(fd)]
        found[4] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", foreign)
    assert folder_for(vmlinux) and not file.exists()


def test_what_another_boot_left_unchecked_is_removed(
    cache: Path, vmlinux: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(vmlinux)
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(module, "BOOT_ID", boot)
    assert folder_for(vmlinux) and not file.exists()
    file.write_bytes(INDEX)
    assert folder_for(vmlinux) and file.exists()
    boot.write_text("and another\n")  # it has been checked, and is on the disk
    assert folder_for(vmlinux) and file.exists()


def test_while_one_session_writes_another_uses_nothing(
    cache: Path, vmlinux: str, other: int
) -> None:
    folder = folder_for(vmlinux, other)
    assert folder is not None
    unfinished = folder / "gdb" / f"{BUILD_ID}-x1y2z3"
    unfinished.write_bytes(INDEX[:-1])
    assert folder_for(vmlinux) is None
    unfinished.rename(folder / "gdb" / BUILD_ID)
    assert folder_for(vmlinux) is None  # and the other one's file is gone
    (folder / "gdb" / BUILD_ID).write_bytes(INDEX)
    assert folder_for(vmlinux) == folder  # it is finished


def test_a_start_does_not_wait_for_a_stopped_one(cache: Path, vmlinux: str) -> None:
    folder = folder_for(vmlinux)
    with (cache / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert folder_for(vmlinux) is None
    assert folder_for(vmlinux) == folder


def test_a_changed_kernel_and_another_crash_have_folders_of_their_own(
    cache: Path, vmlinux: str
) -> None:
    first = folder_for(vmlinux)
    assert folder_for(vmlinux, version="9.1.0") not in (first, None)
    Path(vmlinux).write_bytes(b"\x7fELF, with other debug information")
    assert folder_for(vmlinux) not in (first, None)


def test_the_least_recently_used_kernel_makes_room(cache: Path, tmp_path: Path) -> None:
    vmlinuxes = [tmp_path / f"vmlinux-{number}" for number in range(KERNELS + 1)]
    for path in vmlinuxes:
        path.write_bytes(b"\x7fELF")
    folders = {}
    for number, path in enumerate(vmlinuxes[:-1]):
        folders[path] = folder_for(str(path))
        used = folders[path]
        assert used is not None
        os.utime(used / "kernel", (number, number))
    assert len({*folders.values()}) == KERNELS
    assert folder_for(str(vmlinuxes[0])) == folders[vmlinuxes[0]]  # is used
    assert folder_for(str(vmlinuxes[-1])) == folders[vmlinuxes[1]]
    assert len([path for path in cache.iterdir() if path.is_dir()]) == KERNELS


@pytest.mark.parametrize("version", ["7.2.9", "8.0.2", "8.0.6", ""])
def test_an_older_crash_has_no_index(cache: Path, vmlinux: str, version: str) -> None:
    assert folder_for(vmlinux, version=version) is None and not cache.exists()


def test_no_cache_is_made_where_it_would_not_be_this_users(
    tmp_path: Path, cache: Path, vmlinux: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cache.symlink_to(elsewhere)
    assert folder_for(vmlinux) is None and not [*elsewhere.iterdir()]
    cache.unlink()
    cache.write_text("a file")
    assert folder_for(vmlinux) is None
    cache.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # as with sudo
    assert folder_for(vmlinux) is None and not cache.exists()


def test_the_cache_is_where_xdg_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert index_cache() == tmp_path / ".cache/pykdump-ext/gdb-index"
