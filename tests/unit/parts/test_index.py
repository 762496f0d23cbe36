# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of many reports: which dumps are of one kind, and in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pykdump_ext.cli.p2mfix import main
from pykdump_ext.cli.report import page_names
from pykdump_ext.parts.blocks import Facts, Paragraph
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.document import Document
from pykdump_ext.parts.happened import WHERE
from pykdump_ext.parts.index import Summary, groups, index_page, summary, with_summary
from pykdump_ext.parts.part import Part, Result

from ..made_up.core import core_bytes
from .sample import opened


def report(cause: str, time: str = "2026-01-02", where: str = "f < g") -> dict[str, Any]:
    facts = {"time of the crash": time, "host name": "h", "Xen": "4.17", WHERE: where}
    blocks = [{"kind": "paragraph", "text": cause}, {"kind": "facts", "facts": facts}]
    return {"dump": f"{time}.vmcore", "parts": [{"name": "happened", "blocks": blocks}]}


def made(*reports: dict[str, Any]) -> list[Summary]:
    return [summary(one, f"{number}.html") for number, one in enumerate(reports)]


def test_a_summary_has_what_the_report_begins_with() -> None:
    (one,) = made(report("dom0 died: x"))
    assert (one.cause, one.host, one.linux, one.xen) == ("dom0 died: x", "h", "", "4.17")
    assert one.functions == ("f", "g")
    (none,) = made(report("dom0 died.", where=""))
    assert none.functions == ()


def test_addresses_and_numbers_make_no_difference_and_the_function_does() -> None:
    first = report("BUG: fault at ffff88810621fb80 on cpu 3, RIP: f+0x1c/0x60", "2026-01-01")
    second = report("BUG: fault at 0x10 on cpu 12, RIP: f+0x5/0x90", "2026-03-01", "f < called")
    other = report("BUG: fault at ffff888106000000 on cpu 12, RIP: f+0x5/0x90", "2026-02-01", "g")
    found = groups(made(first, other, second))
    assert [[one.time for one in group.dumps] for group in found] == [
        ["2026-03-01", "2026-01-01"],
        ["2026-02-01"],
    ]
    assert found[0].cause == second["parts"][0]["blocks"][0]["text"]


def test_the_page_leads_to_each_dump_and_escapes() -> None:
    broken = {"dump": "<b>", "problem": "<b>: <i>no</i>", "parts": []}
    text = index_page(made(report("<script>"), broken)).decode()
    assert re.findall(r'href="([^"]*)"', text) == ["0.html", "1.html"]
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
    assert "no report could be made: &lt;i&gt;no" in text


def test_each_page_has_a_name_of_its_own() -> None:
    names = page_names([["/a/h 1/vmcore"], ["/b/h 1/vmcore"], ["/c/..\u202e/v"]])
    assert names[:2] == ["h_1-vmcore.html", "h_1-vmcore-2.html"]
    assert re.fullmatch(r"[\w.-]+", names[2]) and len(set(names)) == 3


def test_a_dump_that_cannot_be_opened_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("no dump")
    words = ["report", str(tmp_path / "one"), str(tmp_path / "two")]
    with pytest.raises(SystemExit):
        main([*words, "-o", str(tmp_path / "out"), "--json"])
    printed = capsys.readouterr()
    assert f"2 of 2 dumps have no report: {tmp_path / 'one'}: not " in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [Path(line["dump"]).name for line in lines] == ["one", "two"]
    assert all(line["problem"] and not line["parts"] for line in lines)
    pages = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pages[0] == "index.html" and len(pages) == 3
    with pytest.raises(SystemExit):
        main(words)
    assert "these are 2 dumps: give -o FOLDER for pages, or --json" in capsys.readouterr().err


def test_a_file_that_is_no_vmlinux_does_not_count_as_a_second_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "vmcore"
    dump.write_bytes(core_bytes([]))
    other = tmp_path / "vmlinux-6.l"
    for output in ([], ["-o", str(tmp_path / "case.html")], ["--json"]):
        with pytest.raises(SystemExit):
            main(["report", str(dump), str(other), *output])
        assert capsys.readouterr().err == f"p2mfix: {other}: No such file or directory\n"


def test_one_dump_without_a_report_has_its_line_of_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").write_text("no dump")
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "one"), "--json"])
    printed = capsys.readouterr()
    line = json.loads(printed.out)
    assert line["problem"] == printed.err.removeprefix("p2mfix: ").rstrip()
    assert line["cause"] == f"no report could be made: {line['problem'].partition(': ')[2]}"


