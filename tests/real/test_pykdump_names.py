# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of the module crash that programs written for PyKdump take from it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, Crash, finds_tasks, minimal

SHOWN = """
import collections, crash, re

run = crash.run_command

# Tasks, by ps
rows = re.findall(r'(?m)^(.) +(\\d+) +\\d+ +\\d+ +(\\w+) +\\S+ +\\S+ +(\\d+) +(\\d+) ', run('ps'))
assert len(rows) > 50 and {mark for mark, *_ in rows} == {' ', '>'}
first = {}
for mark, pid, task, vsz, rss in rows:
    task, pid = int(task, 16), int(pid)
    first.setdefault(pid, task)
    assert crash.task_to_pid(task) == pid
    assert crash.is_task_active(task) is (mark == '>'), (mark, pid)
    assert crash.get_task_mem_usage(task) == (int(vsz), int(rss)), (pid, vsz, rss)
for pid, task in first.items(): assert crash.pid_to_task(pid) == task or pid == 0
assert first[1] == crash.pid_to_task(1) and crash.get_task_mem_usage(first[1])[1] > 0
for none in 0, 1, first[1] + 8, -1, 1 << 70:
    assert crash.task_to_pid(none) is None and crash.is_task_active(none) is False
    assert crash.get_task_mem_usage(none) == (0, 0)
for none in max(first) + 1, -1, 1 << 40: assert crash.pid_to_task(none) == 0

# Time
hours, minutes, seconds = map(int, re.search(r'UPTIME: (\\d+):(\\d+):(\\d+)', run('sys')).groups())
assert crash.HZ == int(re.search(r' HZ: (\\d+)', run('mach'))[1]) > 0
assert crash.get_uptime() // crash.HZ == hours * 3600 + minutes * 60 + seconds > 0

# Paths, by files
mounted = crash.offsetof('file', 'f_path') + crash.offsetof('path', 'mnt')
files = re.findall(r'(?m)^ *\\d+ (\\w{16}) (\\w{16}) \\w{16} (?:REG|CHR|DIR) +(\\S+)',
                   run('foreach files'))
assert len(files) > 5
for file, dentry, path in files:
    assert crash.get_pathname(int(dentry, 16), crash.readPtr(int(file, 16) + mounted)) == path

# Pages, by kmem
for physical in 0x1000, 0x2345678, 0x100000000:
    shown = re.search(r'(?m)^ *(ea\\w+|ff\\w+) +(\\w+) ', run(f'kmem -p {physical:x}'))
    assert crash.phys_to_page(physical) == int(shown[1], 16)
    assert physical & -4096 == int(shown[2], 16)

# Symbols, by sym
named = collections.defaultdict(list)
for address, name in re.findall(r'(?m)^(\\w+) \\(.\\) (\\S+)', run('sym -l')):
    named[name].append(int(address, 16))
often, _ = max(named.items(), key=lambda item: len(item[1]))
assert len(named[often]) > 16
for name in often, 'linux_banner', 'init_task', 'fixed_percpu_data':
    assert sorted(crash.sym2alladdr(name)) == sorted(named[name]), name
    assert crash.sym2addr(name) in named[name] and crash.symbol_exists(name)
assert crash.sym2alladdr('nosuch') == [] and not crash.symbol_exists('nosuch')
# Where gdb does not know the table's length, it goes up to the next symbol
calls = len(re.findall(r'(?m)^ *[0-9a-f]+  \\w', run('sys -c')))
assert calls > 300 and crash.get_NR_syscalls() - calls in range(8)

# Enumerators, by gdb
for name in 'PIDTYPE_MAX', 'PIDTYPE_PID', 'KERNFS_LINK', 'HRTIMER_NORESTART', 'TCP_ESTABLISHED':
    shown = crash.exec_gdb_command(f'print (long){name}').split()[-1]
    assert crash.enumerator_value(name) == int(shown), name
for name in 'nosuch', 'list_head', 'list_head.next', 'x' * 5000, '', 'jiffies':
    assert crash.enumerator_value(name) is None, name

# Lists and tables, by list and rd
at, init = crash.offsetof('task_struct', 'tasks'), crash.sym2addr('init_task')
entries = run(f'list task_struct.tasks -h {init:x}').split()
assert crash.getListSize(init + at, 0, 100_000) == len(entries) - 1 > 50
assert [crash.getListSize(init + at, 0, most) for most in (3, 1, 0, -1)] == [3, 1, 0, 0]
assert crash.getListSize(0, 0, 9) == 0
table = crash.sym2addr('init_top_pgt')
words = re.findall(r'(?<= )[0-9a-f]{16}\\b', run(f'rd {table:x} 512'))
full = [(n, int(word, 16)) for n, word in enumerate(words) if int(word, 16)]
assert len(words) == 512 and 1 < len(full) < 500
assert crash.getFullBucketsH(table, 8, 512, 0) == full
assert crash.getFullBuckets(table, 8, 512, 0) == [pointer for _, pointer in full]
assert crash.getFullBucketsH(table, 16, 256, 8) == [(n // 2, p) for n, p in full if n % 2]

# Exceptions, by what a traceback calls them
for kind in crash.error, crash.NullPointer, crash.Excluded, crash.ReaderGone:
    assert kind.__module__ == 'crash' and getattr(crash, kind.__name__) is kind

print(len(rows), len(files), len(named), crash.get_uptime(), sorted(files))
"""


