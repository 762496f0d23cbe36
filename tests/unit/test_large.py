# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up hosts on which commands outside crash are measured are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from tests.bench.outside import COMMANDS
from tests.lab.large import write_large

GIB = 1 << 30
PAGES = 1 * GIB // 4096 + 512  # all but the first GiB, which has one leaf
MACHINE = 20  # GiB


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_large_host_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fragmented: bool
) -> None:
    vmcore = tmp_path / "vmcore"
    write_large(vmcore, 2 * GIB, fragmented, MACHINE * GIB)
    assert vmcore.stat().st_blocks * 512 < 256 << 20
    shown = {}
    for command in (*COMMANDS, "domains"):
        main([*command.split(), str(vmcore)])
        shown[command] = capsys.readouterr().out
    assert shown["verify --all"] == (
        f"{PAGES:,} pages in 513 of 513 leaves (all):\n"
        f"              direct map: agrees on {PAGES:,}, disagrees on 0\n"
        f"   machine-to-phys table: agrees on {PAGES - 512:,}, disagrees on 0,"
        " has nothing for 512\n"
    )
    assert f"{PAGES:,} of {PAGES:,} pages (100.0%)" in shown["diagnose"]
    assert shown["pfn 40000"].startswith("pfn 40000: memory\n")
    assert "(pfn 40000)" in shown["va ffff888040000000"]
    frames = (MACHINE - 16) * GIB // 4096  # the table of those below 16 GiB is a hole
    owned = int(shown["domains"].split()[9].replace(",", ""))
    assert owned == pytest.approx(frames / 2 if fragmented else frames, abs=2)
