# SPDX-License-Identifier: GPL-3.0-or-later
"""The module crash: many reads at once, and lists."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.lab.broken import DumpFile, copy_of, diagnosis
from tests.lab.dump import Dump

from .sessions import Crash, minimal

MANY = """
import crash, itertools, os, signal, threading, tracemalloc, warnings

warnings.simplefilter('ignore')  # of Python 3.12, about fork()

banner, page = crash.sym2addr('linux_banner'), crash.sym2addr('init_top_pgt')
BAD = 0xffffc87fffff0000

def say(call):
    try: print(call())
    except Exception as error: print(type(error).__name__, error)

def until_it_fails(reads):
    got = []
    try:
        for read in reads: got.append(read)
    except Exception as error:
        return got, type(error).__name__, str(error)

# The same bytes as single reads, on each side of what C gets in one call
addresses = [banner + n for n in range(3000)]
for count, size in (0, 8), (1, 8), (1024, 1), (1025, 8), (3000, 13), (40, 100_000):
    single = [crash.readmem(addr, size) for addr in addresses[:count]]
    assert list(crash.readmem_many(addresses[:count], size)) == single, (count, size)
    assert list(crash.readmem_many(iter(addresses[:count]), size, or_none=True)) == single
physical = [crash.kvtop(addr) for addr in addresses[:9]]
assert list(crash.readmem_many(physical, 9, crash.PHYSADDR)) == [
    crash.readmem(addr, 9) for addr in addresses[:9]]

# What cannot be read
print(until_it_fails(crash.readmem_many([banner, BAD, banner], 5)))
print(until_it_fails(crash.readmem_many([banner, 0, banner], 5)))
print(list(crash.readmem_many([banner, BAD, 0, banner, BAD], 5, or_none=True)))
say(lambda: crash.readmem_many([banner], 0))
say(lambda: crash.readmem_many([banner], 1 << 40))
first = crash.readmem_many([banner, BAD], 5)
next(first)
try: crash.readmem(BAD + 8, 1)
except crash.error: pass
say(lambda: next(first))

# No end, bounded memory
tracemalloc.start()
read = crash.readmem_many(itertools.repeat(banner), 4096)
for _ in range(20_000): assert len(next(read)) == 4096
print('peak below 8 MiB:', tracemalloc.get_traced_memory()[1] < 8 << 20)
tracemalloc.stop()

# Ctrl-C, however often
def press():
    os.kill(os.getpid(), signal.SIGINT)
pressed = 0
for _ in range(5):
    timer = threading.Timer(0.1, press)
    timer.start()
    try:
        for read in crash.readmem_many(itertools.repeat(page), 4096): pass
    except KeyboardInterrupt: pressed += 1
    timer.join()
print('pressed', pressed, signal.pthread_sigmask(signal.SIG_BLOCK, []))

def work():
    say(lambda: list(crash.readmem_many([banner], 5)))
    say(lambda: list(crash.readmem_many([banner], 5, or_none=True)))
    say(lambda: list(crash.read_list(banner)))
thread = threading.Thread(target=work)
thread.start(); thread.join()

wanted = list(crash.readmem_many(addresses, 8))
child = os.fork()
if not child:
    raise SystemExit(7 if list(crash.readmem_many(addresses, 8)) == wanted else 1)
