"""Copies of dumps with the rebuilt list in them, of machines made up."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykdump_ext import rewrite
from pykdump_ext.cli import rewrite as command
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.kernel import XEN_ELFNOTE_CRASH_INFO, XEN_ELFNOTE_CRASH_REGS, xen_info
from pykdump_ext.memory import ElfCore
from pykdump_ext.p2m import Diagnosis, FrameList, Kind, diagnose
from pykdump_ext.rewrite import LARGEST_LIST, check_paths, list_pages, rewrite_dump
from tests.lab.kdump import kdump

from .machine import LAYOUTS, NOTHING, PAGE, Guest, P2m, guest_with
from .strategies import p2ms
from .test_memory import EHDR, PHDR, PT_NOTE, Segment, core_bytes, note

P2M = P2m(2048, {0: [(Kind.MEMORY, 0x5000 + i) for i in range(512)],
                 2: [(Kind.MEMORY, 0x9000 + i) for i in range(512)]})  # fmt: skip
FRAME_TABLE = 0xFFFF82E000000000
PAGE_INFO = 32


def notes_of(guest: Guest, *more: bytes) -> bytes:
    info = struct.pack("<9Q", 4, 17, *range(6), guest.list_mfn) + b"odd"
    cr3 = struct.pack("<4Q", 0, 0, guest.root, 0)
    return b"".join((
        note(b"CORE", 1, b"registers"),
        note(b"Xen", XEN_ELFNOTE_CRASH_REGS, cr3),
        note(b"Xen", XEN_ELFNOTE_CRASH_INFO, info),
        *more,
    ))  # fmt: skip


def segments_of(guest: Guest, *more: bytes) -> list[Segment]:
    return [
        Segment(0, notes_of(guest, *more), PT_NOTE),
        *(Segment(mfn * PAGE, bytes(page)) for mfn, page in sorted(guest.machine.pages.items())),
    ]


def diagnosed(guest: Guest, core: ElfCore) -> Diagnosis:
    info = xen_info(core.notes)
    assert info is not None
    return diagnose(core, guest.symbols, guest.banner, info)


class Broken(NamedTuple):
    """A dump whose list ends after its first leaf."""

    guest: Guest
    core: ElfCore
    found: Diagnosis


def broken_dump(
    folder: Path, p2m: P2m = P2M, layout: str = "linear", room: int = 200, *more: bytes
) -> Broken:
    guest, _ = guest_with(layout, p2m, 1)
    path = folder / "vmcore"
    path.write_bytes(core_bytes(segments_of(guest, *more), room=room))
    core = ElfCore(path)
    return Broken(guest, core, diagnosed(guest, core))


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    return broken_dump(tmp_path)


def list_by(core: ElfCore) -> dict[int, int]:
    """What crash makes of a list: leaves, in order, up to a zero among the list's pages."""
    info = xen_info(core.notes)
    assert info is not None

    def words(mfn: int) -> tuple[int, ...]:
        return struct.unpack("<512Q", core.read(mfn * PAGE, PAGE, "list"))

    leaves: list[int] = []
    for page in words(info.frame_list_mfn):
        assert page
        leaves += words(page)
    assert all(leaves) and len(leaves) == 512 * 512
    entries: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        if leaf != leaves[-1]:
            entries |= {number * 512 + i: entry for i, entry in enumerate(words(leaf))}
    assert words(leaves[-1]) == (NOTHING,) * 512
    return entries


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("room", [0, 56, 4096])
@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_copys_list_leads_to_all_memory_and_the_rest_is_as_it_was(
    tmp_path: Path, layout: str, room: int, data: st.DataObject
) -> None:
    p2m = data.draw(p2ms(layout))
    broken = broken_dump(tmp_path, p2m, layout, room)
    out = tmp_path / "out"
    pages, _, _ = rewrite_dump(broken.core, broken.found, out)

    copy = ElfCore(out)
    listed = list_by(copy)
    assert {pfn: listed[pfn] for pfn in p2m.memory()} == p2m.memory()
    assert diagnosed(broken.guest, copy).healthy

    for mfn, page in broken.guest.machine.pages.items():
        assert copy.read(mfn * PAGE, PAGE, "page") == bytes(page)
        assert not pages.mfn <= mfn < pages.mfn + pages.frames
    for before, after in zip(broken.core.notes, copy.notes):
        if before.type == XEN_ELFNOTE_CRASH_INFO:
            last = pages.top.to_bytes(8, "little") + b"odd"
            assert after.data == before.data[:-11] + last
        else:
            assert after == before
    assert len(copy.notes) == len(broken.core.notes)