def test_an_empty_vmcore_of_a_folder_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/vmcore").touch()
    (tmp_path / "b/vmcore-incomplete").write_text("no dump")
    (tmp_path / "b/vmcore-dmesg.txt").write_text("a log")
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["dump"]).name for line in lines] == ["vmcore", "vmcore-incomplete"]
    assert lines[0]["problem"].endswith("the file is empty")


def test_a_page_is_not_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "-o", "case.html", "--json"])
    assert "case.html: is the name of a web page, and there is --json" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_takes_no_other_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dumps = [str(tmp_path / name) for name in ("one", "two", "three")]
    for dump in dumps:
        Path(dump).write_text("no dump")
    names, out = page_names([[dump] for dump in dumps]), tmp_path / "out"
    (out / names[1]).mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["report", *dumps, "-o", str(out), "--json"])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert f"1 of 3 pages were not written: {out / names[1]}: " in printed.err
    index = (out / "index.html").read_text()
    assert re.findall(r'href="([^"]*)"', index) == [names[0], names[2]]
    assert f"{dumps[1]} (no page)" in index


def test_a_long_name_of_a_page_is_cut() -> None:
    names = page_names([[f"/{'a' * 250}/{chr(0xE9) * 120}x"]] * 2)
    assert len(set(names)) == 2 and names[0].endswith("x.html")
    assert max(len(name.encode()) for name in names) < 256


def folder_with(dumps: int, folder: Path) -> Path:
    for number in range(dumps):
        (folder / f"host{number}").mkdir(parents=True)
        (folder / f"host{number}" / "vmcore").write_bytes(b"KDUMP   " + bytes(4096))
    return folder


def test_a_folder_with_one_dump_has_an_index_or_a_page_as_the_output_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr("pykdump_ext.cli.report.run_many", lambda *args: ran.append("many"))
    monkeypatch.setattr("pykdump_ext.cli.report.run_one", lambda *args: ran.append("one"))
    one = str(folder_with(1, tmp_path / "one"))
    (tmp_path / "pages.html").mkdir()
    for output in ("pages", "page.html", "page.json", "page.txt", "pages.html", "x/"):
        main(["report", one, "-o", str(tmp_path / output)])
    assert ran == ["many", "one", "one", "one", "many", "many"]
    main(["report", one])
    main(["report", one, "--json"])
    main(["report", f"{one}/host0/vmcore", "-o", str(tmp_path / "any")])
    assert ran[6:] == ["one"] * 3


def test_pages_of_many_dumps_are_not_written_into_the_name_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = str(folder_with(2, tmp_path / "two"))
    with pytest.raises(SystemExit):
        main(["report", two, "-o", str(tmp_path / "page.html")])
    said = capsys.readouterr().err
    assert "page.html: pages of 2 dumps go into a folder" in said
    assert not (tmp_path / "page.html").exists()


def test_the_index_has_what_happened_whatever_parts_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And JSON has no cause where it was not looked for."""
    made_of: list[list[str]] = []

    def make(case: Case, parts: list[Part]) -> Document:
        made_of.append([part.name for part in parts])
        facts = Facts([("time of the crash", "2026-01-01")])
        died = Result("happened", "What happened", [Paragraph("dom0 died: x"), facts])
        return Document("d", [died], 0)

    def in_this_process(tasks: list[Any], jobs: int, failed: Any) -> Iterator[Any]:
        yield from (task() for task in tasks)

    monkeypatch.setattr("pykdump_ext.cli.report.make", make)
    monkeypatch.setattr("pykdump_ext.cli.report.in_processes", in_this_process)
    monkeypatch.setattr("pykdump_ext.cli.report.open_dump", lambda paths: opened().dump)
    words = ["report", str(folder_with(2, tmp_path / "two")), "--only", "p2m,xenlog"]
    main([*words, "-o", str(tmp_path / "pages")])
    assert made_of == [["happened", "xenlog", "p2m"]] * 2
    assert "<h2>dom0 died: x</h2>" in (tmp_path / "pages" / "index.html").read_text()
    main([*words, "--json"])
    assert made_of[2:] == [["xenlog", "p2m"]] * 2
    without = with_summary({"dump": "d", "parts": [{"name": "p2m", "blocks": []}]})
    assert without["cause"] is None


@pytest.mark.parametrize(("number", "title"), [(1, "Reports of 1 dump, "), (2, "of 2 dumps, ")])
def test_the_title_counts(number: int, title: str) -> None:
    assert title in index_page(made(*[report("x")] * number)).decode()
