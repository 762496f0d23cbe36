# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a dump: its verdict, and what it says of the dump."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import INCOMPLETE, OtherFileError
from pykdump_ext.launch.command_line import Request, command_line
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.failure import Failure
from pykdump_ext.parts.p2m import p2m_page
from pykdump_ext.reports.report import (
    HEALTHY,
    LOOKS_WHOLE,
    Report,
    lines,
    one_line,
    report_files,
)
from tests.lab.kdump import flattened, kdump

from ..made_up.copies import dump_of, notes_of, segments_of
from ..made_up.core import core_bytes, note
from ..made_up.domain_core import domain_core
from ..made_up.guest import Guest, guest_with
from ..made_up.host import Host, dom0_on_host
from ..made_up.machine import BANNER, PAGE
from ..made_up.p2m import P2M, P2m
from ..made_up.talkative import TEXT, map_text, named, talkative
from ..made_up.vmlinux import vmlinux_of

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_what_a_dump_contains_never_reaches_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    banner = f"Linux version 6.1{ESCAPES} (builder@example) #1\n".encode("latin-1", "replace")
    dump = dump_of(named(banner), tmp_path / f"core{ESCAPES}")
    result, found = report_files([str(dump)])
    shown = [*lines(result), one_line(result)]
    assert "Linux 6.1\\x1b]0;owned\\x07\\x1b[2J\\x9b31m" in "".join(shown)
    assert all(line.isprintable() for line in shown)
    assert "\x1b" not in p2m_page(result, found).decode()
    main(["diagnose", "--json", str(dump)])
    assert capsys.readouterr().out.rstrip("\n").isprintable()
    with pytest.raises(SystemExit):
        main(["pfn", "800000", str(dump), "/no/such/\x1b[2Jfile"])
    said = capsys.readouterr().err
    assert said.startswith("p2mfix: ") and said.rstrip("\n").isprintable()


def test_what_comes_next_is_quoted_for_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "case 1; rm -rf $HOME"
    folder.mkdir()
    dump = dump_of(named(b"Linux version 6.1 (builder@example) #1\n"), folder / "it's a dump")
    (said,) = [line for line in lines(report_files([str(dump)])[0]) if " next: " in line]
    assert shlex.split(said.partition(" next: ")[2]) == ["crash", "VMLINUX", str(dump)]


def test_a_narrow_terminal_gets_whole_words_and_a_whole_command() -> None:
    result = Report("/var/crash/vmcore", next=f"p2mfix vmlinux {'very-' * 20}long")
    result.problems = ["the kernel's banner is not in the dump, so no vmlinux can match it"]
    narrow = list(lines(result, 40))
    assert [line for line in narrow if len(line) > 40] == [f"{'next:':>14} {result.next}"]
    said = [line for line in lines(result) if "banner" in line]
    at = next(number for number, line in enumerate(narrow) if "problem:" in line)
    whole = " ".join(line.strip() for line in narrow[at:-1])
    assert len(narrow[at:-1]) > 2 and [whole] == [line.strip() for line in said]
    assert all(line.startswith(" " * 15) for line in narrow[at + 1 : -1])


def test_a_report_as_json_has_the_files(tmp_path: Path) -> None:
    dump = dump_of(named(b"Linux version 6.1 (builder@example) #1\n"), tmp_path / "a b")
    assert json.loads(json.dumps(report_files([str(dump)])[0].as_dict()))["files"] == [str(dump)]


def reported(path: Path, *others: Path) -> Report:
    """Return the report of a dump, with these namelists."""
    return report_files([str(path)], [Namelist(other) for other in others])[0]


# Incomplete dumps


