# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix domains``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pykdump_ext.cli import domains as cli
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.opened import OpenedDump

from ..made_up.dump import MadeUpDump
from ..made_up.host import FRAME_TABLE, PAGES, Host, guest_on_host
from ..made_up.machine import PAGE


def printed(
    host: Host, capsys: pytest.CaptureFixture[str], *options: str, cut: str | None = None
) -> str:
    opened = OpenedDump(MadeUpDump(host.memory(), host.notes(), incomplete=cut))
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "open_one", lambda paths: opened)
        cli.run(parser.parse_args([*options, "vmcore"]))
    return capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    host, guest, _ = guest_on_host()
    host.add(5, None)
    host.cr3s = [guest.root]
    lines = [line.split() for line in printed(host, capsys).splitlines()]
    assert lines == [
        ["ID", "KIND", "PAGES", "MAX_PFN", "LIST", "P2M_CR3", "CPUS"],
        ["0", "unknown", "0", "8000", "99", "none", "-"],
        ["1", "PV", "1", "3e8", "none", f"{guest.root:x}", "0"],
        ["5", "unknown", "0", "unknown", "unknown", "unknown", "-"],
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    host, guest, _ = guest_on_host()
    host.add(5, None)
    found = json.loads(printed(host, capsys, "--json"))
    assert found["xen"] == "4.17" and found["problem"] is None
    zero, one, five = found["domains"]
    assert (zero["frame_list"], zero["p2m_cr3"], zero["max_pfn"]) == ("0x99", "0x0", 0x8000)
    assert (one["frame_list"], one["p2m_cr3"], one["kind"]) == ("0x0", hex(guest.root), "PV")
    assert (five["frame_list"], five["shared_info"], five["cpus"]) == (None, None, [])


def test_a_frame_table_that_is_not_whole_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    host, _, _ = guest_on_host()
    host.xen.map(FRAME_TABLE + PAGES * PAGE, 0x777)  # a frame that is not in the dump
    host.machine.put(host.variables, 2, (PAGES + 1) * PAGE // 32)
    lines = printed(host, capsys).splitlines()
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["0", "unknown", "unknown"],
        ["1", "unknown", "unknown"],
    ]
    assert lines[-1] == (
        "pages and kinds are unknown: read error: machine address: 777000"
        '  type: "Xen\'s frame table"'
    )


def test_an_incomplete_dump_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(guest_on_host()[0], capsys, cut="the file is cut off").splitlines()
    assert len(lines) == 4 and lines[-1] == (
        "the dump is incomplete, so pages may be missing here: the file is cut off"
    )


def test_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["domains", str(tmp_path / "vmcore")])
    assert capsys.readouterr().err == (f"p2mfix: {tmp_path}/vmcore: No such file or directory\n")
