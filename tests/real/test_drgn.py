"""drgn on the truncated dump, compared with what crash prints on the untouched one."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import drgn
import pexpect
import pytest
from drgn.helpers.linux.fs import for_each_file, for_each_mount, mount_dst
from drgn.helpers.linux.mm import (
    access_process_vm,
    cmdline,
    follow_phys,
    for_each_vma,
    page_to_virt,
    phys_to_virt,
    totalram_pages,
    virt_to_page,
    virt_to_phys,
    vma_name,
)
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import cpu_curr, idle_task, task_cpu, task_state_to_char
from drgn.helpers.linux.slab import (
    find_containing_slab_cache,
    for_each_slab_cache,
    slab_cache_for_each_allocated_object,
)

from pykdump_ext.drgn.prog import open_program, program
from pykdump_ext.errors import P2mError
from pykdump_ext.linux.namelist import Namelist
from pykdump_ext.machine.elf import ElfCore
from pykdump_ext.machine.memory import PAGE_SIZE
from pykdump_ext.machine.notes import Note
from pykdump_ext.machine.paging import PageTables
from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.notes import read_crash_note
from pykdump_ext.xen.vcpus import STACK_SIZE, dom0_vcpus
from tests.lab.broken import diagnosis, truncated
from tests.lab.dump import Dump
from tests.lab.matrix import KERNELS, MAIN
from tests.lab.matrix import untouched as untouched_of
from tests.lab.packages import Missing

from .conftest import Plain
from .sessions import BIN, SECONDS

CPUS = range(4)
COMMAND = (BIN / "p2mfix", "drgn")


@pytest.fixture(scope="module")
def prog(truncated: Dump) -> drgn.Program:
    return program(truncated.vmcore, truncated.vmlinux)


@pytest.fixture(scope="module")
def printed(untouched: Dump, prog: drgn.Program, plain: Plain) -> dict[str, str]:
    """What crash prints on the untouched dump, by command; of "rd", without the address."""
    stack = int(re.findall(r"RSP: 002b:(\w+)", get_dmesg(prog).decode())[-1], 16) & -PAGE_SIZE
    commands = (
        "ps", "mod", "log", "rq.nr_running,nr_switches,curr runqueues:a", "bt", "mount", "kmem -s",
        "list task_struct.tasks -s task_struct.pid,comm -h init_task", "files 1", "kmem -i",
        "set 1", f"rd -u {stack:x} 512",
    )  # fmt: skip
    keys = [re.sub(r"^(rd -u) .*", r"\1", command) for command in commands]
    return dict(zip(keys, plain("drgn", untouched, commands)))


def names(trace: drgn.StackTrace) -> list[str]:
    return [frame.name for frame in trace]


def are_in_order(wanted: list[str], among: list[str]) -> bool:
    rest = iter(among)
    return all(name in rest for name in wanted)


def logged_trace(prog: drgn.Program) -> list[str]:
    """The functions of the panic, as the kernel itself printed them; sure ones only."""
    log = get_dmesg(prog).decode()
    trace = log[log.rindex("Call Trace:") :].partition("</TASK>")[0]
    functions = re.findall(r"^\[[ .\d]+\]  (\w+)[\w.]*\+0x", trace, re.MULTILINE)
    return [name.removesuffix("_after_hwframe") for name in functions if "dump_stack" not in name]


def test_tasks_modules_and_log_are_those_of_crash(
    prog: drgn.Program, printed: dict[str, str]
) -> None:
    tasks = {
        (t.pid.value_(), task_cpu(t), t.value_(), task_state_to_char(t), t.comm.string_().decode())
        for t in [*for_each_task(prog), *(idle_task(prog, cpu) for cpu in CPUS)]
    }
    # crash 8.0.2 finds few of this kernel's tasks by itself, and all in the kernel's list
    rows = re.findall(
        r"^>?\s+(\d+)\s+\d+\s+(\d+)\s+(\w{16})\s+(\w)\w\s.*\s\[?(\S+?)\]?$", printed["ps"], re.M
    )
    assert len(rows) >= 5
    for pid, cpu, task, state, comm in rows:
        assert (int(pid), int(cpu), int(task, 16), state, comm) in tasks
    listed = re.findall(
        r'^(\w{16})\n  pid = (\d+),\n  comm = "([^\\"]+)',
        printed["list task_struct.tasks -s task_struct.pid,comm -h init_task"],
        re.MULTILINE,
    )
    assert len(listed) > 60
    leaders = {
        (t.value_(), t.pid.value_(), t.comm.string_().decode())
        for t in for_each_task(prog)
        if t.pid == t.tgid
    }
    assert {(int(a, 16), int(pid), comm) for a, pid, comm in listed if pid != "0"} == leaders

    modules = re.findall(r"^(\w{16})\s+(\S+)\s+(\w{16})\s", printed["mod"], re.MULTILINE)
    assert len(modules) == 8
    assert {
        (m.value_(), m.name.string_().decode(), m.core_layout.base.value_())
        for m in for_each_module(prog)
    } == {(int(address, 16), name, int(base, 16)) for address, name, base in modules}
    assert get_dmesg(prog).decode() == printed["log"]


def test_per_cpu_data_mounts_files_and_caches_are_those_of_crash(
    prog: drgn.Program, printed: dict[str, str]
) -> None:
    queues = re.findall(
        r"nr_running = (\d+),\n  nr_switches = (\d+),\n  curr = 0x(\w+)",
        printed["rq.nr_running,nr_switches,curr runqueues:a"],
    )
    shown = [per_cpu(prog["runqueues"], cpu) for cpu in CPUS]
    assert [(int(n), int(s), int(task, 16)) for n, s, task in queues] == [
        (rq.nr_running.value_(), rq.nr_switches.value_(), rq.curr.value_()) for rq in shown
    ]
    mounts = re.findall(r"^(\w{16}) \w{16} \S+\s+\S+\s+(\S+)", printed["mount"], re.MULTILINE)
    assert len(mounts) == 6
    assert {(m.value_(), mount_dst(m).decode()) for m in for_each_mount(prog)} == {
        (int(address, 16), path) for address, path in mounts
    }
    files = re.findall(r"^\s*(\d+) (\w{16}) ", printed["files 1"], re.MULTILINE)
    assert files
    assert [(fd, file.value_()) for fd, file in for_each_file(find_task(prog, 1))] == [
        (int(fd), int(file, 16)) for fd, file in files
    ]
    caches = re.findall(
        r"^(\w{16})\s+(\d+)\s+\d+\s+\d+\s+\d+\s+\w+  (\S+)", printed["kmem -s"], re.MULTILINE
    )
    assert len(caches) > 100
    assert {
        (c.value_(), c.object_size.value_(), c.name.string_().decode())
        for c in for_each_slab_cache(prog)
    } == {(int(address, 16), int(size), name) for address, size, name in caches}
    (total,) = re.findall(r"TOTAL MEM\s+(\d+)", printed["kmem -i"])
    assert totalram_pages(prog) == int(total)


def test_slab_objects(prog: drgn.Program) -> None:
    init = find_task(prog, 1)
    cache = find_containing_slab_cache(init)
    assert cache.name.string_() == b"task_struct"
    allocated = {
        t.value_() for t in slab_cache_for_each_allocated_object(cache, "struct task_struct")
    }
    assert {t.value_() for t in for_each_task(prog)} <= allocated


def test_memory_of_a_process(prog: drgn.Program, printed: dict[str, str]) -> None:
    init = find_task(prog, 1)
    log = get_dmesg(prog).decode()
    ran = int(re.findall(r"RIP: 0033:0x(\w+)", log)[-1], 16)
    (vma,) = [v for v in for_each_vma(init.mm) if v.vm_start <= ran < v.vm_end]
    assert vma_name(vma) == b"/bin/busybox"
    (code,) = re.findall(r"Code: ([0-9a-f<> ]+)", log)
    before, marked, after = re.split("[<>]", code)  # the byte at the instruction pointer
    start = ran - len(bytes.fromhex(before))
    wanted = bytes.fromhex(before + marked + after)
    assert len(wanted) == 64 and access_process_vm(init, start, len(wanted)) == wanted
    lines = re.findall(r"^ +(\w+):  (\w{16}) (\w{16})", printed["rd -u"], re.M)
    assert len(lines) == 256
    for address, *words in lines:
        data = access_process_vm(init, int(address, 16), 16)
        assert struct.unpack("<2Q", data) == tuple(int(word, 16) for word in words)
    # the program of the lab's machine, tests/lab/init
    commands = {tuple(cmdline(t) or ()) for t in for_each_task(prog) if t.mm}
    assert (b"sleep", b"1000") in commands
    assert (b"nc", b"-l", b"-p", b"7777", b"127.0.0.1") in commands


def test_stack_of_the_panic(prog: drgn.Program, printed: dict[str, str]) -> None:
    thread = prog.crashed_thread()
    found = names(thread.stack_trace())
    assert thread.tid == 1 and names(prog.stack_trace(1)) == found
    wanted = logged_trace(prog)
    assert wanted[:2] == ["panic", "sysrq_handle_crash"] and wanted[-1] == "entry_SYSCALL_64"
    assert are_in_order(wanted, found)
    shown = re.findall(r"^ *#\d+ \[\w+\] (\w+)[\w.]* at", printed["bt"], re.MULTILINE)
    shown = shown[: shown.index("do_syscall_64") + 1]  # behind it crash shows what is left over
    assert len(shown) > 6 and are_in_order(shown, found)
    user = thread.stack_trace()[-1].registers()
    log = get_dmesg(prog).decode()
    for register, printed_as in (("rip", "RIP: 0033:0x"), ("rsp", "RSP: 002b:"), ("r13", "R13: ")):
        assert user[register] == int(re.findall(rf"{printed_as}(\w+)", log)[-1], 16)


def test_stacks_of_running_and_of_blocked_tasks(prog: drgn.Program) -> None:
    running = {cpu_curr(prog, cpu).value_() for cpu in CPUS}
    for cpu in CPUS:
        task = cpu_curr(prog, cpu)
        found = names(prog.stack_trace(task))
        if task.pid == 0:
            assert "cpu_startup_entry" in found and "do_idle" in found, (cpu, found)
    blocked = [t for t in for_each_task(prog) if t.value_() not in running]
    assert len(blocked) > 60
    for task in blocked:
        found = names(prog.stack_trace(task))
        assert "schedule" in found, (task.comm, found)
        user = found[-2].startswith("entry_SYSCALL_64")
        assert user or found[-1].startswith("ret_from_fork"), (task.comm, found)


class Patched(ElfCore):
    """A dump with other bytes in some places."""

    def __init__(self, dump: Dump) -> None:
        super().__init__(dump.vmcore)
        self.patches: dict[int, bytes] = {}

    def read(self, maddr: int, size: int, what: str) -> bytes:
        data = bytearray(super().read(maddr, size, what))
        for start, patch in self.patches.items():
            at, end = max(start, maddr), min(start + len(patch), maddr + size)
            if at < end:
                data[at - maddr : end - maddr] = patch[at - start : end - start]
        return bytes(data)


def test_registers_of_a_cpu_that_was_given_to_another_guest(
    prog: drgn.Program, truncated: Dump
) -> None:
    """Then they are in struct vcpu, and no more on the cpu's stack."""
    core = Patched(truncated)
    info = read_crash_note(core.notes)
    assert info is not None
    vcpus = dom0_vcpus(core, core.notes)
    assert [v.number for v in vcpus] == [*CPUS]
    ran = next(v for v in vcpus if v.current)  # one there is: that which has crashed
    saved = struct.pack("<21Q", *ran.registers[0].words)
    pcpu, tables = next(
        (end, tables)
        for note, cr3 in zip((n for n in core.notes if n.owner == "CORE"), info.cr3s)
        for tables in [PageTables(core, cr3)]
        for end in [(int.from_bytes(note.data[112 + 19 * 8 :][:8], "little") | STACK_SIZE - 1) + 1]
        if saved[19 * 8 : 20 * 8] in tables.read(end - 512, 512, "stack")
    )
    stack = tables.read(pcpu - 512, 512, "stack")
    vcpu = next(
        word
        for (word,) in struct.iter_unpack("<Q", stack[256:])
        if word and word % PAGE_SIZE == 0 and word >> 40 == 0xFFFF83
    )
    core.patches[tables.translate(pcpu - 512)] = bytes(512)
    assert not any(
        v.current or ran.registers[0] in v.registers
        for v in dom0_vcpus(core, core.notes)
        if v.number == ran.number
    )
    first = tables.translate(vcpu + 64)  # what is before it tells whose it is
    core.patches[first] = bytes(1024) + saved
    again = dom0_vcpus(core, core.notes)[ran.number]
    assert not again.current and ran.registers[0] in again.registers

    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    found = names(other.stack_trace(cpu_curr(other, ran.number)))
    assert found == names(prog.stack_trace(cpu_curr(prog, ran.number)))
    core.patches[first] = bytes(1024 + len(saved))
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    with pytest.raises(LookupError, match=r"registers for CPU \d were not saved"):
        other.stack_trace(cpu_curr(other, ran.number))