def test_the_dump_is_not_written_and_the_copy_is_no_more_readable(broken: Broken) -> None:
    before = broken.core.file.path.read_bytes()
    broken.core.file.path.chmod(0o440)
    out = broken.core.file.path.with_name("out")
    rewrite_dump(broken.core, broken.found, out)
    assert broken.core.file.path.read_bytes() == before
    assert out.stat().st_mode & 0o777 == 0o440
    assert sorted(p.name for p in out.parent.iterdir()) == ["out", "vmcore"]


def headers(path: Path) -> list[tuple[int, ...]]:
    content = path.read_bytes()
    header = EHDR.unpack_from(content)
    count = header[10]
    if count == rewrite.PN_XNUM:
        count = struct.unpack_from("<I", content, header[6] + rewrite.SH_INFO)[0]
    return [PHDR.unpack_from(content, header[5] + n * PHDR.size) for n in range(count)]


@pytest.mark.parametrize(("room", "moved"), [(0, 4096), (55, 4096), (56, 0)])
def test_where_there_is_no_room_for_a_program_header_the_contents_move_on(
    tmp_path: Path, room: int, moved: int
) -> None:
    broken = broken_dump(tmp_path, P2M, "linear", room)
    rewrite_dump(broken.core, broken.found, tmp_path / "out")
    old, new = headers(broken.core.file.path), headers(tmp_path / "out")
    assert len(new) == len(old) + 1
    assert new[0][0] == PT_NOTE and new[0][2] == old[0][2] + moved
    starts = [paddr for _, _, _, _, paddr, *_ in new[1:]]
    assert starts == sorted(starts)
    assert {h[2] - moved for h in new} > {h[2] for h in old}


def test_a_count_of_program_headers_in_the_first_section_is_raised(tmp_path: Path) -> None:
    broken = broken_dump(tmp_path)
    path = broken.core.file.path
    content = bytearray(path.read_bytes())
    count = struct.unpack_from("<H", content, 56)[0]
    struct.pack_into("<Q", content, 40, len(content))  # e_shoff
    struct.pack_into("<HHH", content, 56, rewrite.PN_XNUM, 64, 1)  # e_phnum, e_shentsize, e_shnum
    path.write_bytes(content + bytes(rewrite.SH_INFO) + struct.pack("<I", count) + bytes(16))
    core = ElfCore(path)
    rewrite_dump(core, diagnosed(broken.guest, core), tmp_path / "out")
    assert len(headers(tmp_path / "out")) == count + 1
    assert diagnosed(broken.guest, ElfCore(tmp_path / "out")).healthy


def test_what_a_cut_off_dump_lacks_is_not_made_up(broken: Broken, tmp_path: Path) -> None:
    path = broken.core.file.path
    last = max(broken.guest.machine.pages)
    os.truncate(path, path.stat().st_size - 100)
    core = ElfCore(path)
    rewrite_dump(core, broken.found, tmp_path / "out")
    copy = ElfCore(tmp_path / "out")
    assert copy.read(last * PAGE, PAGE - 100, "x") == core.read(last * PAGE, PAGE - 100, "x")
    with pytest.raises(ReadError):
        copy.read(last * PAGE, PAGE, "x")


# Frames for the list