def incomplete_dumps(guest: Guest, folder: Path) -> dict[str, Path]:
    """Return dumps without their last pages, which hold the page tables of the guest."""
    pages = {mfn: bytes(content) for mfn, content in guest.machine.pages.items()}
    notes = notes_of(guest)
    whole = kdump(pages, notes=notes)
    contents = {
        "stopped": kdump(pages, notes=notes, status=8 | 1),
        "cut": whole[:-50],
        "cut at its descriptors": whole[: len(whole) // 100],
        "cut in its flattened form": flattened(whole)[:-50],
        "a part": kdump(pages, notes=notes, part=(0, sorted(pages)[len(pages) // 2])),
        "elf": core_bytes(segments_of(guest))[:-50],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_an_incomplete_dump_is_said_to_be_that(tmp_path: Path) -> None:
    guest = talkative(P2M)
    kernel = vmlinux_of(guest, tmp_path)
    for name, path in incomplete_dumps(guest, tmp_path).items():
        for result in (reported(path), reported(path, kernel)):
            assert (name, result.verdict) == (name, INCOMPLETE)
            assert not [p for p in result.problems if "no given vmlinux" in p], name
            assert result.problems
            zeros = (result.next or "").endswith("--zero_excluded")
            # crash reads no zeros behind the end of a compressed file
            assert zeros == bool(result.next and name in ("stopped", "elf")), name
    whole = dump_of(guest, tmp_path / "whole")
    assert reported(whole, kernel).verdict == Failure.TRUNCATED.meaning


def test_a_list_that_ends_early_is_a_problem_of_an_incomplete_dump(tmp_path: Path) -> None:
    guest = talkative(P2M)
    stopped = incomplete_dumps(guest, tmp_path)["stopped"]
    result = reported(stopped, vmlinux_of(guest, tmp_path))
    assert Failure.TRUNCATED.meaning in result.problems
    assert result.crash_says == Failure.TRUNCATED.crash_says(compressed=True)
    assert result.next and shlex.split(result.next)[0] == "p2mfix"


def test_every_command_says_that_the_dump_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = talkative(P2M)
    del guest.machine.pages[guest.space.root]
    dump = dump_of(guest, tmp_path / "vmcore")
    dump.write_bytes(dump.read_bytes()[:-50])
    with pytest.raises(SystemExit):
        main(["list", str(dump), str(vmlinux_of(guest, tmp_path))])
    said = capsys.readouterr().err
    assert said.startswith("p2mfix: the file is cut off, its last pages are missing: no page-table")


# Other files


@pytest.mark.parametrize(
    ("begin", "name", "unpack"),
    [(b"\x1f\x8b\x08\0", "gzip", "gunzip"), (b"\xfd7zXZ\0", "xz", "unxz"),
     (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"), (b"BZh91AY", "bzip2", "bunzip2"),
     (b"PK\3\4", "zip", "unzip"), (b"vmcore".ljust(257, b"\0") + b"ustar", "tar", "tar -xf")],
)  # fmt: skip
def test_a_packed_dump_names_what_unpacks_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], begin: bytes, name: str, unpack: str
) -> None:
    path = tmp_path / "vm core"
    path.write_bytes(begin + bytes(1000))
    result = reported(path)
    assert result.verdict == f"packed with {name}"
    assert result.next and shlex.split(result.next) == [*unpack.split(), str(path)]
    with pytest.raises(SystemExit):
        main(["map", str(path)])
    assert capsys.readouterr().err == f"p2mfix: {path}: packed with {name}: unpack it\n"


def test_a_packed_dump_in_a_folder_and_in_the_place_of_a_dump_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = talkative(P2M)
    kernel = vmlinux_of(guest, tmp_path)
    folder = tmp_path / "crash"
    folder.mkdir()
    packed = folder / "vmcore.gz"
    packed.write_bytes(gzip.compress(dump_of(guest, tmp_path / "vmcore").read_bytes()))
    (folder / "notes.gz").write_bytes(gzip.compress(b"nothing of a dump\n" * 10))
    main(["diagnose", "--json", str(folder)])
    told = json.loads(capsys.readouterr().out)
    assert (told["dump"], told["verdict"]) == (str(packed), "packed with gzip")
    assert told["next"] == f"gunzip {packed}"
    with pytest.raises(OtherFileError, match="packed with gzip: unpack it"):
        command_line(Request([str(kernel), str(packed)]))


@pytest.mark.parametrize(("pv", "kind"), [(True, "a PV guest"), (False, "an HVM or PVH guest")])
def test_the_dump_of_one_domain_is_said_to_be_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pv: bool, kind: str
) -> None:
    path = tmp_path / "guest core"
    path.write_bytes(domain_core({pfn: (0x5000 + pfn, bytes(PAGE)) for pfn in range(4)}, pv))
    result = reported(path)
    assert result.verdict == f"the dump of one domain, {kind}, made by xl dump-core"
    assert result.next and shlex.split(result.next) == ["crash", "VMLINUX", str(path)]
    kernel = vmlinux_of(talkative(P2M), tmp_path)
    for words in (
        ["map", path],
        ["domains", path],
        ["rewrite", path, "out"],
        ["drgn", kernel, path],
    ):
        with pytest.raises(SystemExit):
            main([str(word) for word in words])
        said = capsys.readouterr().err
        assert (
            f"made by xl dump-core: it needs no list, and plain crash opens it: {result.next}"
            in said
        )
        assert "drgn" not in said


# A cpu that ran a guest


def host_file(host: Host, path: Path) -> Path:
    """Write a made-up Xen host as a compressed dump."""
    pages = dict(host.memory().pages)
    notes = b"".join(note(n.owner.encode(), n.type, n.data) for n in host.notes())
    path.write_bytes(kdump({mfn: bytes(content) for mfn, content in pages.items()}, notes=notes))
    return path


def test_a_cpu_that_ran_a_guest_does_not_lend_its_release(tmp_path: Path) -> None:
    host, dom0, guest = dom0_on_host()
    assert guest.banner.split()[2] == b"6.6.6-guest"
    for cr3s in ([guest.root, dom0.root], [guest.root]):
        host.cr3s = cr3s
        result = reported(host_file(host, tmp_path / "vmcore"))
        assert result.release == "5.4.17-test"
        assert "crash needs the vmlinux of 5.4.17-test" in result.problems
        assert result.cr3s[0].owner == "Linux 6.6.6-guest, domain 1"


def test_page_tables_without_a_linux_kernel_have_their_owner(tmp_path: Path) -> None:
    host, dom0, _ = dom0_on_host()
    nothing, other = host.machine.frame(), host.machine.frame()
    host.give(host.domains[1] - host.build.offset, other, level=4)
    host.cr3s = [dom0.root, nothing * 4096, other * 4096, 0x7777777000]
    shown = [cr3.owner for cr3 in reported(host_file(host, tmp_path / "vmcore")).cr3s]
    assert shown == [
        "Linux 5.4.17-test",
        "no Linux kernel: Xen's own",
        "no Linux kernel: of domain 1",
        "not in the dump",
    ]


# Kernels that do not publish their p2m


@pytest.mark.parametrize(
    ("published", "verdict"), [(None, LOOKS_WHOLE), (1, Failure.TRUNCATED.meaning)]
)
def test_a_three_level_kernel_without_its_vmlinux_is_judged_by_the_direct_map(
    tmp_path: Path, published: int | None, verdict: str
) -> None:
    text = {8: [(Kind.MEMORY, 0x20000 + i) for i in range(512)]}
    p2m = P2m(512 * 9, {**P2M.own, **text})
    guest, _ = guest_with("three-level", p2m, published)
    map_text(guest, p2m.memory()[TEXT // PAGE])
    result = reported(dump_of(guest, tmp_path / "vmcore"))
    assert result.verdict == verdict
    assert result.release == BANNER.decode().split()[2]
    assert result.mapped and result.covered == (result.mapped if published is None else 512)
    assert result.lost == ([] if published is None else [(0x400, 0x5FF), (0x1000, 0x11FF)])
    assert result.next and shlex.split(result.next)[:2] == ["p2mfix", "VMLINUX"]
    assert any("its vmlinux adds the layout" in problem for problem in result.problems)
    shown = "\n".join(lines(result))
    assert f"covered: {result.covered:,} of {result.mapped:,} pages" in shown
    whole = reported(dump_of(guest, tmp_path / "again"), vmlinux_of(guest, tmp_path))
    assert whole.verdict == (HEALTHY if published is None else verdict)


# What crash prints


def test_a_message_of_crash_is_that_of_the_dumps_format(tmp_path: Path) -> None:
    guest = talkative(P2M)
    packed = reported(dump_of(guest, tmp_path / "packed"))
    (tmp_path / "elf").write_bytes(core_bytes(segments_of(guest)))
    elf = reported(tmp_path / "elf")
    assert packed.verdict == elf.verdict == Failure.TRUNCATED.meaning
    assert packed.crash_says and packed.crash_says.startswith("seek error: kernel virtual address")
    assert elf.crash_says and elf.crash_says.startswith("read error: kernel virtual address")


def test_addresses_in_json_are_text(tmp_path: Path) -> None:
    guest = talkative(P2M)
    told = json.loads(json.dumps(reported(dump_of(guest, tmp_path / "vmcore")).as_dict()))
    assert told["list_mfn"] == hex(guest.list_mfn)
    assert told["cr3s"][0]["maddr"] == hex(guest.root)
    assert told["lost"] == [["0x400", "0x5ff"]]
