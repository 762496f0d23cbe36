# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed dumps that are not whole: makedumpfile's disk was full, or the copy was cut."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pykdump_ext.errors import INCOMPLETE
from pykdump_ext.p2m.failure import Failure
from tests.lab.dump import Dump

from .conftest import Packed
from .packed import FILTER
from .sessions import BIN, Crash

# With 99 % crash can start; with 94 % it lacks what it needs on some dumps
SHARES = [*(pytest.param(share, marks=pytest.mark.thorough) for share in (60, 80, 94)), 99]


@pytest.fixture(scope="module")
def whole(truncated: Dump, packed: Packed) -> Path:
    """The truncated dump, packed with zlib."""
    return packed(truncated, "-c").vmcore


def stopped(dump: Dump, size: int, folder: Path) -> Path:
    """Let makedumpfile write a dump to a disk of so many bytes, which fills up."""
    script = (
        'mount -t tmpfs -o size="$1" none "$2" && shift 2 && target="$1" && shift'
        ' && ! "$@" && cp "$(eval echo \\"\\${$#}\\")" "$target"'
    )
    disk, target = folder / "disk", folder / "stopped"
    disk.mkdir()
    namespace = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, "sh"]
    writing = ["makedumpfile", "-c", *FILTER, "-x", dump.vmlinux, dump.vmcore, disk / "vmcore"]
    command = [str(word) for word in (*namespace, size, disk, target, *writing)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if not target.exists() and "mount" in ran.stderr:
        pytest.skip(f"no disk can be mounted here: {ran.stderr}")
    assert "incomplete" in ran.stdout + ran.stderr
    return target


def diagnosed(crash: Crash, *files: Path) -> dict[str, Any]:
    ran = crash.run([BIN / "p2mfix", "diagnose", "--json", *files])
    assert ran.status == 0, ran.text
    found: dict[str, Any] = json.loads(ran.text)
    assert found["verdict"] == INCOMPLETE
    assert not [text for text in found["problems"] if "no given vmlinux" in text]
    return found


@pytest.mark.parametrize("share", SHARES)
def test_a_dump_that_filled_its_disk(
    crash: Crash, truncated: Dump, whole: Path, share: int
) -> None:
    dump = stopped(truncated, whole.stat().st_size * share // 100, crash.folder)
    found = diagnosed(crash, dump, truncated.vmlinux)
    assert any("makedumpfile did not finish" in text for text in found["problems"])
    if share < 99:
        dump.unlink()
        return
    assert Failure.TRUNCATED.meaning in found["problems"]
    words = shlex.split(found["next"])
    assert words == ["p2mfix", str(truncated.vmlinux), str(dump), "--zero_excluded"]
    opened = crash.run([BIN / "p2mfix", *words[1:], "-s"], ["sys", "p2m status", "quit"])
    assert opened.status == 0, opened.text
    assert "p2mfix: the dump is incomplete: makedumpfile did not finish" in opened.text
    assert "    NODENAME: lab\n" in opened.text and "by the rebuilt list\n" in opened.text
    dump.unlink()


@pytest.mark.parametrize("share", [60, 80, 94])
def test_a_dump_that_was_cut(crash: Crash, truncated: Dump, whole: Path, share: int) -> None:
    dump = crash.folder / "cut"
    shutil.copy(whole, dump)
    os.truncate(dump, whole.stat().st_size * share // 100)
    for files in ([dump, truncated.vmlinux], [dump]):
        found = diagnosed(crash, *files)
        assert "the file is cut off, its last pages are missing" in found["problems"]
    ran = crash.run([BIN / "p2mfix", "list", dump, truncated.vmlinux])
    if share == 60:  # the page tables are gone
        assert ran.status == 1 and ran.text.startswith("p2mfix: the file is cut off, its last")
    else:
        assert ran.status == 0
    dump.unlink()
