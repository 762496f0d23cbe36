# SPDX-License-Identifier: GPL-3.0-or-later
"""How parts end: each by itself, in time, with a sentence where it fails, and with what it had."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.opened import OpenedDump
from pykdump_ext.parts import PARTS, chosen
from pykdump_ext.parts.blocks import Block, Facts, Lines, Paragraph, Table, clean
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.document import as_lines, make
from pykdump_ext.parts.page import page
from pykdump_ext.parts.part import Part, run

from .sample import BY_DUMP, NO_VMLINUX, One, Slow, busy, opened


@pytest.mark.parametrize("error", [P2mError("no \x1b"), ValueError("odd \x1b"), RecursionError()])
def test_a_part_that_fails_leaves_a_sentence_and_what_it_had(error: Exception) -> None:
    parts = [One(Paragraph("before"), error=error), One(Paragraph("after"))]
    document = make(Case(opened()), parts)
    first, second = document.parts
    assert first.blocks == [Paragraph("before")] and first.problem
    assert first.problem.isprintable()
    assert (second.blocks, second.problem) == ([Paragraph("after")], None)
    text = "\n".join(as_lines(document))
    assert f"(not found: {first.problem})" in text and "after" in text
    assert document.missing == [("One", first.problem)]


@pytest.mark.parametrize("name", PARTS)
def test_each_real_part_may_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Part, case: Case) -> Iterator[Block]:
        raise KeyError("what nobody thought of")

    monkeypatch.setattr(type(PARTS[name]), "blocks", fail)
    document = make(Case(opened()), chosen([]))
    failed = {part.name: part.problem for part in document.parts}
    assert "KeyError: 'what nobody thought of'" in (failed[name] or "")
    assert {one for one, why in failed.items() if not why} == BY_DUMP - {name}
    assert "what nobody thought of" in page(document).decode()


def test_a_part_that_takes_too_long_is_stopped() -> None:
    result = run(Slow(), Case(opened()), 0.05)
    assert result.blocks == [Paragraph("before")]  # and not what comes when nobody stops it
    assert result.problem == "it took over 0.05 seconds, and was stopped"


def test_a_step_that_takes_too_long_leaves_the_time_of_the_others() -> None:
    class Steps(One):
        def blocks(self, case: Case) -> Iterator[Block]:
            case.tried("the first", busy)
            yield Paragraph(f"{case.tried('the second', lambda: 2)}")

    result = run(Steps(), Case(opened()), 1)
    assert (result.blocks, result.problem) == ([Paragraph("2")], None)
    assert result.notes == ["the first: it took over 0.2 seconds, and was stopped"]


@pytest.mark.parametrize(
    ("opens", "why"),
    [
        (lambda opened: busy(), "drgn was to open the dump: it took over 0.1 seconds, and was"),
        (lambda opened: [].pop(), "drgn cannot open the dump: IndexError: pop from"),
        (lambda opened: bytes(1 << 60), "drgn cannot open the dump: it needs more memory than"),
    ],
)
def test_drgn_is_opened_once_and_what_needs_none_is_given(
    opens: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []

    def open_program(opened: OpenedDump) -> Any:
        times.append(1)
        return opens(opened)

    monkeypatch.setattr("pykdump_ext.drgn.prog.open_program", open_program)
    monkeypatch.setattr("pykdump_ext.parts.case.OPENING", 0.1)
    monkeypatch.setattr(OpenedDump, "proved", (None, None))
    document = make(Case(opened()), chosen(["happened", "tasks", "memory"]), 30)
    happened, *others = document.parts
    assert isinstance(happened.blocks[0], Paragraph) and happened.problem is None
    assert happened.blocks[0].text.startswith(f"dom0 died; why is not known: {why}")
    assert len(times) == 1
    (reason,) = {part.problem for part in others}
    assert reason and reason.startswith(why)
    assert [title for title, text in document.missing if text.endswith(reason)] == [
        "What happened, dom0's tasks, dom0's memory"
    ]


def test_what_takes_too_long_in_one_part_is_not_sought_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = []

    def read_console(xen: Any, symbols: Any = None) -> None:
        times.append(1)
        busy()

    monkeypatch.setattr("pykdump_ext.xen.console.read_console", read_console)
    happened, log = make(Case(opened()), chosen(["happened", "xenlog"]), 1).parts
    assert happened.blocks and times == [1]
    assert log.problem == "it took over 0.2 seconds, and was stopped"


@pytest.mark.parametrize("content", [b"", b"no symbols\n", b"\x7fELF junk", None])
def test_a_wrong_file_of_xens_symbols_does_not_lose_the_console(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "xen-syms"
    if content is not None:
        path.write_bytes(content)
    document = make(Case(opened(), xen_syms=path), chosen(["happened", "xenlog"]))
    happened, log = document.parts
    assert happened.blocks[0] == Paragraph(f"dom0 died; why is not known: {NO_VMLINUX}")
    assert isinstance(log.blocks[1], Lines) and len(log.blocks[1].lines) == 31
    (note,) = [note for note in happened.notes if "Xen's symbols were not used" in note]
    assert str(path) in note


def test_no_more_is_kept_of_a_damaged_dump_than_a_page_can_have() -> None:
    long = "x\t" * 50_000
    lines = clean(Lines("T", [str(number) + "y" * 90 for number in range(100_000)]))
    assert isinstance(lines, Lines) and sum(map(len, lines.lines)) < 5 << 20
    assert lines.lines[-1].startswith("99999") and lines.lines[0].endswith("are left out)")
    (one,) = clean(Lines("T", [long])).lines  # type: ignore[union-attr]
    assert len(one) < 40_000 and one.endswith("... and 96,000 more characters")
    table = clean(Table("T", ["n", "t"], [[n, long] for n in range(10_003)]))
    assert isinstance(table, Table) and len(table.rows) == 10_000
    assert table.title == "T: the first 10,000 of 10,003"
    assert all(len(str(row[1])) < 5_000 for row in table.rows)

    facts = clean(Facts([("n", 1 << 70_000), ("nan", float("nan")), ("k", 1 << 63)]))
    assert facts == Facts([("n", None), ("nan", None), ("k", 1 << 63)])

    class Complains(One):
        def blocks(self, case: Case) -> Iterator[Block]:
            case.notes += [f"{number} {long}" for number in range(1000)]
            yield Paragraph(long)
            raise P2mError(long)

    result = run(Complains(), Case(opened()))
    assert len(result.notes) == 21 and result.notes[-1] == "980 more that could not be found"
    assert len(json.dumps(result.as_dict())) < 1 << 20


def test_a_reason_that_many_parts_share_is_said_once() -> None:
    dump = opened()
    for note in list(dump.dump.notes):
        if note.owner == "VMCOREINFO_XEN":
            dump.dump.notes.remove(note)
    document = make(Case(dump), chosen(["happened", "xenlog", "xenpcpus"]))
    happened, *others = document.parts
    assert happened.blocks[:2] == [
        Paragraph("It is not clear whether dom0 or Xen died."),
        Paragraph("Neither Xen's console nor its vcpus could be found."),
    ]
    (reason,) = {part.problem for part in others}
    titles = [title for title, why in document.missing if str(why).endswith(str(reason))]
    assert titles == ["What happened, Xen's console, Physical cpus"]


def test_without_drgn_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pykdump_ext.drgn.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "drgn", None)
    dump = opened()
    monkeypatch.setattr(OpenedDump, "proved", (None, None))
    (memory,) = make(Case(dump), chosen(["memory"])).parts
    assert memory.problem and re.match(
        r"drgn is not installed: .*pip install .*\[drgn\]", memory.problem
    )
