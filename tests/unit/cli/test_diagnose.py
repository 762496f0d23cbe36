# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix diagnose`` of several dumps: what happens to one is not what happens to the others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pykdump_ext.cli import diagnose as cli
from pykdump_ext.reports.report import Report

from ..made_up.bounded import p2mfix


def reported(dump: Sequence[str], *others: Any) -> tuple[Report, None]:
    """Do what the name of a dump says."""
    (name,) = dump
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("left"):
        os._exit(3)
    if name.startswith("wrong"):
        raise IndexError("an error of ours")
    time.sleep(float(name) / 100)
    return Report(name, verdict="fine"), None


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_worker_that_dies_takes_no_other_dump_with_it(
    monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(cli, "report_files", reported)
    names = ["9", "killed", "1", "left", "wrong", "4", "0"]
    found = list(cli.reports([[name] for name in names], [], jobs))
    assert [one.dump for one in found] == names
    assert [one.verdict == "fine" for one in found] == [name.isdigit() for name in names]
    assert [one.problems for one in found if one.verdict != "fine"] == [
        ["the process that read it ended with SIGKILL: run p2mfix diagnose on it alone"],
        ["the process that read it ended with exit status 3: run p2mfix diagnose on it alone"],
        ["IndexError: an error of ours"],
    ]


def test_no_more_workers_than_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def counted(dump: Sequence[str], *others: Any) -> tuple[Report, None]:
        mark = tmp_path / dump[0]
        mark.touch()
        time.sleep(0.02)
        most = len(list(tmp_path.iterdir()))
        mark.unlink()
        return Report(dump[0], problems=[str(most)]), None

    monkeypatch.setattr(cli, "report_files", counted)
    found = list(cli.reports([[str(n)] for n in range(12)], [], 3))
    assert max(int(one.problems[0]) for one in found) <= 3


@pytest.mark.parametrize("command", ["diagnose", "domains", "map"])
def test_a_pipe_that_nobody_writes_to_is_told(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "vmcore")
    done = p2mfix(command, tmp_path / "vmcore")
    assert "vmcore: is a pipe or a device, not a file: copy it to a file first" in (
        done.stdout + done.stderr
    )