def test_each_name_gives_what_a_command_of_crash_shows(
    crash: Crash, untouched: Dump, truncated: Dump, host: Path
) -> None:
    crash.write("shown.py", SHOWN)
    whole = crash(untouched, [*finds_tasks(host), "py shown.py"], "-s")
    repaired = crash.run(
        [BIN / "p2mfix", "-s", truncated.vmlinux, truncated.vmcore], ["py shown.py"]
    )
    said = repaired.text.splitlines()[-1]
    assert said.count("'/dev/console'") > 2, repaired.text
    assert said == whole.text.splitlines()[-1]


COMMANDS = """
import crash

def say(call):
    try: print(repr(call()))
    except crash.error as error: print('error', *map(repr, dict.fromkeys(error.args + (
        error.message, error.output))))

for line in 'eval 16', 'nosuch', 'rd', 'rd 0', '', 'set error default':
    say(lambda: crash.exec_crash_command(line, 1).splitlines()[0])
for line in 'nosuch', 'rd 0', '': say(lambda: crash.run_command(line))
print([crash.crash_set_error(to) for to in ('log', 'redirect', 'redirect', 'default', 'default')])
say(lambda: crash.crash_set_error('/nosuch/file'))
say(lambda: crash.crash_set_error('a' + chr(0)))
print(crash.crash_set_error('default'))
crash.crash_set_error('log')
say(lambda: crash.exec_crash_command('rd 0'))
print(crash.exec_crash_command("py -c 'print(crash.crash_set_error(\\"default\\"))'"), end='')
print(crash.set_default_timeout(12), crash.set_default_timeout(60))
crash.setprocname('some name that is long')
words = open('/proc/self/cmdline').read().split(chr(0))
print(open('/proc/self/comm').read().replace('\\n', '|'), len(words) > 4)
"""

SAID_OF_COMMANDS = r"""
'hexadecimal: 10  '
'crash: nosuch: command not available in minimal mode'
error USAGE 'rd: wrong usage'
error 'rd: no current user process\n' 'no current user process'
error '' 'command: printed nothing'
'error: default'
error 'nosuch: command not available in minimal mode' MINIMAL
error 'no current user process' 'rd: no current user process\n'
''
['default', 'log', 'redirect', 'redirect', 'default']
error 'cannot set this target: crash cannot open /nosuch/file for its errors' ''
error "'a\\x00': crash takes no zero byte in a name or a command" ''
default
error 'rd: no current user process\n' 'no current user process'
log
60 12
some name that | True
"""

FULL = """
import crash, threading

init = crash.sym2addr('init_task')
calls = (
    crash.get_uptime, lambda: crash.pid_to_task(1), lambda: crash.task_to_pid(init),
    lambda: crash.is_task_active(init), lambda: crash.get_task_mem_usage(init),
    lambda: crash.phys_to_page(4096), lambda: crash.get_pathname(init, init),
)
said = set()
def ask():
    for call in calls:
        try: print('no error', call())
        except crash.error as error: said.add(str(error))
ask()
print(len(calls), said, crash.HZ)
print(crash.get_NR_syscalls() > 300, crash.enumerator_value('PIDTYPE_MAX'))
print(len(crash.sym2alladdr('cleanup_module')), crash.sym2alladdr('fixed_percpu_data'))

met = []
def elsewhere():
    for call in lambda: crash.enumerator_value('PIDTYPE_PID'), crash.get_NR_syscalls, \\
            lambda: crash.getListSize(init, 0, 9), lambda: crash.crash_set_error('default'):
        try: met.append(call())
        except crash.error as error: met.append(error)
thread = threading.Thread(target=elsewhere)
thread.start(); thread.join()
print(*met, sep='\\n')
"""

SAID_OF_FULL = """
7 {'crash knows this in a full session of a kernel only: start crash without --minimal, or extend \
p2mfix.py'} 0
True 4
0 [0]
only crash's own thread can call crash, not a thread that Python started
only crash's own thread can call crash, not a thread that Python started
only crash's own thread can call crash, not a thread that Python started
only crash's own thread can call crash, not a thread that Python started
"""

