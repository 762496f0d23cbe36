# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a dump: its verdict, and what it says of the dump."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.reports.html_page import page
from pykdump_ext.reports.report import lines, one_line, report_files
from tests.lab.kdump import kdump

from ..made_up.copies import notes_of
from ..made_up.guest import Guest
from ..made_up.machine import Machine
from ..made_up.p2m import P2M
from ..made_up.talkative import tell

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def dump_of(guest: Guest, path: Path) -> Path:
    """Write a guest's machine as a compressed dump of a Xen host."""
    pages = {mfn: bytes(content) for mfn, content in guest.machine.pages.items()}
    path.write_bytes(kdump(pages, notes=notes_of(guest)))
    return path


def named(banner: bytes) -> Guest:
    """Return a kernel with that banner, which publishes its p2m."""
    guest = Guest(Machine(), banner)
    planted = guest.plant("linear", P2M)
    guest.direct_map(P2M.memory())
    guest.publish(P2M, planted)
    tell(guest, P2M)
    return guest


def test_what_a_dump_contains_never_reaches_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    banner = f"Linux version 6.1{ESCAPES} (builder@example) #1\n".encode("latin-1", "replace")
    dump = dump_of(named(banner), tmp_path / f"core{ESCAPES}")
    result, found = report_files([str(dump)])
    shown = [*lines(result), one_line(result)]
    assert "Linux 6.1\\x1b]0;owned\\x07\\x1b[2J\\x9b31m" in "".join(shown)
    assert all(line.isprintable() for line in shown)
    assert "\x1b" not in page(result, found).decode()
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


def test_a_report_as_json_has_the_files(tmp_path: Path) -> None:
    dump = dump_of(named(b"Linux version 6.1 (builder@example) #1\n"), tmp_path / "a b")
    assert json.loads(json.dumps(report_files([str(dump)])[0].as_dict()))["files"] == [str(dump)]
