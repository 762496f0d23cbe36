# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix FILE...``: what is refused before crash starts, and that the file is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import P2mError
from pykdump_ext.launch import command_line as launch

from ..made_up.copies import dump_of
from ..made_up.p2m import P2M
from ..made_up.talkative import talkative
from ..made_up.vmlinux import vmlinux_of


@pytest.fixture(autouse=True)
def _no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is refused is refused before crash is looked for."""

    def none() -> tuple[str, str]:
        raise P2mError("crash was looked for")

    monkeypatch.setattr(launch, "installed_crash", none)


def ended(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 1
    return capsys.readouterr().err.removeprefix("p2mfix: ").rstrip("\n")


def test_a_file_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    guest = talkative(P2M)
    vmlinux, vmcore = vmlinux_of(guest, tmp_path), dump_of(guest, tmp_path / "vmcore")
    none = tmp_path / "vmcor"
    for files in ([none], [vmlinux, none], [none, vmcore], [vmlinux, vmcore, none]):
        assert ended(capsys, *files) == f"{none}: No such file or directory"
        assert ended(capsys, "--domain", "1", *files) == f"{none}: No such file or directory"
    assert ended(capsys, vmlinux, vmcore, "-i", none) == (
        f"{none}, the file of -i: No such file or directory"
    )
    assert ended(capsys, tmp_path) == f"{tmp_path}: Is a directory"
    assert ended(capsys, vmlinux, vmcore, "-i", "/dev/null") == "crash was looked for"


def test_one_file_that_is_no_dump_is_told_what_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    guest = talkative(P2M)
    text, empty, packed = (tmp_path / name for name in ("text", "empty", "vmcore.gz"))
    text.write_text("no dump at all\n")
    empty.touch()
    packed.write_bytes(gzip.compress(dump_of(guest, tmp_path / "vmcore").read_bytes()))
    rest = "; give a vmlinux and a dump: p2mfix VMLINUX VMCORE"
    vmlinux = vmlinux_of(guest, tmp_path)
    assert ended(capsys, text) == f"{text}: is no dump{rest}"
    assert ended(capsys, empty) == f"{empty}: is empty{rest}"
    assert ended(capsys, vmlinux) == f"{vmlinux}: is a vmlinux{rest}"
    assert ended(capsys, packed) == f"{packed}: packed with gzip: unpack it"
