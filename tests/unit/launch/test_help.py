# SPDX-License-Identifier: GPL-3.0-or-later
"""A crash that needs help with a kernel gets it where the dump's list is whole, too."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from pykdump_ext.cli import diagnose
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.launch import command_line as launch
from pykdump_ext.launch.command_line import Request, command_line
from pykdump_ext.launch.environment import AFTERWARDS, LD_PRELOAD_BEFORE, LIST_FD, PLAIN
from pykdump_ext.reports.report import HEALTHY

from ..made_up.copies import dump_of
from ..made_up.p2m import P2M
from ..made_up.talkative import named, talkative
from ..made_up.vmlinux import vmlinux_of


@pytest.mark.parametrize(("version", "program"), [("7.2.9", "p2mfix"), ("8.0.2", "crash")])
def test_a_crash_that_misses_the_kernel_is_not_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    version: str, program: str,
) -> None:  # fmt: skip
    guest = talkative(P2M, 4)
    guest.symbols["pv_ops"] = guest.symbols["max_pfn"]
    monkeypatch.setattr(diagnose, "_version", lambda: version)
    dump, kernel = dump_of(guest, tmp_path / "vmcore"), vmlinux_of(guest, tmp_path)
    main(["diagnose", "--json", str(dump), str(kernel)])
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], shlex.split(told["next"])[0]) == (HEALTHY, program)


@pytest.mark.parametrize(
    ("version", "release", "helped"),
    [("8.0.2", "6.1.0-56-amd64", True), ("8.0.2", "5.10.0-32-amd64", False),
     ("8.0.4", "6.1.0-56-amd64", False)],
)  # fmt: skip
def test_a_crash_that_misses_tasks_gets_help_with_a_whole_list_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    version: str, release: str, helped: bool,
) -> None:  # fmt: skip
    guest = named(f"Linux version {release} (builder@example) #1\n".encode())
    dump, kernel = dump_of(guest, tmp_path / "vmcore"), vmlinux_of(guest, tmp_path / "kernel")
    files = [str(kernel), str(dump)]
    monkeypatch.setattr(diagnose, "_version", lambda: version)
    program = "p2mfix" if helped else "crash"
    for given in ([files[0]], []):
        main(["diagnose", "--json", str(dump), *given])
        told = json.loads(capsys.readouterr().out)
        assert told["verdict"] == HEALTHY
        assert shlex.split(told["next"]) == [program, *(given or ["VMLINUX"]), str(dump)]

    monkeypatch.setattr(launch, "installed_crash", lambda: ("crash", version))
    monkeypatch.setattr(launch, "host_for", lambda crash, version: "host.so")
    for name in (PLAIN, AFTERWARDS, LIST_FD, LD_PRELOAD_BEFORE, "LD_PRELOAD"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv(PLAIN)
    words = command_line(Request(files, options=["-s"], plain=True))
    assert words[-2:] == files
    assert words == ["crash", "-s", *files] or helped
    assert ("--minimal" in words) is helped
    assert os.environ.get(PLAIN) == ("1" if helped else None)
    assert "--minimal" in command_line(Request(files, options=["-s"]))  # for fast reads