def test_registers_without_xens_list_of_domains(prog: drgn.Program, truncated: Dump) -> None:
    core = Patched(truncated)
    core.notes = [note for note in core.notes if note.owner != "VMCOREINFO_XEN"]
    assert not any(v.current for v in dom0_vcpus(core, core.notes))
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    for cpu in CPUS:
        wanted = names(prog.stack_trace(cpu_curr(prog, cpu)))
        assert names(other.stack_trace(cpu_curr(other, cpu))) == wanted


def test_what_is_damaged_is_told_or_left_out(truncated: Dump) -> None:
    core = Patched(truncated)
    kernel = diagnosis(truncated).kernel
    notes = core.notes

    def current() -> set[int]:
        return {v.number for v in dom0_vcpus(core, core.notes) if v.current}

    before, lost = current(), set()
    for note in (note for note in notes if note.owner == "CORE" and note.type == 1):
        core.notes = [Note(n.owner, n.type, n.data[:100] if n is note else n.data) for n in notes]
        assert current() < before or current() == before
        assert len(before - current()) <= 1  # a note is of one physical cpu
        lost |= before - current()
    assert before and lost == before
    core.notes = notes
    text = kernel.tables.translate(kernel.value("vmcoreinfo_data"))
    for maddr, data, sentence in (
        (text, b"OSRELEAS:", "vmcoreinfo does not name swapper_pg_dir|vmcoreinfo is damaged: VMCO"),
        (text, b"\0" * 4000, "the kernel's vmcoreinfo does not name swapper_pg_dir"),
        (kernel.tables.translate(kernel.address("vmcoreinfo_size")), b"\xff" * 8, "it has 1844674"),
    ):
        core.patches = {maddr: data}
        with pytest.raises(P2mError, match=sentence):
            open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    # without the kernel's per-cpu areas there are no running tasks, and all others
    offsets = kernel.tables.translate(kernel.address("__per_cpu_offset"))
    core.patches = {offsets: b"\xff\x7f" * 4 * 4}
    other = open_program(OpenedDump(core, [Namelist(truncated.vmlinux)]))
    assert "schedule" in names(other.stack_trace(2))


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != MAIN])
def test_other_kernels(kernel: str) -> None:
    try:
        dump = truncated(untouched_of(kernel))
    except Missing as error:
        pytest.skip(str(error))
    prog = program(dump.vmcore, dump.vmlinux)
    assert are_in_order(logged_trace(prog), names(prog.crashed_thread().stack_trace()))
    for cpu in CPUS:
        assert {"xen_hypercall_pv", "stop_self", "panic"} & {
            *names(prog.stack_trace(cpu_curr(prog, cpu)))
        }
    for task in for_each_task(prog):
        found = names(prog.stack_trace(task))
        assert task.on_cpu or "schedule" in found, (task.comm, found)
    assert (b"sleep", b"1000") in {tuple(cmdline(t) or ()) for t in for_each_task(prog) if t.mm}
    assert {m.name.string_() for m in for_each_module(prog)} >= {b"xenfs", b"xen_privcmd"}


