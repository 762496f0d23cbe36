# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a p2m on the command line: text and JSON, with the vmlinux and without."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.m2p import MACH2PHYS_VIRT_START
from tests.lab.kdump import kdump

from ..made_up.copies import notes_of, segments_of
from ..made_up.core import Segment, core_bytes
from ..made_up.guest import Guest
from ..made_up.machine import DIRECT_MAP, PAGE, Machine
from ..made_up.p2m import P2m
from ..made_up.talkative import SHARED_INFO, talkative
from ..made_up.vmlinux import vmlinux_of

LOST = [
    *((Kind.MEMORY, 0x9000 + i) for i in range(100)),
    *((Kind.FOREIGN, 0x7777 + i) for i in range(2)),
    *((Kind.IDENTITY, 0) for _ in range(98)),
    *((Kind.MISSING, 0) for _ in range(312)),
]
P2M = P2m(2048, {0: [(Kind.MEMORY, 0x5000 + i) for i in range(512)], 2: LOST}, frozenset({3}))


class Made(NamedTuple):
    """A dump whose list ends after its first leaf, and its kernel's vmlinux."""

    guest: Guest
    vmcore: Path
    vmlinux: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("views")
    guest = talkative(P2M)
    m2p = [*range(512)]
    m2p[7] = m2p[8] = 0x123
    guest.space.map(MACH2PHYS_VIRT_START + 0x5000 // 512 * PAGE, guest.machine.frame(m2p))
    guest.space.map(DIRECT_MAP + 0x405 * PAGE, 0x4444)
    (folder / "vmcore").write_bytes(core_bytes(segments_of(guest)))
    return Made(guest, folder / "vmcore", vmlinux_of(guest, folder / "apart"))


Shown = Callable[..., str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return a function that runs p2mfix, and returns what it prints."""

    def run(*words: str | Path) -> str:
        main([str(word) for word in words])
        said = capsys.readouterr()
        assert not said.err
        return said.out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return a function that runs p2mfix, and returns the one sentence with which it ends."""

    def run(*words: str | Path) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        said = capsys.readouterr().err
        assert stop.value.code == 1
        assert said.startswith("p2mfix: ") and said.count("\n") == 1, said
        return said.removeprefix("p2mfix: ").rstrip("\n")

    return run


@pytest.fixture(params=["with the vmlinux", "without"])
def files(request: pytest.FixtureRequest, made: Made) -> list[Path]:
    return [made.vmcore, *([made.vmlinux] if request.param == "with the vmlinux" else [])]


RANGES = """\
     FIRST       LAST          PAGES  KIND      KNOWN FROM
         0        1ff            512  memory    list and page tables
       200        3ff            512  missing   shared page
       400        463            100  memory    page tables only
       464        465              2  foreign   page tables only
       466        4c7             98  identity  page tables only
       4c8        5ff            312  missing   list and page tables
"""
IDENTITY = "       600        7ff            512  identity  shared page\n"
EITHER = "missing or identity"  # nothing says which of the two a shared page is


def without_vmlinux(ranges: str) -> str:
    """Return the ranges as they are without the vmlinux: the second is a shared page's."""
    wide = "".join(f"{line[:47]}{'':10}{line[47:]}\n" for line in ranges.splitlines())
    return wide.replace(f"missing{'':12} shared", f"{EITHER} shared")


def test_list_prints_every_range_with_its_source(made: Made, shown: Shown) -> None:
    assert shown("list", made.vmcore, made.vmlinux) == RANGES + IDENTITY
    assert shown("list", made.vmlinux, made.vmcore) == RANGES + IDENTITY
    assert shown("list", made.vmcore) == without_vmlinux(RANGES)  # nothing says where it ends


def test_list_as_json_has_the_same_ranges(shown: Shown, files: list[Path]) -> None:
    listed = shown("list", *files).replace(EITHER, "missing/or/identity")
    text = [line.split(maxsplit=4) for line in listed.splitlines()[1:]]
    found = json.loads(shown("list", "--json", *files))
    assert found["max_pfn"] == (2048 if len(files) == 2 else 1536)
    assert [
        [part["first"][2:], part["last"][2:], f"{part['pages']:,}", part["kind"].replace(" ", "/")]
        for part in found["ranges"]
    ] == [row[:4] for row in text]
    assert [part["source"] for part in found["ranges"]] == [row[4] for row in text]


def test_verify_counts_what_agrees_and_names_what_does_not(shown: Shown, files: list[Path]) -> None:
    wanted = (
        "612 pages in 2 of 2 leaves (all):\n"
        "              direct map: agrees on 611, disagrees on 1\n"
        "   machine-to-phys table: agrees on 510, disagrees on 2, has nothing for 100\n"
        "  pfn 7-8: the p2m has mfn 5007 for the first, the machine-to-phys table pfn 123\n"
        "  pfn 405-405: the p2m has mfn 9005 for the first, the direct map mfn 4444\n"
    )
    assert shown("verify", *files) == wanted
    assert shown("verify", "--all", *files) == wanted
    fields = ("table", "first", "last", "p2m", "other")
    assert json.loads(shown("verify", "--json", *files)) == {
        "leaves": 2,
        "compared_leaves": 2,
        "pages": 612,
        "direct_map": {"agree": 611, "differ": 1, "absent": 0},
        "m2p": {"agree": 510, "differ": 2, "absent": 100},
        "disagreements": [
            dict(zip(fields, ("machine-to-phys table", "0x7", "0x8", "0x5007", "0x123"))),
            dict(zip(fields, ("direct map", "0x405", "0x405", "0x9005", "0x4444"))),
        ],
    }


def test_a_sample_says_that_it_is_one(
    shown: Shown, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pykdump_ext.reports.views.list_verify_map.SAMPLE", 1)
    assert shown("verify", *files).startswith("512 pages in 1 of 2 leaves (a sample):\n")
    assert shown("verify", "--all", *files).startswith("612 pages in 2 of 2 leaves (all):\n")


@pytest.mark.parametrize("number", ["403", "0x403"])
def test_pfn_shows_the_entry_by_both_lists(shown: Shown, files: list[Path], number: str) -> None:
    lines = shown("pfn", number, *files).splitlines()
    assert lines[0] == "pfn 403: memory"
    assert lines[1].startswith("   dump's list: missing (leaf mfn ")
    assert lines[2].startswith("  rebuilt list: mfn 9003, memory (leaf mfn ")
    found = json.loads(shown("pfn", number, "--json", *files))
    assert (found["pfn"], found["kind"]) == ("0x403", "memory")
    for line, entry in zip(lines[1:], (found["dumps_list"], found["rebuilt_list"])):
        assert f"{entry['kind']} (leaf mfn {entry['leaf_mfn'][2:]})" in line
    entries = [found[name]["entry"] for name in ("dumps_list", "rebuilt_list")]
    assert entries == ["0x" + "f" * 16, "0x9003"]


def test_pfn_says_why_an_identity_pfn_is_missing_in_the_lists(made: Made, shown: Shown) -> None:
    lines = shown("pfn", "601", made.vmcore, made.vmlinux).splitlines()
    assert lines[0] == "pfn 601: identity" and "missing" in lines[2]
    assert lines[3] == "  a list has no leaves of identity pfns: what they hold reads as missing"


@pytest.mark.parametrize(
    ("number", "kind"),
    [("5", "memory"), ("464", "foreign"), ("466", "identity"), ("200", "missing")],
)
def test_pfn_names_the_kind(shown: Shown, files: list[Path], number: str, kind: str) -> None:
    if kind == "missing" and len(files) == 1:
        kind = EITHER
    assert shown("pfn", number, *files).startswith(f"pfn {number}: {kind}\n")


def test_mfn_finds_the_pfn(shown: Shown, files: list[Path]) -> None:
    assert shown("mfn", "9003", *files) == "mfn 9003: pfn 403\n"
    assert shown("mfn", "7777", *files) == "mfn 7777: not dom0's memory\n"
    for mfn, pfns in (("9003", ["0x403"]), ("4", [])):
        found = json.loads(shown("mfn", mfn, "--json", *files))
        assert found == {"mfn": f"0x{mfn}", "pfns": pfns}


def test_va_shows_each_level_and_then_the_pfn(made: Made, shown: Shown, files: list[Path]) -> None:
    vaddr = DIRECT_MAP + 0x403 * PAGE + 0x123
    lines = shown("va", f"{vaddr:x}", *files).splitlines()
    assert lines[0] == f"virtual address {vaddr:x}, page tables at {made.guest.root:x}"
    assert [line.split(":")[0] for line in lines[1:5]] == ["  PGD", "  PUD", "  PMD", "  PTE"]
    assert lines[5:7] == [
        "  machine address 9003123 (mfn 9003)",
        "  pseudo-physical address 403123 (pfn 403)",
    ]
    assert lines[7:] == ["  " + line for line in shown("pfn", "403", *files).splitlines()[1:]]
    found = json.loads(shown("va", f"0x{vaddr:x}", "--json", *files))
    assert (found["address"], found["root"]) == (hex(vaddr), hex(made.guest.root))
    assert (found["maddr"], [one["pfn"] for one in found["pfns"]]) == ("0x9003123", ["0x403"])
    assert [
        f"  {step['level']}: {step['entry_maddr'][2:]:>12} => {step['entry'][2:]}"
        f" ({'|'.join(step['flags'])})"
        for step in found["steps"]
    ] == lines[1:5]


def test_va_takes_a_symbol_of_the_vmlinux(made: Made, shown: Shown, refused: Shown) -> None:
    vaddr = made.guest.symbols["max_pfn"]
    by_name = shown("va", "max_pfn", made.vmcore, made.vmlinux)
    assert by_name == shown("va", f"{vaddr:x}", made.vmcore, made.vmlinux)
    assert f"(mfn {(made.guest.space.maddr(vaddr) or 0) // PAGE:x})" in by_name
    wanted = "max_pfn: not a hexadecimal address; a symbol needs the dump's vmlinux"
    assert refused("va", "max_pfn", made.vmcore) == wanted


MAP = """
     !             100  memory that the dump's list does not have
     f               2  foreign: another domain's frame
     #             512  memory
     i {identity:>15}  identity: not memory, mfn is pfn
{either}     . {missing:>15}  missing: nothing is there
     one character is 512 pages, 2 MiB
"""


def test_map_draws_pfn_space(made: Made, shown: Shown) -> None:
    drawn = shown("map", made.vmcore, made.vmlinux)
    assert drawn == "  0  #.!i\n" + MAP.format(identity=610, either="", missing=824)
    either = f"     ?             512  {EITHER}: only the vmlinux shows which\n"
    legend = MAP.format(identity=98, either=either, missing=312)
    assert shown("map", made.vmcore) == "  0  #?!\n" + legend


def test_map_as_json_has_the_cells_and_their_meaning(shown: Shown, files: list[Path]) -> None:
    found = json.loads(shown("map", "--json", *files))
    assert found["pages_per_cell"] == 512
    assert found["cells"] == ("#.!i" if len(files) == 2 else "#?!")
    legend = "".join(
        f"     {one['letter']} {one['pages']:>15,}  {one['meaning']}\n" for one in found["legend"]
    )
    assert legend in shown("map", *files)


def test_map_writes_pictures_and_never_over_its_files(
    made: Made, shown: Shown, refused: Shown, files: list[Path], tmp_path: Path
) -> None:
    assert shown("map", *files, "--svg", tmp_path / "a.svg", "--png", tmp_path / "a.png") == ""
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for file in files:
        before = file.read_bytes()
        assert "which is never written" in refused("map", *files, "--svg", file)
        assert file.read_bytes() == before


# Split dumps


def split(guest: Guest, folder: Path, name: str = "s") -> list[Path]:
    """Write a guest's machine as a split dump, and return its two files."""
    pages = {mfn: bytes(page) for mfn, page in guest.machine.pages.items()}
    middle = sorted(pages)[len(pages) // 2]
    paths = [folder / f"{name}1", folder / f"{name}2"]
    for path, part in zip(paths, [(0, middle), (middle, max(pages) + 1)]):
        path.write_bytes(kdump(pages, notes=notes_of(guest), part=part))
    return paths


COMMANDS = ("list", "verify", "pfn 403", "mfn 9003", "va ffff888000403123", "map")
VIEWS = [command.split() for command in COMMANDS]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[0])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_split_dump_shows_what_the_whole_one_shows(
    made: Made, shown: Shown, files: list[Path], tmp_path: Path, view: list[str], backwards: bool
) -> None:
    parts = split(made.guest, tmp_path)[:: -1 if backwards else 1]
    for option in ([], ["--json"]):
        wanted = shown(*view, *option, *files)
        assert shown(*view, *option, parts[0], *files[1:], parts[1]) == wanted


def test_diagnose_reports_a_split_dump_once(made: Made, shown: Shown, tmp_path: Path) -> None:
    first, second = split(made.guest, tmp_path)
    found: dict[str, Any] = json.loads(shown("diagnose", "--json", first, second, made.vmlinux))
    assert found["dump"] == f"{first} {second}"
    assert found["format"].startswith("kdump-compressed, split into 2 files")
    assert found["vmlinux"] == str(made.vmlinux)
    assert found["verdict"] == "the list ends too early"
    assert found["next"] == f"p2mfix {made.vmlinux} {first} {second}"
    assert shown("diagnose", first, second).startswith(f"         dump: {first} {second}\n")


def test_dumps_beside_each_other_are_told_apart(made: Made, shown: Shown, tmp_path: Path) -> None:
    parts, others = split(made.guest, tmp_path), split(Guest(Machine()), tmp_path, "t")
    lines = shown("diagnose", "--json", *parts, made.vmcore, *others).splitlines()
    assert [json.loads(line)["dump"] for line in lines] == [
        f"{parts[0]} {parts[1]}",
        str(made.vmcore),
        f"{others[0]} {others[1]}",
    ]


# Errors


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[0])
def test_a_view_takes_the_files_of_one_xen_dump(
    made: Made, refused: Shown, tmp_path: Path, view: list[str]
) -> None:
    assert refused(*view, made.vmlinux) == "there is no dump among these files"
    copy = tmp_path / "copy"
    copy.write_bytes(made.vmcore.read_bytes())
    said = refused(*view, made.vmcore, copy, made.vmlinux)
    assert said == f"give one dump: {made.vmcore}, {copy} are not the files of one split dump"
    copy.write_bytes(core_bytes([Segment(0x1000, bytes(PAGE))]))
    assert refused(*view, copy, made.vmlinux) == f"{copy}: not a dump of a Xen host"
    assert refused(*view, tmp_path / "none") == f"{tmp_path / 'none'}: No such file or directory"


def test_an_argument_that_does_not_fit_is_a_sentence(refused: Shown, files: list[Path]) -> None:
    last = "7ff" if len(files) == 2 else "5ff"
    assert refused("pfn", "800", *files) == f"pfn 800 is above the last one, {last}"
    assert "not canonical" in refused("va", "123456789abcdef", *files)
    assert refused("va", "ffffffffffe00000", *files).endswith("is not mapped")


def test_a_kernel_that_publishes_no_p2m_needs_its_vmlinux(
    made: Made, shown: Shown, refused: Shown, tmp_path: Path
) -> None:
    page = (made.guest.space.maddr(SHARED_INFO) or 0) // PAGE
    pages = made.guest.machine.pages
    silent = {mfn: bytes(content) for mfn, content in pages.items() if mfn != page}
    dump = tmp_path / "silent"
    dump.write_bytes(kdump(silent, notes=notes_of(made.guest)))
    assert shown("list", dump, made.vmlinux) == RANGES + IDENTITY
    assert "p2m" in refused("list", dump)
