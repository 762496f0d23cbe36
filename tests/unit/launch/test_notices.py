# SPDX-License-Identifier: GPL-3.0-or-later
"""What p2mfix prints before crash starts: a dump that is cut off, and tasks that crash misses."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.launch import command_line as launch
from pykdump_ext.launch.command_line import Request, command_line
from pykdump_ext.launch.environment import AFTERWARDS, LD_PRELOAD_BEFORE, LIST_FD
from tests.lab.kdump import flattened, kdump

from ..made_up.copies import notes_of, segments_of
from ..made_up.core import PT_NOTE, Segment, core_bytes, note
from ..made_up.guest import Guest
from ..made_up.p2m import P2M
from ..made_up.talkative import named, talkative
from ..made_up.vmlinux import vmlinux_of

ZEROS = "; if crash cannot start, --zero_excluded may help"


@pytest.fixture(autouse=True)
def _made_up_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "installed_crash", lambda: ("crash", "8.0.2"))
    monkeypatch.setattr(launch, "host_for", lambda crash, version: "host.so")
    for name in (AFTERWARDS, LIST_FD, LD_PRELOAD_BEFORE, "LD_PRELOAD"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def guest() -> Guest:
    return talkative(P2M)


def compressed(guest: Guest, status: int = 0) -> bytes:
    pages = {mfn: bytes(content) for mfn, content in guest.machine.pages.items()}
    return kdump(pages, notes=notes_of(guest), status=status)


def first_line(capsys: pytest.CaptureFixture[str], *files: Path) -> str:
    command_line(Request([str(path) for path in files]))
    return capsys.readouterr().err.partition("\n")[0]


@pytest.mark.parametrize("size", [20, 70, 3000, -5000, -1])
def test_a_cut_elf_dump_is_said_to_be_cut(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, guest: Guest, size: int
) -> None:
    kernel, dump = vmlinux_of(guest, tmp_path), tmp_path / "vmcore"
    whole = core_bytes(segments_of(guest))
    dump.write_bytes(whole[:size])
    said = first_line(capsys, kernel, dump)
    assert said.startswith("p2mfix: the dump is incomplete: ")
    if size in (20, 70):
        assert "it ends inside its " in said
    if size < 0:
        assert said.endswith(f": the file is cut off, {-size:,} bytes are missing{ZEROS}")


def test_a_dump_whose_notes_are_cut_off_gets_no_advice_that_cannot_help(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, guest: Guest
) -> None:
    kernel = vmlinux_of(named(b"Linux version 6.5.0 (builder@example) #1\n"), tmp_path)
    dump = tmp_path / "vmcore"
    segments = segments_of(guest)[:4]
    notes = segments[0].data
    whole = core_bytes(segments)
    dump.write_bytes(whole[: whole.index(notes) + 10])
    missing = f"{len(whole) - dump.stat().st_size:,} bytes are missing"
    wanted = f"p2mfix: the dump is incomplete: the file is cut off, {missing}"
    command_line(Request([str(kernel), str(dump)]))
    assert capsys.readouterr().err == f"{wanted}\n"  # it may well be of a Xen host
    with pytest.raises(SystemExit):
        main([str(dump)])
    assert capsys.readouterr().err == (
        f"p2mfix: the file is cut off, {missing}: no vmlinux was given, and what there is of the"
        " dump does not show its kernel\n"
    )


def test_a_cut_compressed_dump_is_said_to_be_cut(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, guest: Guest
) -> None:
    kernel, dump = vmlinux_of(guest, tmp_path), tmp_path / "vmcore"
    whole = compressed(guest)
    for content, says in (
        (whole[:100], "ends inside its header"),
        (whole[:9000], "its header is damaged, or the file is cut off"),
        (whole[:-50], "the file is cut off, its last pages are missing"),
        (flattened(whole)[:-50], "damaged, or cut off"),
        (compressed(guest, status=8 | 1), "its disk may have been full" + ZEROS),
    ):
        dump.write_bytes(content)
        said = first_line(capsys, kernel, dump)
        assert said.startswith("p2mfix: the dump is incomplete: ") and said.endswith(says)


def test_a_whole_dump_gets_no_notice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, guest: Guest
) -> None:
    kernel, dump = vmlinux_of(guest, tmp_path), tmp_path / "vmcore"
    for content in (compressed(guest), core_bytes(segments_of(guest))):
        dump.write_bytes(content)
        assert first_line(capsys, kernel, dump) == ""


@pytest.mark.parametrize(
    ("version", "release", "told"),
    [
        ("8.0.2", "6.1.0-56-amd64", True),
        ("8.0.2", "5.10.0-32-amd64", False),
        ("8.0.6", "6.1.0-56-amd64", False),
    ],
)
@pytest.mark.parametrize("by", ["its notes", "the vmlinux"])
def test_tasks_that_crash_misses_without_xen_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    version: str, release: str, told: bool, by: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(launch, "installed_crash", lambda: ("crash", version))
    notes = note(b"CORE", 1, b"registers")
    banner = f"Linux version {release} (builder@example) #1\n"
    if by == "its notes":
        notes += note(b"VMCOREINFO", 0, f"OSRELEASE={release}\nPAGESIZE=4096\n".encode())
        banner = "Linux version 3.2.1 (builder@example) #1\n"
    kernel, dump = vmlinux_of(named(banner.encode()), tmp_path), tmp_path / "vmcore"
    dump.write_bytes(core_bytes([Segment(0, notes, PT_NOTE), Segment(4096, bytes(4096))]))
    assert command_line(Request([str(kernel), str(dump)])) == ["crash", str(kernel), str(dump)]
    said = capsys.readouterr().err
    drgn = shlex.join(["drgn", "-c", str(dump), "-s", str(kernel)])
    assert said == told * (
        f"p2mfix: crash {version} may miss most tasks of Linux {release}, and p2mfix helps it only"
        " on the dump of a Xen host: if ps shows too few, use crash 8.0.4 or newer, or"
        f" {drgn}\n"
    )


def test_drgn_without_a_vmlinux_says_which_it_looked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    guest = named(b"Linux version 9.9.9-test (builder@example) #1\n")
    dump = tmp_path / "vmcore"
    dump.write_bytes(compressed(guest))
    said = []
    for words in ([], ["drgn"]):
        with pytest.raises(SystemExit):
            main([*words, str(dump)])
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert said[0].startswith(
        "p2mfix: no vmlinux was given, and none of Linux 9.9.9-test is beside the dump or in"
    )