def run(*words: str | Path, stdin: str | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *words], input=stdin, capture_output=True, text=True, check=False, cwd="/"
    )
    return done.returncode, done.stdout, done.stderr


def test_scripts_code_and_input(truncated: Dump, tmp_path: Path) -> None:
    files = (truncated.vmlinux, truncated.vmcore)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside\n"
        "print(__name__, sys.argv[1:], prog['init_task'].comm.string_().decode(), beside.value)\n"
        "sys.exit(7)\n"
    )
    (tmp_path / "beside.py").write_text("value = 5\n")
    assert run(*files, script, "one", "--two", "-e", "3") == (
        7, "__main__ ['one', '--two', '-e', '3'] swapper/0 5\n", "",
    )  # fmt: skip
    code = "print(find_task(1).comm.string_()); import sys; sys.exit(3)"
    assert run(*files, "-e", code) == run("-e", code, *files) == (3, "b'init'\n", "")
    assert run(*files, stdin="print(prog['init_task'].pid.value_())\n") == (0, "0\n", "")
    status, _, error = run(*files, "-e", "raise ValueError('its own')")
    assert status == 1 and error.endswith("ValueError: its own\n")


def test_errors_are_sentences(truncated: Dump, not_xen: Dump, tmp_path: Path) -> None:
    vmlinux, vmcore = truncated.vmlinux, truncated.vmcore
    stripped = tmp_path / "vmlinux"
    subprocess.run(["strip", "--strip-debug", "-o", stripped, vmlinux], check=True)
    for words, sentence in (
        ((vmlinux, "/nowhere"), "/nowhere: No such file or directory"),
        ((vmlinux, vmcore, "/nowhere.py"), "/nowhere.py: No such file or directory"),
        ((vmlinux, vmlinux), f"{vmlinux}: not a 64-bit ELF core file"),
        ((vmlinux, not_xen.vmcore), "this is not a dump of a Xen host: open it with drgn itself"),
        (
            (stripped, vmcore),
            f"{stripped}: has no debug information, which drgn needs; give the vmlinux of the"
            " kernel's debug package",
        ),
        ((vmlinux, vmcore, "-s", "/no.ko"), "/no.ko: No such file or directory"),
    ):
        assert run(*words) == (1, "", f"p2mfix: {sentence}\n"), words
    # without drgn, as where only the package itself was installed
    lacking = (
        "import sys; sys.modules['drgn'] = None; from pykdump_ext.cli.p2mfix import main;"
        " main(['drgn', 'a', 'b'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", lacking], capture_output=True, text=True, check=False, cwd="/"
    )
    sentence = "p2mfix: drgn is not installed: pip install 'pykdump-ext[drgn]'\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_the_prompt(truncated: Dump, tmp_path: Path) -> None:
    words = [COMMAND[1], str(truncated.vmlinux), str(truncated.vmcore)]
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb"}
    shown = pexpect.spawn(
        str(COMMAND[0]), words, env=environment, timeout=SECONDS, encoding="utf-8"
    )
    shown.expect(">>> from drgn.helpers.linux import")
    shown.expect(r">>> $")
    shown.sendline("prog.crashed_thread().stack_trace()[4].name")
    shown.expect("'sysrq_handle_crash'")
    shown.sendline("exit(4)")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == 4


