# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix rewrite``: how it ends."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pykdump_ext.cli import rewrite as command
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import P2mError
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.p2m.diagnosis import Diagnosis
from pykdump_ext.rewrite.copies import rewrite_dump
from tests.lab.kdump import kdump

from ..made_up.copies import Broken, diagnosed, segments_of
from ..made_up.core import core_bytes
from ..made_up.guest import guest_with
from ..made_up.p2m import P2M
from ..made_up.vmlinux import vmlinux_of


def lost(*ranges: tuple[int, int]) -> Diagnosis:
    leaves = sum((last + 1 - first + 511) // 512 for first, last in ranges)
    coverage = SimpleNamespace(lost=list(ranges), leaves_lost=leaves)
    return SimpleNamespace(coverage=coverage)  # type: ignore[return-value]


def left(broken: Broken) -> list[str]:
    return sorted(path.name for path in broken.core.file.path.parent.iterdir())


@pytest.fixture
def signals() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    kept = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_what_no_list_can_name_is_counted() -> None:
    limit = 512**3
    assert (
        command._beyond(lost((0, 511), (limit - 512, limit + 1023), (limit + 4096, limit + 5000)))
        == 4
    )
    assert command._beyond(lost((0, 511))) == 0
    with pytest.raises(P2mError, match="the list is whole up to 512 GiB"):
        command._beyond(lost((limit, limit + 511)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_command_ended_by_a_signal_leaves_nothing(
    broken: Broken, monkeypatch: pytest.MonkeyPatch, signals: None, number: int
) -> None:
    def stopped(core: ElfCore, found: Diagnosis, out: Path, *_: object) -> None:
        rewrite_dump(core, found, out, lambda done, size: os.kill(os.getpid(), number))

    monkeypatch.setattr(command, "_diagnosis", lambda opened: broken.found)
    monkeypatch.setattr(command, "rewrite_dump", stopped)
    path = broken.core.file.path
    with pytest.raises(SystemExit) as ended:
        main(["rewrite", str(path), str(path.with_name("out"))])
    assert ended.value.code == 128 + number
    assert left(broken) == ["vmcore"]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    broken: Broken, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    signals: None,
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "_diagnosis", lambda opened: broken.found)
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


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dump whose list is whole."""
    guest, _ = guest_with("linear", P2M)
    path = tmp_path / "vmcore"
    path.write_bytes(core_bytes(segments_of(guest)))
    found = diagnosed(guest, ElfCore(path))
    monkeypatch.setattr(command, "_diagnosis", lambda opened: found)
    return path


def test_a_dump_whose_list_is_whole_is_copied(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    main(["rewrite", str(whole), str(tmp_path / "out")])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "p2mfix: the dump's list covers 1,024 of 1,024 pages (100.0%)"
    assert said[1].startswith("p2mfix: nothing to repair: the copy has the same bytes")
    assert said[2].startswith(f"p2mfix: {tmp_path / 'out'}: 0.0 GB written, ")
    assert (tmp_path / "out").read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "vmcore"]


def test_a_copy_replaces_no_dump_and_no_vmlinux_whatever_was_asked(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    out = tmp_path / "out"
    elf = whole.read_bytes()
    for content, says in (
        (elf + b"other", "a dump"),
        (elf[:16] + b"\2\0" + elf[18:], "an ELF file, such as a vmlinux"),
        (b"KDUMP   " + bytes(4096), "a dump"),
    ):
        out.write_bytes(content)
        with pytest.raises(SystemExit):
            main(["rewrite", str(whole), str(out), "--force"])
        said = f"p2mfix: {out}: is {says}, which is never replaced; name another file\n"
        assert capsys.readouterr().err == said
        assert out.read_bytes() == content
    out.write_bytes(b"text")
    with pytest.raises(SystemExit):
        main(["rewrite", str(whole), str(out)])
    assert "exists; name another file, or use --force" in capsys.readouterr().err
    main(["rewrite", str(whole), str(out), "--force"])
    assert out.read_bytes() == elf


def failed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit):
        main(["rewrite", *map(str, words)])
    return capsys.readouterr().err


def test_all_files_of_a_split_dump_get_the_reason_that_one_gets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    pages = {frame: bytes(4096) for frame in (0, 100)}
    parts = [tmp_path / "s1", tmp_path / "s2"]
    for path, part in zip(parts, ((0, 50), (50, 101))):
        path.write_bytes(kdump(pages, part=part))
    reason = (
        "and only one plain file can be rewritten; open it with p2mfix VMLINUX VMCORE, or use"
        " --linux\n"
    )
    names = f"{parts[0]} {parts[1]}"
    assert failed(capsys, *parts, tmp_path / "out") == (
        f"p2mfix: {names}: the dump is kdump-compressed, split into 2 files, {reason}"
    )
    assert failed(capsys, *parts) == (
        f"p2mfix: {parts[0]}: the dump is kdump-compressed, 1 file of a split dump, {reason}"
    )


def test_no_vmlinux_is_asked_for_where_none_can_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    guest, _ = guest_with("three-level", P2M, 1)
    vmcore = tmp_path / "vmcore"
    content = core_bytes(segments_of(guest))
    vmcore.write_bytes(content[: len(content) // 8])
    said = failed(capsys, vmcore, tmp_path / "out")
    assert said.startswith("p2mfix: the file is cut off, ") and "vmlinux" not in said
    vmcore.write_bytes(content)
    assert "give dom0's vmlinux with --vmlinux FILE" in failed(capsys, vmcore, tmp_path / "out")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_vmlinux_may_stand_beside_the_dump(
    tmp_path: Path, signals: None, capsys: pytest.CaptureFixture[str], order: tuple[int, int]
) -> None:
    guest, _ = guest_with("three-level", P2M, 1)
    (tmp_path / "apart").mkdir()
    vmcore, out = tmp_path / "vmcore", tmp_path / "out"
    vmcore.write_bytes(core_bytes(segments_of(guest)))
    vmlinux = vmlinux_of(guest, tmp_path / "apart")
    files = [str((vmlinux, vmcore)[number]) for number in order]
    main(["rewrite", *files, str(out)])
    assert diagnosed(guest, ElfCore(out)).healthy
    assert failed(capsys, vmlinux, vmcore) == (
        f"p2mfix: there is no dump before {vmcore}, the file to write: p2mfix rewrite VMCORE OUT\n"
    )


def test_the_vmlinux_beside_a_dump_is_taken_where_it_is_needed(
    signals: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    guest, _ = guest_with("three-level", P2M, 1)
    vmcore, out = tmp_path / "vmcore", tmp_path / "out"
    vmcore.write_bytes(core_bytes(segments_of(guest)))
    with pytest.raises(SystemExit):
        main(["rewrite", str(vmcore), str(out)])
    assert "give dom0's vmlinux with --vmlinux FILE" in capsys.readouterr().err
    vmlinux = vmlinux_of(guest, tmp_path)
    main(["rewrite", str(vmcore), str(out)])
    assert f"no vmlinux was given: taking {vmlinux}\n" in capsys.readouterr().err
    assert diagnosed(guest, ElfCore(out)).healthy
