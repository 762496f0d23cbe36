# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: its texts are harmless, and it works by the dump alone."""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import sys
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.cli import report as cli
from pykdump_ext.cli.p2mfix import main
from pykdump_ext.errors import P2mError
from pykdump_ext.parts import PARTS, chosen
from pykdump_ext.parts.blocks import Block, Facts, Lines, Paragraph, Table, as_text, clean
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.document import Document, make
from pykdump_ext.parts.page import page
from pykdump_ext.parts.part import Result

from .sample import BY_DUMP, NO_VMLINUX, One, opened

HOSTILE = "<script>alert(1)</script>\x1b[2J\x00'\"&\u202e"


def test_the_dump_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    document = make(Case(opened()), chosen([]))
    found = {part.name: part for part in document.parts}
    assert list(found) == list(PARTS)
    assert {name for name, part in found.items() if not part.problem} == BY_DUMP
    assert found["happened"].blocks[:2] == [
        Paragraph(f"dom0 died; why is not known: {NO_VMLINUX}"),
        Paragraph("dom0's kernel crashed: Xen's console says so."),
    ]
    log = found["xenlog"].blocks[1]
    assert isinstance(log, Lines) and len(log.lines) == 31
    domains, no_grants = found["xendomains"].blocks
    assert no_grants == Paragraph("No domain grants pages to another.")
    assert isinstance(domains, Table) and [row[0] for row in domains.rows] == [0, 1]
    (reason,) = {part.problem for name, part in found.items() if name not in BY_DUMP}
    assert reason and reason.startswith("no vmlinux was given")
    titles = {why: title for title, why in document.missing}[reason]
    assert "dom0's log" in titles and "dom0's memory" in titles


# --------------------------------------------------------------------------
# Texts


@given(st.text())
def test_no_text_of_a_dump_controls_a_terminal(text: str) -> None:
    blocks: list[Block] = [
        Paragraph(text), Facts([(text, text), (text, None)]), Lines(text, [text]),
        Table(text, [text, "n"], [[text, 3], [None, 1.5]]),
    ]  # fmt: skip
    for block in blocks:
        assert all(line.isprintable() for line in as_text(clean(block)))


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words: set[str] = set()
        self.targets: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = dict(attrs)
        assert not {"src", "onload", "onerror", "srcset"} & set(names)
        if names.get("href"):
            self.targets.add(str(names["href"]))
        if names.get("id"):
            self.ids.add(str(names["id"]))


def test_the_page_escapes_all_texts_and_loads_nothing() -> None:
    parts = [
        One(
            Paragraph(HOSTILE), Facts([(HOSTILE, HOSTILE)]), Lines(HOSTILE, [HOSTILE]),
            Table(HOSTILE, [HOSTILE], [[HOSTILE]]), error=P2mError(HOSTILE),
        )
    ]  # fmt: skip
    dump = opened()
    dump.paths = (HOSTILE,)
    document = make(Case(dump), parts)
    text = page(document).decode()
    made = Tags()
    made.feed(text)
    assert "script" not in made.tags and "link" not in made.tags and "img" not in made.tags
    assert not re.search(r"https?:|url\(|@import", text)
    assert made.targets == {"#one", "#missing"} and made.ids == {"one", "missing"}
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert all(line.isprintable() for line in text.splitlines())


def test_a_page_needs_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(P2mError, match=r"^a web page needs Jinja2: .*pip install"):
        page(Document("", [], 0))


def pres(text: str) -> list[list[str]]:
    """The lines of each box of a page."""
    boxes = re.findall(r"<pre[^>]*>\n?(.*?)\n?</pre>", text, re.DOTALL)
    return [[line for line in box.split("\n") if line] for box in boxes]


@pytest.mark.parametrize("count", [0, 1, 40, 41, 100])
def test_a_log_has_its_end_in_sight_and_the_older_lines_folded_up(count: int) -> None:
    lines = [f"<{number}>" for number in range(count)]
    shown = [f"&lt;{number}&gt;" for number in range(count)]
    text = page(make(Case(opened()), [One(Lines("a log", lines, log=True))])).decode()
    folded = re.findall(r"<details>.*?</details>", text, re.DOTALL)
    assert len(folded) == (count > 40) and "<details open" not in text
    if folded:
        assert f"{count - 40} lines before" in folded[0]
        assert pres(folded[0]) == [shown[:-40]]
        assert text.index("</details>") < text.index(shown[-40])
    assert pres(text) == [shown[:-40], shown[-40:]][count <= 40 :]
    other = page(make(Case(opened()), [One(Lines("no log", lines))])).decode()
    assert "<details" not in other and pres(other) == [shown]