print('child', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(list(crash.readmem_many(addresses, 8)) == wanted)
"""


def test_many_reads_bring_what_single_ones_bring(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write("many.py", MANY)
    ran = minimal(crash, untouched, host, "py many.py", "eval 16")
    bad = 'read error: kernel virtual address: ffffc87fffff0000  type: "Python"'
    thread = "error only crash's own thread can call crash, not a thread that Python started"
    assert ran.after("shared object loaded\n").splitlines()[:13] == [
        f"([b'Linux'], 'error', '{bad}')",
        "([b'Linux'], 'NullPointer', 'read of a NULL pointer')",
        "[b'Linux', None, None, b'Linux', None]",
        'error invalid size request: 0  type: "Python"',
        "error a read of 1,099,511,627,776 bytes at once is too large:"
        " read 1,073,741,824 at most, and the rest by further calls",
        f"error {bad}",
        "peak below 8 MiB: True",
        "pressed 5 set()",
        thread, thread, thread,
        "child 7",
        "True",
    ]  # fmt: skip
    assert "hexadecimal: 10" in ran.text


LISTS = """
import crash

Z = crash.sym2addr('empty_zero_page')

def followed(head, *args, **options):
    got = []
    try:
        for entry in crash.read_list(Z + head, *args, **options): got.append(entry - Z)
    except Exception as error: return got, f'{type(error).__name__}: {error}'
    return got

for head in 0, 0x100, 0x200, 0x300, 0x400: print(followed(head))
got, problem = followed(0x500)
assert got[40:45] == got[35:40] == got[45:50]
print(len({*got}), len(got) < 3 * 40, problem)
print(followed(0, 8), followed(0x200, end=0), followed(0x100, end=Z + 0x120))
print(followed(0x100, end=0))
print(followed(-Z))
tasks = crash.offsetof('task_struct', 'tasks')
init = crash.sym2addr('init_task')
entry, wanted = crash.readPtr(init + tasks), []
while entry != init + tasks:
    wanted.append(entry - tasks)
    entry = crash.readPtr(entry)
assert len(wanted) > 50 and list(crash.read_list(init + tasks, tasks)) == wanted
print(list(crash.read_list(crash.kvtop(Z), 0, crash.PHYSADDR, end=Z + 0x10)))
print([crash.getListSize(Z + head, 0, 50) for head in (0, 0x100, 0x200, 0x400, 0x500)],
      crash.getListSize(Z + 0x3f8, 8, 50), crash.getListSize(Z + 0x500, 0, 1 << 60) == 1 << 60)
try: crash.getListSize(Z + 0x300, 0, 50)
except crash.error as error: print(error)
"""


def test_a_list_is_followed_to_its_end_or_to_what_is_wrong_with_it(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    """Lists are planted in the kernel's page of zeros."""
    kernel = diagnosis(untouched).kernel
    zero = kernel.address("empty_zero_page")
    long = [0x600 + 16 * n for n in range(40)]
    lists = {
        0: (0x10, 0x20, 0), 0x100: (0x110, 0x120, 0x110), 0x200: (0x210, 0x220, -zero),
        0x300: (0x310, 0xDEAD000000000100 - zero), 0x400: (0x400,), 0x500: (*long, long[35]),
    }  # fmt: skip
    page = bytearray(4096)
    for at, pointers in lists.items():
        for place, pointer in zip((at, *pointers), pointers):
            page[place : place + 8] = struct.pack("<Q", zero + pointer & (1 << 64) - 1)
    dump = Dump(untouched.vmlinux, copy_of(untouched, tmp_path))
    DumpFile(dump.vmcore).write(kernel.tables.translate(zero), bytes(page))
    crash.write("lists.py", LISTS)
    ran = minimal(crash, dump, host, "py lists.py", "eval 16")
    dump.vmcore.unlink()
    breaks = f"error: the list at {zero + 0x200:x} breaks off: the pointer at {zero + 0x220:x} is 0"

    def circle(head: int, last: int, again: int) -> str:
        return (
            f"error: the list at {zero + head:x} never ends: after {zero + last:x} the entry"
            f" {zero + again:x} comes again, so the list is damaged or this is no head of a list"
        )

    assert ran.after("shared object loaded\n").splitlines()[:12] == [
        "[16, 32]",
        f"([272, 288], '{circle(0x100, 0x120, 0x110)}')",
        f"([528, 544], '{breaks}; for a list that ends so, give end=0')",
        f"([784, {0xDEAD000000000100 - zero}],"
        " 'error: invalid kernel virtual address: dead000000000100  type: \"list\"')",
        "[]",
        f"40 True {circle(0x500, long[36], long[37])}",
        "[8, 24] [528, 544] [272]",
        f"([272, 288], '{circle(0x100, 0x120, 0x110)}')",
        "([], 'NullPointer: read of a NULL pointer')",
        "[]",
        "[2, 50, 2, 0, 50] 1 True",
        'invalid kernel virtual address: dead000000000100  type: "list"',
    ]
    assert "hexadecimal: 10" in ran.text
