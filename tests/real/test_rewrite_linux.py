# SPDX-License-Identifier: GPL-3.0-or-later
"""``rewrite --linux``: programs that know nothing of Xen read dom0 as if it had run without it."""

from __future__ import annotations

import filecmp
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg

from tests.lab.dump import Dump
from tests.lab.packages import HOST

from .conftest import Packed, Plain
from .outputs import FEW_COMMANDS, MANY_COMMANDS, digest, printed, to_files
from .packed import filtered
from .sessions import BIN, Crash

RUNNING = ("bt -a", "foreach bt")  # which have more without Xen: crash reads registers from notes


def write(dump: Dump, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words: list[str | Path] = [BIN / "p2mfix", "rewrite", "--linux", *options]
    words += ["--vmlinux", dump.vmlinux]
    return subprocess.run(
        [*words, dump.vmcore, out], capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.fixture(scope="module")
def native(truncated: Dump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dump]:
    """dom0 of the truncated dump, as without Xen."""
    before = digest(truncated.vmcore)
    made = Dump(truncated.vmlinux, tmp_path_factory.mktemp("native") / "vmcore")
    done = write(truncated, made.vmcore)
    assert re.fullmatch(
        r"p2mfix: 179,200 pages of Linux \S+, registers of 4 of 4 cpus\n"
        r"p2mfix: \S+/vmcore: 0\.7 GB written, \d+\.\d s\n",
        done.stdout,
    ), done.stdout + done.stderr
    assert digest(truncated.vmcore) == before, "the dump was written"
    yield made
    made.vmcore.unlink()


def test_crash_prints_what_it_prints_on_the_dump_of_the_host(
    crash: Crash, untouched: Dump, native: Dump, addresses: tuple[str, ...], plain: Plain
) -> None:
    commands = (*MANY_COMMANDS, *addresses)
    wanted = dict(zip(commands, plain("main", untouched, commands, alone=True)))
    ran = crash(native, to_files(commands, crash.folder / "shown"))
    assert ran.status == 0, ran.text
    shown = dict(zip(commands, printed(crash.folder / "shown")))
    left_out = {*RUNNING, *(c for c in commands if c.startswith("vtop"))}
    assert len(commands) - len(left_out) > 25
    for command in commands:
        if command not in left_out:
            assert shown[command] == wanted[command], command
    assert "cannot be determined" in wanted["bt -a"]
    assert "cannot be determined" not in shown["bt -a"]
    assert shown["bt -a"].count("xen_safe_halt") >= 2


def names_of_tasks(prog: drgn.Program) -> list[tuple[int, bytes]]:
    return [(task.value_(), task.comm.string_()) for task in for_each_task(prog)]


def opened(dump: Dump, vmcore: Path) -> drgn.Program:
    """What plain drgn makes of a dump."""
    prog = drgn.Program()
    prog.set_core_dump(str(vmcore))
    prog.load_debug_info([str(dump.vmlinux)])
    return prog


def test_compress_writes_it_packed(
    truncated: Dump, native: Dump, prog: drgn.Program, tmp_path: Path
) -> None:
    done = write(truncated, tmp_path / "out", "--compress")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    mode = truncated.vmcore.stat().st_mode
    assert (tmp_path / "out").stat().st_mode == native.vmcore.stat().st_mode == mode
    assert (tmp_path / "out").read_bytes()[:5] == b"KDUMP"
    assert (tmp_path / "out").stat().st_size < native.vmcore.stat().st_size // 5
    assert names_of_tasks(opened(native, tmp_path / "out")) == names_of_tasks(prog)
    words: list[str | Path] = [BIN / "p2mfix", "rewrite", "--linux", "--compress"]
    lacking = subprocess.run(
        [*words, truncated.vmlinux, truncated.vmcore, tmp_path / "other"],
        env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert (lacking.returncode, lacking.stderr) == (
        1, "p2mfix: makedumpfile is not installed: install it, or leave --compress out\n"
    )  # fmt: skip


def test_makedumpfile_filters_it_and_crash_and_drgn_read_the_result(
    crash: Crash, untouched: Dump, native: Dump, plain: Plain, prog: drgn.Program, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    command: list[str | Path] = ["makedumpfile", "-c", "-d", "31", native.vmcore, small]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    assert 0 < small.stat().st_size < native.vmcore.stat().st_size // 10
    few = [command for command in FEW_COMMANDS if command not in RUNNING]
    wanted = plain("few", untouched, few, alone=True)
    ran = crash(Dump(native.vmlinux, small), to_files(few, crash.folder / "shown"))
    assert ran.status == 0, ran.text
    assert printed(crash.folder / "shown") == wanted
    tasks = names_of_tasks(opened(native, small))
    assert tasks == names_of_tasks(prog) and len(tasks) > 50


def test_drgn_opens_it_with_no_help(native: Dump, prog: drgn.Program) -> None:
    other = opened(native, native.vmcore)
    assert str(other.crashed_thread().stack_trace()) == str(prog.crashed_thread().stack_trace())
    assert "sysrq_handle_crash" in str(other.crashed_thread().stack_trace())
    traces = [[str(one.stack_trace(task)) for task in for_each_task(one)] for one in (prog, other)]
    assert traces[0] == traces[1] and len(traces[0]) > 50
    assert other["VMCOREINFO"].string_() == prog["VMCOREINFO"].string_()
    seconds = other["tk_core"].timekeeper.xtime_sec.value_()
    assert f"\nCRASHTIME={seconds}\n".encode() in other["VMCOREINFO"].string_()


def test_tools_print_its_log(native: Dump, prog: drgn.Program, tmp_path: Path) -> None:
    log = get_dmesg(prog).decode().splitlines()
    out = tmp_path / "log"
    command: list[str | Path] = ["makedumpfile", "--dump-dmesg", native.vmcore, out]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    tool = HOST.file("kexec-tools", "sbin/vmcore-dmesg")
    shown = subprocess.run(
        [tool, native.vmcore], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    # newer makedumpfiles also print who wrote the line
    printed_by = [
        re.sub(r"(?m)^(\[ *[\d.]+\]) \[ *[TC]\d+\]", r"\1", text).splitlines()
        for text in (out.read_text(), shown)
    ]
    assert printed_by == [log, log]
    assert any("sysrq triggered crash" in line for line in log)


@pytest.mark.skipif(not shutil.which("gdb"), reason="there is no gdb")
def test_gdb_reads_its_variables_and_a_stack(native: Dump) -> None:
    words = ["gdb", "-q", "-batch", "-ex", "p linux_banner", "-ex", "info threads"]
    done = subprocess.run(
        [*words, native.vmlinux, native.vmcore], capture_output=True, text=True, check=True
    )
    assert "Linux version" in done.stdout and "xen_hypercall_pv" in done.stdout


@pytest.mark.parametrize("option", ["-c", "split"])
def test_any_format_gives_the_same_file(
    untouched: Dump, packed: Packed, tmp_path: Path, option: str
) -> None:
    wanted, out = tmp_path / "wanted", tmp_path / "out"
    assert write(untouched, wanted).returncode == 0
    if option == "split":
        parts = filtered(untouched, tmp_path, "-l", files=2)
        words: list[str | Path] = [BIN / "p2mfix", "rewrite", "--linux", untouched.vmlinux]
        subprocess.run([*words, *parts, out], stdout=subprocess.DEVNULL, check=True, cwd="/")
    else:
        assert write(packed(untouched, option), out).returncode == 0
    assert filecmp.cmp(wanted, out, shallow=False)


def test_what_is_not_written(truncated: Dump, not_xen: Dump, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    for dump, out, options, sentence in (
        (truncated, there, (), f"{there}: exists; name another file, or use --force"),
        (truncated, truncated.vmcore, ("--force",),
         f"{truncated.vmcore}: is {truncated.vmcore}, which is never written"),
        (truncated, tmp_path / "no/out", (), f"{tmp_path}/no: no such folder"),
        (not_xen, tmp_path / "out", (),
         "this is not a dump of a Xen host: open it with drgn itself"),
        (truncated, tmp_path / "out", ("--domain", "7"), "the Xen host has no domain 7"),
    ):  # fmt: skip
        done = write(dump, out, *options)
        assert (done.returncode, done.stdout) == (1, ""), done.stdout
        assert done.stderr.startswith(f"p2mfix: {sentence}"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert there.read_text() == "mine"
