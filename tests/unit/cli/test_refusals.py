# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands that need no crash refuse, and that they say why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import NotPvError, P2mError
from pykdump_ext.launch import command_line
from pykdump_ext.launch.command_line import Request
from pykdump_ext.reports.report import NOT_PV
from pykdump_ext.reports.views import VIEWS
from pykdump_ext.xen.notes import XEN_ELFNOTE_CRASH_INFO
from tests.lab.kdump import kdump

from ..made_up.copies import notes_of, segments_of
from ..made_up.core import PT_NOTE, Segment, core_bytes, note
from ..made_up.host import Host
from ..made_up.machine import PAGE
from ..made_up.p2m import P2M, P2m
from ..made_up.talkative import talkative
from ..made_up.vmlinux import link, vmlinux_of

ARGUMENTS = {"pfn": ["0"], "mfn": ["5000"], "va": ["linux_banner"]}


def ended(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run p2mfix, which fails, and return its one sentence."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("p2mfix: ")
    return said[0].removeprefix("p2mfix: ")


@pytest.fixture
def pvh(tmp_path: Path) -> Path:
    """The dump of a host whose dom0 is a PVH domain: it has memory, and publishes nothing."""
    host = Host()
    host.give(host.add(0, (0x8000, 0)), host.machine.frame())
    host.cr3s = [host.xen.root * PAGE]
    notes = b"".join(
        note(
            one.owner.encode(),
            one.type,
            one.data[:-8] + bytes(8) if one.type == XEN_ELFNOTE_CRASH_INFO else one.data,
        )
        for one in host.notes()
    )
    pages = host.memory().pages
    segments = [Segment(mfn * PAGE, bytes(page)) for mfn, page in sorted(pages.items())]
    path = tmp_path / "pvh"
    path.write_bytes(core_bytes([Segment(0, notes, PT_NOTE), *segments]))
    return path


@pytest.fixture
def vmlinux(tmp_path: Path) -> Path:
    """A kernel that is not in any of these dumps."""
    source = """
    const char linux_banner[] = "Linux version 9.9.9-other\\n";
    int main(void) { return linux_banner[0]; }
    """
    folder = tmp_path / "other"
    folder.mkdir()
    return link(folder, source)


WANTED = "dom0 is a PVH or HVM domain: it has no p2m, and p2mfix opens PV domains only"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("with_vmlinux", [False, True])
def test_no_view_of_a_pvh_dom0(
    capsys: pytest.CaptureFixture[str], pvh: Path, vmlinux: Path, view: str, with_vmlinux: bool
) -> None:
    files = [pvh, vmlinux] if with_vmlinux else [pvh]
    assert ended(capsys, view, *ARGUMENTS.get(view, []), *files) == WANTED


@pytest.mark.parametrize("with_vmlinux", [False, True])
def test_diagnose_names_a_pvh_dom0(
    capsys: pytest.CaptureFixture[str], pvh: Path, vmlinux: Path, with_vmlinux: bool
) -> None:
    files = [str(pvh), *([str(vmlinux)] if with_vmlinux else [])]
    main(["diagnose", "--json", *files])
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["problems"]) == (NOT_PV, [WANTED])
    assert found["crash_says"] is None and found["next"] is None
    main(["diagnose", *files, str(pvh)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.endswith(NOT_PV) for line in lines)


def test_rewrite_has_no_advice_for_a_pvh_dom0(
    capsys: pytest.CaptureFixture[str], pvh: Path, tmp_path: Path
) -> None:
    assert ended(capsys, "rewrite", pvh, tmp_path / "out") == WANTED
    assert not (tmp_path / "out").exists()


def test_crash_is_not_started_on_a_pvh_dom0(
    monkeypatch: pytest.MonkeyPatch, pvh: Path, vmlinux: Path
) -> None:
    monkeypatch.setattr(command_line, "installed_crash", lambda: ("crash", "8.0.2"))
    with pytest.raises(NotPvError, match=WANTED):
        command_line.command_line(Request([str(vmlinux), str(pvh)]))


def test_crash_is_not_started_without_a_dump(
    monkeypatch: pytest.MonkeyPatch, vmlinux: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(command_line, "installed_crash", lambda: ("crash", "8.0.2"))
    empty, unknown = tmp_path / "empty", tmp_path / "unknown"
    empty.touch()
    unknown.write_text("of a format that crash may know\n")
    for other in (vmlinux, "/bin/true", empty):
        with pytest.raises(P2mError, match=r"^there is no dump among these files$"):
            command_line.command_line(Request([str(vmlinux), str(other)]))
    files = [str(vmlinux), str(unknown)]
    assert command_line.command_line(Request(files)) == ["crash", *files]


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A dump whose kernel publishes its p2m, alone in a folder."""
    (tmp_path / "case").mkdir()
    path = tmp_path / "case" / "vmcore"
    path.write_bytes(core_bytes(segments_of(talkative(P2M))))
    return path


def test_a_vmlinux_of_another_kernel_is_refused_by_every_view(
    capsys: pytest.CaptureFixture[str], dump: Path, vmlinux: Path
) -> None:
    for view in VIEWS:
        said = ended(capsys, view, *ARGUMENTS.get(view, []), dump, vmlinux)
        assert said == (
            f"{vmlinux}: is of Linux 9.9.9-other, and the dump is of Linux 5.4.17-test: give the"
            " vmlinux of 5.4.17-test"
        )


def test_several_of_other_kernels_are_each_given_their_reason(
    capsys: pytest.CaptureFixture[str], dump: Path, vmlinux: Path
) -> None:
    said = ended(capsys, "list", dump, vmlinux, vmlinux)
    assert said == (
        "no given vmlinux matches this dump, which is of Linux 5.4.17-test:"
        f" {vmlinux} is of 9.9.9-other, {vmlinux} is of 9.9.9-other"
    )
    assert said.count(str(vmlinux)) == 2


def test_a_picture_never_replaces_a_dump_however_it_was_named(
    capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    before = dump.read_bytes()
    for kind in ("--svg", "--png"):
        assert ended(capsys, "map", kind, dump, dump.parent).endswith("which is never written")
        assert ended(capsys, "map", dump.parent, kind, dump).endswith("which is never written")
    for given in (dump, dump.parent):
        said = ended(capsys, "diagnose", given, "--html", dump)
        assert said.endswith("which is never written")
    other = dump.with_name("other")
    other.write_bytes(before)
    wanted = f"{other}: is a dump, which is never replaced; name another file"
    assert ended(capsys, "map", "--svg", other, dump) == wanted
    assert ended(capsys, "diagnose", "--html", other, dump) == wanted
    assert ended(capsys, "rewrite", dump, other, "--force") == wanted
    assert dump.read_bytes() == other.read_bytes() == before
    assert sorted(path.name for path in dump.parent.iterdir()) == ["other", "vmcore"]


def test_the_file_that_a_name_led_to_is_not_written_under_the_name_it_has_now(
    capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    link, hard = dump.with_name("link"), dump.with_name("hard")
    link.symlink_to(dump)
    os.link(dump, hard)
    before = dump.read_bytes()
    for out in (dump, link, hard):
        assert ended(capsys, "map", link, "--svg", out).endswith("which is never written")
        assert ended(capsys, "diagnose", link, "--html", out).endswith("which is never written")
        assert ended(capsys, "rewrite", link, out, "--force").endswith("which is never written")
    assert dump.read_bytes() == before
    assert sorted(path.name for path in dump.parent.iterdir()) == ["hard", "link", "vmcore"]


def test_a_cut_file_says_so_before_what_follows_from_it(
    capsys: pytest.CaptureFixture[str], dump: Path
) -> None:
    os.truncate(dump, dump.stat().st_size // 2)
    said = ended(capsys, "list", dump)
    assert said.startswith("the file is cut off, ") and " bytes are missing: " in said


def test_without_the_vmlinux_missing_and_identity_are_one_kind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    guest = talkative(P2m(4096, P2M.own, frozenset({1, 2})))
    path = tmp_path / "vmcore"
    path.write_bytes(kdump({m: bytes(p) for m, p in guest.machine.pages.items()},
                           notes=notes_of(guest)))  # fmt: skip
    kernel = vmlinux_of(guest, tmp_path / "apart")

    def shown(*words: str | Path) -> str:
        main([str(word) for word in words])
        said = capsys.readouterr()
        assert not said.err
        return said.out

    either = "missing or identity"
    assert shown("pfn", "200", path).startswith(f"pfn 200: {either}\n")
    assert json.loads(shown("pfn", "200", "--json", path))["kind"] == either
    assert either in {row["kind"] for row in json.loads(shown("list", "--json", path))["ranges"]}
    assert f"  {either} shared page\n" in shown("list", path)
    assert f"  {either}: only the vmlinux shows which\n" in shown("map", path)
    assert "?" in json.loads(shown("map", "--json", path))["cells"]
    counts = json.loads(shown("diagnose", "--json", path))["kinds"]
    assert counts[either] > 0 and f"{counts[either]:,} {either}" in shown("diagnose", path)
    svg = tmp_path / "map.svg"
    shown("map", path, "--svg", svg)
    assert f"{either}: only the vmlinux" in svg.read_text()

    assert shown("pfn", "200", path, kernel).startswith("pfn 200: identity\n")
    for view in ("list", "map", "diagnose"):
        assert either not in shown(view, path, kernel)
        assert "identity" in shown(view, path, kernel)
    assert json.loads(shown("diagnose", "--json", path, kernel))["kinds"][either] == 0


@pytest.mark.parametrize("view", ["pfn", "mfn"])
@pytest.mark.parametrize("number", ["x", "0x", "12345678901234567"])
def test_a_number_that_is_none_is_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str], view: str, number: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([view, number, "vmcore"])
    assert stop.value.code == 2
    assert f"{number}: not a hexadecimal number of up to 64 bits" in capsys.readouterr().err