def test_physical_addresses_are_the_machines(prog: drgn.Program, truncated: Dump) -> None:
    tables = diagnosis(truncated).kernel.tables
    for name in ("linux_banner", "init_task", "xenfs"):  # text, data, a module
        module = next(m for m in for_each_module(prog) if m.name.string_() == b"xenfs")
        address = module.value_() if name == "xenfs" else prog[name].address_
        assert address is not None
        maddr = follow_phys(prog["init_mm"].address_of_(), address).value_()
        assert maddr == tables.translate(address)
        assert prog.read(maddr, 32, physical=True) == prog.read(address, 32)
    init = find_task(prog, 1)
    assert phys_to_virt(virt_to_phys(init)).value_() == init.value_()
    page = virt_to_page(init)
    assert page_to_virt(page).value_() == init.value_() & ~(PAGE_SIZE - 1)


def test_a_page_that_is_not_in_the_dump_is_a_fault(prog: drgn.Program) -> None:
    with pytest.raises(drgn.FaultError, match=r"P[GU]D entry not present"):
        prog.read(0xFFFFA00000000000, 8)
    with pytest.raises(drgn.FaultError, match="not in the dump"):
        prog.read(0x7FFFFFFFF000, 8, physical=True)
    with pytest.raises(drgn.FaultError):
        prog.read(0x1000, 8)
    text = prog.symbol("_stext").address
    assert prog.read(text + 4000, 9000) == b"".join(
        prog.read(text + at, 100) for at in range(4000, 13000, 100)
    )
