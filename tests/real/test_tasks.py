# SPDX-License-Identifier: GPL-3.0-or-later
"""crash finds all tasks, or says how many it lacks.

crash before 8.0.4 reads too little of each ``struct pid`` of kernels with commit b69f0aeb0689 (6.5,
and 6.1.39 of the stable series).  A newer crash and drgn on the same dump are the oracles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.pid import find_pid, find_task

from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.cache import root
from tests.lab.dump import Dump
from tests.lab.packages import Missing
from tests.lab.suites import suite

from .conftest import Once, Plain
from .counted import rows, shown_count, shown_tasks, tasks_of
from .outputs import by_command, to_files
from .sessions import BIN, Crash, crash_version, finds_tasks, misses_tasks

SAME = ("sys", "ps -t", "ps -m", "foreach files", "runq", "foreach sig")
"""Commands that look at tasks, and print the same in crash 8.0.2 and 8.0.6."""
COMMANDS = (*SAME, "ps", "foreach bt")

needs_help = pytest.mark.skipif(not misses_tasks(), reason="this crash finds all tasks by itself")
help_not_needed = pytest.mark.skipif(misses_tasks(), reason="this crash misses tasks by itself")


@pytest.fixture(scope="module")
def repaired(truncated: Dump, once: Once) -> dict[str, str]:
    """What a session that p2mfix has repaired prints."""

    def make(folder: Path) -> None:
        words = [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore]
        commands = [*to_files(COMMANDS, folder / "printed"), "p2m", "quit"]
        ran = Crash(folder, folder).run(words, commands)
        assert ran.status == 0, ran.text
        (folder / "text").write_text(ran.text)

    folder = once("repaired-tasks", make)
    printed = by_command(COMMANDS, folder / "printed")
    return {**printed, "session": (folder / "text").read_text()}


def test_a_repaired_session_has_every_task_that_the_kernel_has(
    repaired: dict[str, str], prog: drgn.Program
) -> None:
    tasks = tasks_of(prog)
    assert shown_tasks(repaired["ps"]) == tasks
    assert shown_count(repaired["sys"]) == len(tasks)
    assert shown_count(repaired["session"]) == len(tasks)  # in the banner
    assert re.search(rf"(?m)^         tasks: {len(tasks)}\b", repaired["session"])
    assert "not found in PID hash" not in repaired["session"]
    assert "WARNING: crash" not in repaired["session"]


@needs_help
def test_a_repaired_session_says_that_it_has_the_tasks_that_this_crash_misses(
    repaired: dict[str, str],
) -> None:
    version = re.escape(crash_version())
    said = re.findall(r"(?m)^p2mfix: (.*)", repaired["session"])
    assert re.fullmatch(rf"crash {version} alone .*misses most tasks; now it has all \d+", said[-1])
    assert re.search(rf"(?m)^ +tasks: \d+; crash {version} alone misses most$", repaired["session"])


@help_not_needed
def test_a_session_says_nothing_of_tasks_if_crash_finds_all(repaired: dict[str, str]) -> None:
    assert "tasks" not in "".join(re.findall(r"(?m)^p2mfix: .*", repaired["session"]))


@pytest.fixture(scope="module")
def newer(untouched: Dump, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What crash 8.0.6 prints on the untouched dump."""
    folder = tmp_path_factory.mktemp("newer")
    try:
        release = suite("trixie")
    except Missing as error:
        pytest.skip(str(error))
    words = release.command([root(), folder], "crash", "-s", untouched.vmlinux, untouched.vmcore)
    commands = [*to_files(COMMANDS, folder / "printed"), "quit"]
    ran = Crash(folder, folder, index=False).run(words, commands)
    assert ran.status == 0, ran.text
    return by_command(COMMANDS, folder / "printed")


@needs_help
@pytest.mark.parametrize("command", SAME)
def test_a_repaired_session_shows_tasks_as_a_newer_crash_does(
    repaired: dict[str, str], newer: dict[str, str], command: str
) -> None:
    assert len(newer[command]) > 50
    assert repaired[command] == newer[command]


@needs_help
def test_ps_and_stacks_are_those_of_a_newer_crash(
    repaired: dict[str, str], newer: dict[str, str]
) -> None:
    """Where crash 8.0.2 has its own way: it counts less memory, and finds other frames."""
    assert rows(repaired["ps"]) == rows(newer["ps"])
    head = r"(?m)^PID: .*"
    assert re.findall(head, repaired["foreach bt"]) == re.findall(head, newer["foreach bt"])
    for text in repaired["foreach bt"], newer["foreach bt"]:
        assert len(re.findall(r"(?m)^ #\d .* __schedule at", text)) > 60


@needs_help
def test_a_full_session_on_a_healthy_dump_finds_all_tasks_and_changes_nothing_else(
    crash: Crash, untouched: Dump, host: Path, repaired: dict[str, str], plain: Plain
) -> None:
    commands = ("set", "bt", "kmem -i", "ps")
    alone = dict(zip(commands, plain("few-tasks", untouched, commands, alone=True)))
    ran = crash(
        untouched,
        ["set 1", *finds_tasks(host), *to_files(commands, crash.folder / "found"), "p2m fix"],
        "-s",
    )
    found = by_command(commands, crash.folder / "found")
    assert found["ps"] == repaired["ps"]
    few = [line for line in alone.pop("ps").splitlines() if line in found["ps"].splitlines()]
    assert len(few) == 6  # the title, four idle tasks and init
    assert {command: found[command] for command in alone} == alone
    assert ran.status == 0


# --------------------------------------------------------------------------
# A dump whose kernel has lost the pids of two tasks: init, which runs, and kthreadd


LOST = (1, 2)


@pytest.fixture(scope="module")
def without_two(
    untouched: Dump, prog: drgn.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dump]:
    copy = copy_of(untouched, tmp_path_factory.mktemp("lost"))
    tables = diagnosis(untouched).kernel.tables
    for number in LOST:
        at = find_pid(prog, number).tasks[0].first.address_of_().value_()
        maddr = tables.translate(at)
        DumpFile(copy).write(maddr, bytes(8))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


@pytest.mark.parametrize("options", [("-s",), ("-s", "--minimal")], ids=["full", "minimal"])
def test_a_session_that_lacks_a_task_says_so_and_keeps_the_one_that_runs(
    crash: Crash,
    without_two: Dump,
    prog: drgn.Program,
    host: Path,
    options: tuple[str, ...],
) -> None:
    commands = ("ps", "set", "bt", "p2m")
    ran = crash(
        without_two, [*finds_tasks(host), *to_files(commands, crash.folder / "found")], *options
    )
    assert ran.status == 0, ran.text
    tasks = tasks_of(prog)
    lacking = rf"{len(tasks) - 1} of the {len(tasks)}"
    assert re.search(
        rf"(?m)^p2mfix: WARNING: crash \S+ finds {lacking} tasks that the kernel counts", ran.text
    )
    found = by_command(commands, crash.folder / "found")
    assert shown_tasks(found["ps"]) == tasks - {find_task(prog, 2).value_()}
    assert 'COMMAND: "init"' in found["set"]
    assert re.search(r"\((PANIC|SYSRQ)\)", found["set"])  # what crash 8.0.2 and 8.0.6 call it
    assert "sysrq_handle_crash" in found["bt"]
    assert re.search(rf"(?m)^         tasks: {lacking} that the kernel counts$", found["p2m"])
