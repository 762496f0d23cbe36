# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: a truncated dump opens, and then shows what the untouched one shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.broken import diagnosis
from tests.lab.dump import Dump
from tests.lab.matrix import MAIN
from tests.lab.matrix import untouched as whole_dump
from tests.lab.packages import Missing

from .conftest import Once, Plain
from .counted import shown_count
from .outputs import MANY_COMMANDS, digest, printed, silent, to_files, without_dumpfile
from .sessions import BIN, Crash, Ran, misses_tasks


@dataclass(frozen=True)
class Compared:
    """What plain crash prints on the untouched dump, and a repaired session on the truncated.

    ``tasks`` is the number of tasks on the untouched dump, as crash's ``sys`` prints it.
    """

    wanted: list[str]
    shown: list[str]
    plain: str
    repaired: str
    tasks: int


@pytest.fixture(scope="module")
def sessions(
    untouched: Dump,
    truncated: Dump,
    host: Path,
    addresses: tuple[str, ...],
    plain: Plain,
    once: Once,
) -> Compared:
    commands = (*MANY_COMMANDS, *addresses)

    def repair(folder: Path) -> None:
        before = digest(truncated.vmcore)
        ran = Crash(folder, folder)(
            truncated,
            [f"extend {host}", "extend p2mfix.py", *to_files(commands, folder / "printed")],
            "--minimal",
        )
        assert ran.status == 0, ran.text
        assert digest(truncated.vmcore) == before, "the dump was written"
        (folder / "text").write_text(ran.text)

    folder = once("repaired", repair)
    session = plain.session("main", untouched, commands)
    wanted = printed(session / "printed")
    return Compared(
        wanted,
        printed(folder / "printed"),
        (session / "text").read_text(),
        (folder / "text").read_text(),
        shown_count(wanted[commands.index("sys")]),
    )


def test_plain_crash_dies_on_the_truncated_dump_with_the_messages_of_the_report(
    crash: Crash, truncated: Dump
) -> None:
    died = crash(truncated, ["sys"])
    assert died.status == 1
    assert re.search(
        r"crash: read error: kernel virtual address: [0-9a-f]{16}"
        r'  type: "current_task \(per_cpu\)"',
        died.text,
    )
    assert re.search(
        r'crash: read error: kernel virtual address: [0-9a-f]{16}  type: "tss_struct ist array"',
        died.text,
    )
    assert "KERNEL:" not in died.text


@pytest.mark.parametrize("number", range(len(MANY_COMMANDS)), ids=MANY_COMMANDS)
def test_a_repaired_session_prints_what_plain_crash_prints_on_the_untouched_dump(
    sessions: Compared, number: int
) -> None:
    assert sessions.shown[number] == sessions.wanted[number]


@pytest.mark.parametrize(
    "number", range(6), ids=["direct map", "remapped", "per cpu", "vmalloc", "module", "text"]
)
def test_addresses_of_every_kind_translate_as_on_the_untouched_dump(
    sessions: Compared, number: int
) -> None:
    wanted, shown = (
        texts[len(MANY_COMMANDS) + number] for texts in (sessions.wanted, sessions.shown)
    )
    assert "PHYSICAL" in wanted and "PAGE" in wanted
    assert shown == wanted


def test_the_commands_of_the_comparison_print_something(sessions: Compared) -> None:
    assert len(sessions.wanted) == len(sessions.shown) == len(MANY_COMMANDS) + 6
    assert not silent(MANY_COMMANDS, sessions.shown[: len(MANY_COMMANDS)])


def test_the_full_session_begins_with_crashs_own_banner(sessions: Compared) -> None:
    def banner(text: str) -> str:
        start = text.index("KERNEL:")
        shown = without_dumpfile(text[start : text.index("\n\n", start)])
        return re.sub(r"(?m)^ +TASKS: .*", "", shown)

    assert banner(sessions.repaired) == banner(sessions.plain)
    assert "PANIC: " in banner(sessions.plain)
    assert shown_count(sessions.repaired) == sessions.tasks > 60