def with_frame_table(tmp_path: Path, nobodys: int) -> tuple[Broken, int]:
    """A dump with Xen's frame table in it, by which only the gap before ``nobodys`` is free."""
    guest, _ = guest_with("linear", P2M, 1)
    frames = sorted(guest.machine.pages)
    gap = frames[nobodys] - 6  # the machine's frames are seven apart
    for page in {mfn * PAGE_INFO // PAGE for mfn in range(frames[0], frames[-1] + 64)}:
        mfn = guest.machine.frame([1] * 512)
        guest.space.map(FRAME_TABLE + page * PAGE, mfn)
        for at in range(gap, gap + 6):
            if at * PAGE_INFO // PAGE == page:
                start = at * PAGE_INFO % PAGE
                guest.machine.pages[mfn][start : start + PAGE_INFO] = bytes(PAGE_INFO)
    guest.variable("xen_frame_table", FRAME_TABLE)
    says = f"PAGESIZE=4096\nSYMBOL(frame_table)={guest.symbols['xen_frame_table']:x}\n"
    says += f"SIZE(page_info)={PAGE_INFO}\n"
    path = tmp_path / "vmcore"
    more = note(b"VMCOREINFO_XEN", 0, says.encode().ljust(4000, b"\0"))
    path.write_bytes(core_bytes(segments_of(guest, more), room=100))
    core = ElfCore(path)
    return Broken(guest, core, diagnosed(guest, core)), gap


@pytest.mark.parametrize("nobodys", [1, 9, 20])
def test_the_list_goes_where_xen_has_memory_that_is_nobodys(tmp_path: Path, nobodys: int) -> None:
    broken, gap = with_frame_table(tmp_path, nobodys)
    pages, unused, _ = rewrite_dump(broken.core, broken.found, tmp_path / "out")
    assert unused
    assert gap <= pages.mfn and pages.mfn + pages.frames <= gap + 6


def test_without_xens_table_the_list_goes_behind_everything(broken: Broken, tmp_path: Path) -> None:
    pages, unused, _ = rewrite_dump(broken.core, broken.found, tmp_path / "out")
    assert not unused
    assert pages.mfn == max(broken.guest.machine.pages) + 1


class Everything(rewrite.XenFrames):
    """A Xen that would give away any frame."""

    def __init__(self) -> None:
        pass

    def unused(self, mfn: int, count: int) -> bool:
        return True


@given(
    st.lists(st.tuples(st.integers(0, 2**22), st.integers(1, 2**14)), min_size=1),
    st.integers(1, 600),
)
def test_frames_are_found_outside_the_dump_and_its_first_mib(
    ranges: list[tuple[int, int]], count: int
) -> None:
    used = sorted((start * 64, (start + size) * 64) for start, size in ranges)
    mfn, _ = rewrite.find_frames(used, count, Everything())
    assert mfn >= 256
    assert all(stop <= mfn * PAGE or (mfn + count) * PAGE <= start for start, stop in used)


# The list


def test_leaves_above_what_a_list_can_name_are_left_out() -> None:
    leaves = array("Q", [7]) * LARGEST_LIST + array("Q", [8]) * 1000
    leaves[-1001] = 9
    pages = list_pages(FrameList(leaves), 7, 100)
    assert len(pages.leaves) == LARGEST_LIST
    assert pages.leaves[-1] == 9
    assert 8 not in pages.leaves


def lost(*ranges: tuple[int, int]) -> Diagnosis:
    leaves = sum((last + 1 - first + 511) // 512 for first, last in ranges)
    coverage = SimpleNamespace(lost=list(ranges), leaves_lost=leaves)
    return SimpleNamespace(coverage=coverage)  # type: ignore[return-value]


def test_what_no_list_can_name_is_counted() -> None:
    limit = 512**3
    assert (
        command._beyond(lost((0, 511), (limit - 512, limit + 1023), (limit + 4096, limit + 5000)))
        == 4
    )
    assert command._beyond(lost((0, 511))) == 0
    with pytest.raises(P2mError, match="the list is whole up to 512 GiB"):
        command._beyond(lost((limit, limit + 511)))


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


@pytest.fixture
def signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_command_ended_by_a_signal_leaves_nothing(
    broken: Broken, monkeypatch: pytest.MonkeyPatch, signals: None, number: int
) -> None:
    def stopped(core: ElfCore, found: Diagnosis, out: Path, watch: object) -> None:
        rewrite_dump(core, found, out, lambda done, size: os.kill(os.getpid(), number))

    monkeypatch.setattr(command, "_diagnosis", lambda core, vmlinux: broken.found)
    monkeypatch.setattr(command, "rewrite_dump", stopped)
    path = broken.core.file.path
    with pytest.raises(SystemExit) as ended:
        main(["rewrite", str(path), str(path.with_name("out"))])
    assert ended.value.code == 128 + number
    assert left(broken) == ["vmcore"]


def test_a_full_disk_is_told_before_anything_is_copied(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = broken.core.file.path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))
    with pytest.raises(P2mError, match=r"has 0\.0 GB free, the copy takes 0\.0 GB"):
        rewrite_dump(broken.core, broken.found, broken.core.file.path.with_name("out"), interrupt)
    assert left(broken) == ["vmcore"]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    broken: Broken, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    signals: None,
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "_diagnosis", lambda core, vmlinux: broken.found)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = broken.core.file.path
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(SystemExit):
            main(["rewrite", str(path), str(path.with_name("out"))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err == f"p2mfix: {path.with_name('out')}: File too large\n"
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


def test_a_healthy_dump_is_not_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    signals: None,
) -> None:  # fmt: skip
    guest, _ = guest_with("linear", P2M)
    path = tmp_path / "vmcore"
    path.write_bytes(core_bytes(segments_of(guest)))
    found = diagnosed(guest, ElfCore(path))
    monkeypatch.setattr(command, "_diagnosis", lambda core, vmlinux: found)
    main(["rewrite", str(path), str(tmp_path / "out"), "--force"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "p2mfix: the dump's list covers 1,024 of 1,024 pages (100.0%)"
    assert said[1].startswith("p2mfix: nothing to repair, nothing is written")
    assert not (tmp_path / "out").exists()


def test_a_compressed_dump_is_told_what_to_do_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(kdump({0: bytes(4096)}))
    with pytest.raises(SystemExit):
        main(["rewrite", str(path), str(tmp_path / "out")])
    assert "is kdump-compressed" in capsys.readouterr().err