NUMBERS = """
import crash

def say(*calls):
    said = []
    for call in calls:
        try: said.append(str(call()))
        except Exception as error: said.append(f'{type(error).__name__} {error}')
    print('; '.join(said))

init, Z = crash.sym2addr('init_task'), crash.sym2addr('empty_zero_page')
say(lambda: crash.mem2long(b'abcdefgh', array=2, signed=True), lambda: crash.mem2long(b'ab', 1),
    lambda: crash.mem2long(bytestr=b'\\xff', signed=1), lambda: crash.mem2long(b'\\xff', False, 1))
say(lambda: crash.mem2long(b'abc'), lambda: crash.mem2long(b'abc', array=2),
    lambda: crash.mem2long(b''), lambda: crash.mem2long(b'abcdef', array=2),
    lambda: crash.mem2long('abcd'))
say(*(lambda n=n: crash.readInt(Z, n) for n in (1, 2, 4, 8, 3, 0, -8, 16, 33)))
say(lambda: crash.readInt(0, 4), lambda: crash.readPtr(0), lambda: crash.readmem(0, 4))
say(lambda: [crash.sLong(n) for n in (5, (1 << 64) - 5, 1 << 63, 1 << 64, -1)],
    lambda: [f(0x123456789) for f in (crash.le32_to_cpu, crash.le16_to_cpu, crash.cpu_to_le32)],
    lambda: [crash.le32_to_cpu(-1), crash.le16_to_cpu(-1), hex(crash.PAGEOFFSET(init | 0xfff))])
say(lambda: [n for n in range(-9, 40) if crash.FD_ISSET(n, bytes([0x81, 1, 0x80]))],
    lambda: crash.FD_ISSET(7, b'\\x80'))
names = [name for name in dir(crash) if name.startswith('TYPE_CODE_')]
print(len(names), len({getattr(crash, name) for name in names}))
print(crash.version, crash.WARNING, crash.AMBIGUOUS, 1 << crash.PAGE_CACHE_SHIFT == crash.PAGESIZE)
print(crash.Crash_run == crash.Crash_build == crash.session().crash_version)
say(lambda: crash.nosuch)
for bad in (0, 8, 4, 0), (Z, 8, 0, 0), (Z, 8, -1, 0), (Z, 8, 4, 1), (Z, 8, 4, -8), (Z, 0, 4, 0), \\
        (Z, 8, 1 << 40, 0), (Z, 1 << 40, 1, 0), (-4096, 8, 4, 0):
    say(lambda: crash.getFullBuckets(*bad))
"""

SAID_OF_NUMBERS = """
[1684234849, 1751606885]; 25185; -1; 255
SIZE 3; error bad size: 3 bytes cannot be divided into 2 integers of one size; SIZE 0; SIZE 3; \
TypeError cannot convert 'str' object to bytes
0; 0; 0; 0; SIZE 3; SIZE 0; SIZE -8; SIZE 16; SIZE 33
error read of a NULL pointer; NullPointer read of a NULL pointer; \
NullPointer read of a NULL pointer
[5, -5, -9223372036854775808, 0, -1]; [591751049, 26505, 591751049]; \
[4294967295, 65535, '0xfff']
[0, 7, 8, 23]; 1
10 10
3.2.1 ++WARNING+++ -1 True
True
AttributeError module 'pykdump_ext.host.crash' has no attribute 'nosuch'
BAD 4 buckets of 8 bytes at 0, with a pointer at 0, are no hash table
BAD 0 buckets of 8 bytes at PAGE, with a pointer at 0, are no hash table
BAD -1 buckets of 8 bytes at PAGE, with a pointer at 0, are no hash table
BAD 4 buckets of 8 bytes at PAGE, with a pointer at 1, are no hash table
BAD 4 buckets of 8 bytes at PAGE, with a pointer at -8, are no hash table
BAD 4 buckets of 0 bytes at PAGE, with a pointer at 0, are no hash table
error 1,099,511,627,776 buckets of 8 bytes are too many for one call: LESS
error 1 buckets of 1,099,511,627,776 bytes are too many for one call: LESS
error read error: kernel virtual address: fffffffffffff000  type: "Python"
"""
SHORTER = {
    r"'Usage:.*?\\n'": "USAGE",
    r"error bad size: an integer has 1, 2, 4 or 8 bytes, and not": "SIZE",
    r"error bad arguments:": "BAD",
    r"ask for 1,073,741,824 bytes at most, and for the rest by further calls": "LESS",
    r"at ffffffff\w+,": "at PAGE,",
    r"'crash: nosuch: command not available in minimal mode\\n.*": "MINIMAL",
}


def test_each_name_answers_what_is_odd_as_it_says(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """In a minimal session: what needs a full one says so, the rest works."""
    scripts = {
        "commands": (COMMANDS, SAID_OF_COMMANDS),
        "full": (FULL, SAID_OF_FULL),
        "numbers": (NUMBERS, SAID_OF_NUMBERS),
    }
    for name, (text, _) in scripts.items():
        crash.write(f"{name}.py", text)
    lines = [f"py {name}.py > {name}" for name in scripts]
    ran = minimal(crash, untouched, host, *lines, "eval 16")
    assert "hexadecimal: 10" in ran.text and ran.status == 0
    for name, (_, wanted) in scripts.items():
        said = (crash.folder / name).read_text()
        for long, short in SHORTER.items():
            said = re.sub(long, short, said)
        assert said == wanted.lstrip("\n"), name
    assert (crash.folder / "log").read_text() == ""