def test_the_logs_are_shown_as_logs() -> None:
    (part,) = make(Case(opened()), chosen(["xenlog"])).parts
    log = part.blocks[1]
    assert isinstance(log, Lines) and log.log


def test_tables_are_aligned() -> None:
    table = Table("T", ["name", "n"], [["a", 1234], ["bbbbb", None]])
    assert [*as_text(table)] == ["T:", "  name         n", "  a        1,234", "  bbbbb  unknown"]


def test_numbers_of_domains_are_names_and_have_no_commas() -> None:
    table = Table("T", ["domain", "pages"], [[1234, 1234]])
    assert [*as_text(table)][-1].split() == ["1234", "1,234"]
    text = page(Document("d", [Result("one", "One", [table])], 0)).decode()
    assert re.findall(r">([\d,]+)</td>", text) == ["1234", "1,234"]


# --------------------------------------------------------------------------
# The command


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "open_with_namelist", lambda paths: opened())
        cli.run(parser.parse_args([*words, "vmcore"]))
    return capsys.readouterr().out


KINDS: dict[str, dict[str, type]] = {
    "paragraph": {"text": str},
    "facts": {"facts": dict},
    "table": {"title": str, "rows": list},
    "lines": {"title": str, "lines": list},
    "picture": {"title": str},
}


def check_json(found: dict[str, Any]) -> None:
    """What scripts rely on."""
    assert list(found) == [
        "dump", "cause", "signature", "functions", "time", "host", "linux", "xen",
        "made_by", "seconds", "parts", "missing",
    ]  # fmt: skip
    for part in found["parts"]:
        assert set(part) == {"name", "title", "problem", "notes", "blocks", "seconds"}
        for block in part["blocks"]:
            keys = KINDS[block.pop("kind")]
            assert {name: type(value) for name, value in block.items()} == keys
    assert all(set(one) == {"part", "why"} for one in found["missing"])


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "--json"))
    check_json(found)
    assert [part["name"] for part in found["parts"]] == list(PARTS)
    cause = f"dom0 died; why is not known: {NO_VMLINUX}"
    assert (found["cause"], found["signature"], found["xen"]) == (cause, cause, "4.17")
    assert found["time"] is None


def test_a_terminal_without_a_character_gets_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", latin)
        cli.show("\u00fc \u20ac \u26a0\n")
    latin.flush()
    assert latin.buffer.getvalue() == b"\xfc \\u20ac \\u26a0\n"


def test_a_report_has_a_limit_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = []

    def make(*args: Any) -> Document:
        limits.append(resource.getrlimit(resource.RLIMIT_DATA)[0])
        raise MemoryError

    (tmp_path / "vmcore").write_bytes(b"KDUMP   " + bytes(4096))
    for jobs, words in ((1, ["vmcore"]), (2, ["vmcore", "vmcore2", "--json"])):
        (tmp_path / "vmcore2").write_bytes(b"KDUMP   " + bytes(4096) + b"another")
        with pytest.MonkeyPatch.context() as patch, suppress(SystemExit):
            patch.chdir(tmp_path)
            patch.setattr(cli, "make", make)
            patch.setattr(cli, "open_with_namelist", lambda paths: opened())
            patch.setattr(cli, "open_dump", lambda paths: opened().dump)
            main(["report", *words, "--jobs", str(jobs)])
        said = capsys.readouterr()
        assert "MiB of memory: the dump may be damaged" in said.err + said.out
    assert 0 < limits[0] <= 8 << 30
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] not in limits


def test_only_some_parts_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--only", "xendomains,xenlog")
    titles = re.findall(r"(?m)^(.*)\n=+$", text)
    assert titles[:2] == ["Xen's console", "Domains"]


def test_a_part_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "vmcore", "--only", "xenlogs"])
    assert "xenlogs: no part of a report; the parts are happened, dmesg," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "begins"),
    [("r.html", "<!DOCTYPE html>"), ("r.json", '{"dump": "vmcore"'), ("r.txt", "What happened\n")],
)
def test_the_name_of_the_file_says_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, begins: str
) -> None:
    assert printed(capsys, "-o", str(tmp_path / name)) == ""
    assert (tmp_path / name).read_text().startswith(begins)