def test_loading_says_what_was_found_and_rebuilt(sessions: Compared) -> None:
    said = [line for line in sessions.repaired.splitlines() if line.startswith("p2mfix: ")]
    assert re.fullmatch(
        r"p2mfix: Linux \S+-amd64 on Xen 4\.\d+, linear p2m,"
        r" page tables at [0-9a-f]+ \(cr3, cpu \d\)",
        said[0],
    )
    covers = re.fullmatch(
        r"p2mfix: the dump's list covers ([\d,]+) of 179,200 pages \((\d+\.\d)%\);"
        r" rebuilt from page tables: 179,200 \(100%\)",
        said[1],
    )
    lost = re.fullmatch(
        r"p2mfix: (\d+) of (\d+) leaves were lost, pfn 100000-([0-9a-f]+); 0\.\d{3} s", said[2]
    )
    assert covers and lost
    # the whole range above pfn 100000 is memory that was remapped there, and is what is lost
    pages_lost = int(lost[3], 16) + 1 - 0x100000
    assert int(covers[1].replace(",", "")) == 179_200 - pages_lost
    assert covers[2] == f"{100 * (179_200 - pages_lost) / 179_200:.1f}"
    assert int(lost[1]) == -(-pages_lost // 512)
    assert int(lost[2]) - int(lost[1]) == -(-(179_200 - pages_lost) // 512)
    assert said[3] == "p2mfix: starting the full session ..."
    assert len(said[4:]) == misses_tasks()


def test_the_rebuilt_list_is_the_kernels_own_for_every_pfn_that_is_memory(
    untouched: Dump, truncated: Dump
) -> None:
    own = diagnosis(untouched)
    rebuilt = diagnosis(truncated).rebuilt
    memory = [i for i, mfn in enumerate(own.table.leaves) if not own.table.shared(mfn)]
    assert len(memory) > 300
    assert [rebuilt.leaf(i) for i in memory] == [own.published.leaf(i) for i in memory]


def test_p2mfix_opens_the_truncated_dump_in_one_command(crash: Crash, truncated: Dump) -> None:
    opened = crash.run(
        [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "-s"], ["sys", "bt", "quit"]
    )
    assert opened.status == 0
    assert "PANIC: " in opened.text
    assert "sysrq_handle_crash" in opened.text


@pytest.mark.parametrize("kernel", [MAIN, pytest.param("5.10", marks=pytest.mark.thorough)])
def test_p2mfix_opens_a_healthy_dump_as_plain_crash_does_and_with_all_tasks(
    crash: Crash, kernel: str
) -> None:
    try:
        whole = whole_dump(kernel)
    except Missing as error:
        pytest.skip(str(error))
    commands = ["sys", "bt | head -3", "nosuchcommand"]  # ends with the input
    plain = crash.run(["crash", *_files(whole)], commands)
    opened = crash.run([BIN / "p2mfix", *_files(whole)], commands)
    assert "PANIC: " in plain.text and "nosuchcommand" in plain.text
    assert opened.status == plain.status
    assert "(100.0%): nothing to repair\n" in opened.text
    if kernel == MAIN and misses_tasks():
        helped = r"(?m)^p2mfix: crash .* misses most tasks; now it has all (\d+)\n"
        found = re.search(helped, opened.text)
        assert found and re.findall(r"TASKS: (\d+)", opened.text) == [found[1]] * 2
        plain, opened = (
            Ran(re.sub(rf"{helped}|TASKS: \d+", "", ran.text), ran.status)
            for ran in (plain, opened)
        )
    else:
        same = crash.run([BIN / "p2mfix", "--plain", *_files(whole)], commands)
        assert (same.text, same.status) == (plain.text, plain.status)
    assert opened.after("KERNEL:") == plain.after("KERNEL:")


def test_p2mfix_takes_files_and_options_in_any_order(crash: Crash, truncated: Dump) -> None:
    opened = crash.run(
        [BIN / "p2mfix", "-s", "--hash", "1024", truncated.vmcore, truncated.vmlinux, "-d0"],
        ["bt", "quit"],
    )
    assert opened.status == 0
    assert "sysrq_handle_crash" in opened.text


def test_p2mfix_gives_crashs_exit_status_and_errors_back(crash: Crash, truncated: Dump) -> None:
    unknown = crash.run([BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "--nosuchoption"], [])
    assert unknown.status == 1
    assert "nosuchoption" in unknown.text
    end_of_input = crash.run([BIN / "p2mfix", truncated.vmlinux, truncated.vmcore], ["sys"])
    assert end_of_input.status == crash.run(["crash", "--minimal", *_files(truncated)], []).status


def _files(dump: Dump) -> list[Path]:
    return [dump.vmlinux, dump.vmcore]


def test_p2mfix_names_the_file_that_is_not_there(crash: Crash, truncated: Dump) -> None:
    ran = crash.run([BIN / "p2mfix", truncated.vmlinux, "nosuchfile"], [])
    assert (ran.text, ran.status) == ("p2mfix: nosuchfile: No such file or directory\n", 1)
