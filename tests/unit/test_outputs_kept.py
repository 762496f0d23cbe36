# SPDX-License-Identifier: GPL-3.0-or-later
"""What is never written: what is open, dumps, namelists, and whatever may be one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.outputs import check_target, new_file, write_file
from tests.lab.kdump import flattened, kdump

from .made_up.core import Segment, core_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def page(path: Path) -> None:
    write_file(str(path), b"<html>")


def copy(path: Path) -> None:
    with new_file(path) as (fd, _):
        os.write(fd, b"copy")


WRITERS = [page, copy]
Writer = Callable[[Path], None]


@pytest.fixture(params=WRITERS, ids=lambda writer: writer.__name__)
def write(request: pytest.FixtureRequest) -> Writer:
    writer: Writer = request.param
    return writer


# What the command was given


def symlinked(dump: Path, out: Path) -> None:
    out.symlink_to(dump)


def hard_linked(dump: Path, out: Path) -> None:
    os.link(dump, out)


def twice(dump: Path, out: Path) -> None:
    (out.parent / "between").symlink_to(dump)
    out.symlink_to("between")


PLACES = pytest.mark.parametrize("place", [symlinked, hard_linked, twice])
Place = Callable[[Path, Path], None]


@PLACES
def test_an_input_is_never_written_by_any_name(tmp_path: Path, place: Place) -> None:
    dump, other, out = tmp_path / "vmcore", tmp_path / "vmlinux", tmp_path / "out"
    dump.write_bytes(b"dump")
    other.write_bytes(b"kernel")
    place(dump, out)
    before = names(tmp_path)
    for name in (str(out), str(dump), f"{tmp_path}/./vmcore"):
        for inputs in ([str(dump)], [str(other), str(dump)]):
            with pytest.raises(P2mError, match=f"{Path(name)}: is {dump}"):
                write_file(name, b"picture", inputs)
            for replace in (False, True):
                with pytest.raises(P2mError, match=f": is {dump}, which is never written"):
                    check_target(Path(name), inputs, replace)
    assert (dump.read_bytes(), names(tmp_path)) == (b"dump", before)


# What is open


@PLACES
@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_what_is_open_is_never_written(
    tmp_path: Path, place: Place, mode: str, write: Writer
) -> None:
    """crash opens a dump for reading and writing where it may."""
    dump, out = tmp_path / "part", tmp_path / "out"
    dump.write_bytes(b"of a format that nobody knows")
    place(dump, out)
    with dump.open(mode):
        for path in (dump, out):
            with pytest.raises(P2mError, match=f"{path}: is {dump}, which is open here"):
                write(path)
    assert dump.read_bytes() == b"of a format that nobody knows"
    write(dump)


def test_what_is_open_and_has_another_name_by_now_is_never_written(
    tmp_path: Path, write: Writer
) -> None:
    dump = tmp_path / "part"
    dump.write_bytes(b"content")
    with dump.open("rb"):
        moved = dump.rename(tmp_path / "moved")
        with pytest.raises(P2mError, match=r"moved: is .*which is open here"):
            write(moved)
    assert moved.read_bytes() == b"content"


def test_a_log_that_is_only_written_may_be_replaced(tmp_path: Path, write: Writer) -> None:
    out = tmp_path / "out"
    with out.open("ab"):
        write(out)
    assert out.read_bytes() in (b"<html>", b"copy")


# What it is, by its first bytes


def tar(inside: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("var/crash/vmcore")
        member.size = len(inside)
        archive.addfile(member, io.BytesIO(inside))
    return stream.getvalue()


def zipped(inside: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("vmcore", inside)
    return stream.getvalue()


CORE = core_bytes([Segment(0, bytes(4096))])
PAGES = {number: bytes([number + 1]) * 4096 for number in range(4)}
KERNEL = bytes(0x1F1) + b"\1" + bytes(0x10) + b"HdrS" + bytes(1000)
DUMPS = {
    "ELF": CORE,
    "kdump-compressed": kdump(PAGES),
    "part of a split dump": kdump(PAGES, part=(0, 2)),
    "flattened": flattened(CORE),
    "flattened, kdump-compressed": flattened(kdump(PAGES)),
    "cut off": CORE[:100],
    "diskdump": b"DISKDUMP" + bytes(4096),
    "lkcd": (0xA8190173618F23ED).to_bytes(8, "little") + bytes(4096),
    "qemu": b"QEVM" + bytes(4096),
    "windows": b"PAGEDU64" + bytes(4096),
    "xm dump-core": struct.pack("<I", 0xF00FEBED) + bytes(4096),
    "vmss": struct.pack("<I", 0xBED2BED2) + bytes(4096),
}
OTHERS = {
    "vmlinux": (CORE[:16] + b"\2\0" + CORE[18:], "an ELF file, such as a vmlinux"),
    "module": (CORE[:16] + b"\1\0" + CORE[18:], "an ELF file, such as a vmlinux"),
    "vmlinuz": (KERNEL, "a bootable kernel"),
    "vmlinuz for EFI": (b"MZ" + KERNEL[2:], "a bootable kernel"),
    "System.map": (b"0000000000000000 D __per_cpu_start\n", "a System.map"),
    "its end": (b"ffffffff82e00000 B __brk.limit\n", "a System.map"),
    "compress": (b"\x1f\x9d\x90" + bytes(100), "a compressed file or an archive"),
    "gzip": (gzip.compress(CORE), "a compressed file or an archive"),
    "bzip2": (bz2.compress(CORE), "a compressed file or an archive"),
    "xz": (lzma.compress(CORE), "a compressed file or an archive"),
    "lzma": (lzma.compress(CORE, lzma.FORMAT_ALONE), "a compressed file or an archive"),
    "tar": (tar(CORE), "a compressed file or an archive"),
    "zip": (zipped(CORE), "a compressed file or an archive"),
}
KEPT = {name: (content, "a dump") for name, content in DUMPS.items()} | OTHERS


@pytest.mark.parametrize("name", KEPT)
def test_what_may_be_a_dump_or_a_namelist_is_never_replaced(
    tmp_path: Path, name: str, write: Writer
) -> None:
    content, kind = KEPT[name]
    out, link = tmp_path / "out", tmp_path / "link"
    out.write_bytes(content)
    link.symlink_to("out")
    for path in (out, link):
        with pytest.raises(P2mError, match=f"^{path}: is {kind}.*, which is never replaced; name"):
            write(path)
        with pytest.raises(P2mError, match="which is never replaced"):
            check_target(path, replace=True)
    assert out.read_bytes() == content
    assert names(tmp_path) == ["link", "out"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 2000, b"old", b"<svg>", b"\x89PNG\r\n\x1a\n", b"deadbeef\n", b"cafe A b"],
)
def test_anything_else_is_replaced(tmp_path: Path, content: bytes, write: Writer) -> None:
    (tmp_path / "out").write_bytes(content)
    write(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() in (b"<html>", b"copy")
    assert names(tmp_path) == ["out"]


def test_what_comes_meanwhile_is_looked_at_as_well(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for there in (False, True):
        out.unlink(missing_ok=True)
        if there:
            out.write_bytes(b"old")
        with pytest.raises(P2mError, match="out: is a dump"), new_file(out) as (fd, _):
            os.write(fd, b"new")
            (tmp_path / "other").write_bytes(CORE)
            (tmp_path / "other").rename(out)
        assert (names(tmp_path), out.read_bytes()) == (["out"], CORE)


def test_what_gives_an_error_when_read_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    out = tmp_path / "out"
    out.write_bytes(b"old")
    monkeypatch.setattr("pykdump_ext.outputs.kind_of", refuse)
    with pytest.raises(P2mError, match=r"may be a dump, because it cannot be read \(Permission"):
        write(out)
    assert out.read_bytes() == b"old"


def test_a_disk_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    try:
        os.mknod(disk, 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    except OSError:
        pytest.skip("only root makes devices")
    for write in WRITERS:
        with pytest.raises(P2mError, match="disk: is a disk, which is never written"):
            write(disk)


def test_a_file_in_the_place_of_a_pipe_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(path: Path, *_: object) -> None:
        path.unlink()
        path.write_bytes(CORE)

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr("pykdump_ext.outputs._refuse", swap)
    with pytest.raises(P2mError, match="was no file, and is one now"):
        page(pipe)
    assert pipe.read_bytes() == CORE


# What is there


def test_what_is_there_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out, dangling = tmp_path / "out", tmp_path / "dangling"
    assert check_target(out, replace=False) == out
    out.write_bytes(b"mine")
    assert check_target(out, replace=True) == out
    dangling.symlink_to("nowhere")
    assert check_target(dangling, replace=True) == tmp_path / "nowhere"
    for path in (out, dangling):
        with pytest.raises(P2mError, match="exists; name another file, or use --force"):
            check_target(path, replace=False)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(P2mError, match="is not a file"):
            check_target(path)
    with pytest.raises(P2mError, match="no such folder"):
        check_target(tmp_path / "none" / "out")


def test_a_file_under_a_name_that_was_guessed_is_not_touched(tmp_path: Path) -> None:
    """Whoever writes into the same folder cannot have a file of ours go through a link."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for name in (f"out.{os.getpid()}", "out.tmp", ".out", ".p2mfix-", "out~"):
        (tmp_path / name).symlink_to(victim)
    page(tmp_path / "out")
    assert victim.read_bytes() == b"mine"
