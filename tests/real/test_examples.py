# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples do what their first lines say, in a repaired session and in a minimal one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump

from .sessions import BIN, Crash, Ran, minimal

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def ran(
    untouched: Dump, truncated: Dump, host: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ran, Ran]:
    """A minimal session on the untouched dump, and a repaired one on the truncated."""
    home = tmp_path_factory.mktemp("examples")
    crash = Crash(home, home)
    load = [f"extend {EXAMPLES}/{name}.py" for name in ("banner", "percpu", "alltasks")]
    use = [
        "banner", "percpu xen_vcpu_id 4", "percpu nosuch", "percpu xen_vcpu_id 3",
        "alltasks", "alltasks init", "help percpu",
    ]  # fmt: skip
    plain = crash(untouched, [f"extend {host}", *load, *use], "--minimal", "-s")
    repaired = crash.run(
        [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "-s"], [*load, *use, "quit"]
    )
    return plain, repaired


def test_both_sessions_print_the_same(ran: tuple[Ran, Ran]) -> None:
    plain, repaired = (each.after("alltasks.py: loaded\n") for each in ran)
    assert plain == repaired


def test_banner(ran: tuple[Ran, Ran]) -> None:
    assert re.search(r"^Linux version \S+-amd64 \(.*\) .* SMP .*$", ran[0].text, re.MULTILINE)


def test_percpu(ran: tuple[Ran, Ran]) -> None:
    values = re.findall(r"^cpu +(\d+)  ffff[0-9a-f]{12}: ([0-9a-f]{8})$", ran[0].text, re.MULTILINE)
    assert values == [(str(cpu), f"{cpu:08x}") for cpu in range(4)]
    assert "percpu: nosuch: no such symbol\n" in ran[0].text
    # Python 3.13 quotes it
    assert re.search(r"percpu: argument size: invalid choice: '?3", ran[0].text)
    assert re.search(
        r"^    \{1,2,4,8\} +its size in bytes \(default: 8\)$", ran[0].text, re.MULTILINE
    )


def test_alltasks_finds_what_ps_of_crash_8_0_2_does_not(ran: tuple[Ran, Ran]) -> None:
    tasks = re.findall(r"^ +(\d+)  (ffff[0-9a-f]{12})  (\S+)$", ran[0].text, re.MULTILINE)
    names = [name for _, _, name in tasks]
    assert tasks[0][0] == "0" and names[0] == "swapper/0"
    assert len(tasks) > 50
    assert {"kthreadd", "sleep", "nc"} <= set(names)
    assert next(t for t in tasks if t[2] == "init") == tasks[-1]


def test_a_task_with_escape_sequences_in_its_name_is_shown_harmless(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    kernel = diagnosis(untouched).kernel
    task = kernel.address("init_task")
    comm = task + kernel.read(task, 0x1000, "init_task").index(b"swapper/0\0")
    dump = Dump(untouched.vmlinux, copy_of(untouched, tmp_path))
    DumpFile(dump.vmcore).write(kernel.tables.translate(comm), b"\x1b[2Jowned\0")
    ran = minimal(crash, dump, host, f"extend {EXAMPLES}/alltasks.py", "alltasks")
    dump.vmcore.unlink()
    assert "\\x1b[2Jowned\n" in ran.text and "\x1b" not in ran.text


def test_each_example_is_a_screen_long() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 45, path
