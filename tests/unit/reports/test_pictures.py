# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a p2m: what each character and each bar stands for."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.outputs import write_file
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.p2m.entries import Kind
from pykdump_ext.p2m.ranges import Range, Source
from pykdump_ext.parts.p2m import p2m_page as report_page
from pykdump_ext.reports.map_legend import Look, cells
from pykdump_ext.reports.pictures import CHUNK, drawing, machine_memory
from pykdump_ext.reports.report import HEALTHY, Report
from pykdump_ext.reports.textmap import text_map

from ..made_up.guest import guest_with
from ..made_up.p2m import P2m, random_cells

SVG = "{http://www.w3.org/2000/svg}svg"


def sample(published: int = 2) -> Diagnosis:
    """Return a p2m of 16 leaves: 4 of memory, the list having ``published`` of them."""
    own = {i: random_cells(Random(i), [Kind.MEMORY]) for i in range(4)}
    guest, _ = guest_with("linear", P2m(512 * 16, own, frozenset({8, 9})), published)
    return diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())


def test_a_cell_shows_what_must_not_be_overlooked() -> None:
    parts = [
        Range(0, 9, Kind.MEMORY, Source.BOTH),
        Range(10, 10, Kind.MEMORY, Source.TABLES),
        Range(11, 39, Kind.MISSING, Source.SHARED),
        Range(40, 49, Kind.IDENTITY, Source.SHARED),
        Range(50, 50, Kind.FOREIGN, Source.BOTH),
        Range(51, 94, Kind.MEMORY, Source.LIST),
    ]
    assert "".join(look.letter for look in cells(parts, 95, 10)) == "#!..if####"
    assert "".join(look.letter for look in cells(parts, 95, 1)) == "!"
    assert len(cells(parts, 95, 1000)) == 95


def test_the_map_of_text() -> None:
    assert text_map(sample(), width=22) == (
        "   0  ##!!....ii......\n"
        "\n"
        "      !           1,024  memory that the dump's list does not have\n"
        "      #           1,024  memory\n"
        "      i           1,024  identity: not memory, mfn is pfn\n"
        "      .           5,120  missing: nothing is there\n"
        "      one character is 512 pages, 2 MiB\n"
    )


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b" not in text_map(sample())
    coloured = text_map(sample(), colour=True)
    assert "\x1b[34m##\x1b[0m\x1b[1;31m!!\x1b[0m" in coloured


@pytest.mark.parametrize(("width", "height"), [(10, 1), (40, 2), (200, 50)])
def test_a_map_is_no_larger_than_asked(width: int, height: int) -> None:
    drawn = text_map(sample(), width, height).split("\n\n")[0].splitlines()
    assert len(drawn) <= height
    assert max(map(len, drawn)) <= max(width, 14)


def test_machine_memory_is_counted_by_the_megabyte() -> None:
    found = sample(3)
    places = machine_memory(found)
    for look, leaves in ((Look.MEMORY, range(3)), (Look.LOST, range(3, 4))):
        wanted: dict[int, int] = {}
        for leaf in leaves:
            for pfn in range(leaf * 512, leaf * 512 + 512):
                entry = found.entry(found.rebuilt, pfn) or 0
                wanted[entry - entry % CHUNK] = wanted.get(entry - entry % CHUNK, 0) + 1
        assert places[look] == wanted


def test_consecutive_frames_are_counted_the_same() -> None:
    own = {0: [(Kind.MEMORY, 0x12380 + i) for i in range(512)]}
    guest, _ = guest_with("linear", P2m(500, own))
    memory = guest.machine.memory()
    found = diagnose(memory, guest.symbols, guest.banner, guest.hints())
    assert machine_memory(found)[Look.MEMORY] == {0x12300: 128, 0x12400: 256, 0x12500: 116}


def test_a_leaf_that_begins_with_no_memory_is_counted_too() -> None:
    memory = [(Kind.MEMORY, 0x12345 + i) for i in range(500)]
    identity = [(Kind.IDENTITY, 0) for _ in range(512)]  # consecutive, and no memory
    for first in (Kind.MISSING, Kind.IDENTITY, Kind.FOREIGN):
        p2m = P2m(1024, {0: [(first, 0x77)] * 12 + memory, 1: identity})
        guest, _ = guest_with("linear", p2m)
        found = diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())
        places = machine_memory(found)[Look.MEMORY]
        assert places == {0x12300: 187, 0x12400: 256, 0x12500: 57}
        assert drawing(found, "svg")


def test_drawings_are_what_their_format_says(tmp_path: Path) -> None:
    write_file(str(tmp_path / "map.svg"), drawing(sample(), "svg"))
    assert ET.parse(tmp_path / "map.svg").getroot().tag == SVG
    write_file(str(tmp_path / "map.png"), drawing(sample(), "png"))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(P2mError, match="/no/such: no such folder"):
        write_file("/no/such/map.svg", drawing(sample(), "svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "map.svg"]


def test_a_picture_never_replaces_what_it_is_of_nor_a_device(tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(b"dump")
    (tmp_path / "link").symlink_to("vmcore")
    os.mkfifo(tmp_path / "pipe")
    inputs = [str(tmp_path / "vmcore")]
    for name in ("vmcore", "link"):
        with pytest.raises(P2mError, match="which is never written"):
            write_file(str(tmp_path / name), drawing(sample(), "svg"), inputs)
        with pytest.raises(P2mError, match="which is never written"):
            write_file(str(tmp_path / name), report_page(Report("vmcore"), None), inputs)
    assert (tmp_path / "vmcore").read_bytes() == b"dump"
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write_file(str(tmp_path / "pipe"), drawing(sample(), "svg"), inputs)
    assert ET.fromstring(reader.communicate()[0]).tag == SVG
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "other").symlink_to("there")
    write_file(str(tmp_path / "other"), drawing(sample(), "svg"), inputs)
    assert (tmp_path / "other").is_symlink()
    assert ET.parse(tmp_path / "there").getroot().tag == SVG


class Page(HTMLParser):
    """What a page asks for, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.wanted += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("found", [None, sample()], ids=["no diagnosis", "with drawings"])
def test_a_page_stands_alone(tmp_path: Path, found: Diagnosis | None) -> None:
    result = Report("/dumps/<b>&", verdict=HEALTHY, xen="4.17", problems=['it\'s "so"'])
    write_file(str(tmp_path / "page.html"), report_page(result, found))
    text = (tmp_path / "page.html").read_text()
    page = Page()
    page.feed(text)
    assert all(place.startswith("#") for place in page.wanted)
    assert "/dumps/<b>&" in page.text and HEALTHY in page.text and 'it\'s "so"' in page.text
    assert ("<svg" in text) is (found is not None)
    assert text.count("url(") == text.count("url(#")
