# SPDX-License-Identifier: GPL-3.0-or-later
"""The module crash: what is odd, too large or not there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.dump import Dump

from .modules import module_with_types
from .sessions import Crash, minimal

TYPES = """
import crash, sys, time

def say(call):
    try: print(call())
    except Exception as error: print(type(error).__name__, error)

print(crash.symbol_exists('fixed_percpu_data'), crash.sym2addr('fixed_percpu_data'))
say(lambda: crash.readmem(0, 8))
print(issubclass(crash.NullPointer, IndexError), issubclass(crash.NullPointer, crash.error))
banner = crash.sym2addr('linux_banner')
for read in crash.readmem, crash.read_machine:
    say(lambda: read(banner, 1 << 40))
print([crash.struct_size(name) for name in ('list_head', 'x' * 5000, 'nosuch')])
print([crash.member_size('task_struct', name) for name in ('pid', 'nosuch', 'x' * 5000)])
print([crash.member_offset(*names) for names in (('list_head', 'prev'), ('list_head', 'nosuch'))])
print(crash.sizeof('list_head'), crash.offsetof('list_head', 'prev'))
for call in (
    lambda: crash.sizeof('nosuch'), lambda: crash.offsetof('list_head', 'nosuch'),
    lambda: crash.offsetof('nosuch', 'member'),
):
    say(call)
"""


def test_the_module_crash_answers_what_is_odd_as_it_says(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("odd.py", TYPES)
    ran = minimal(crash, untouched, host, "py odd.py")
    too_large = (
        "error a read of 1,099,511,627,776 bytes at once is too large:"
        " read 1,073,741,824 at most, and the rest by further calls"
    )
    assert ran.after("loaded\n").splitlines() == [
        "True 0",
        "NullPointer read of a NULL pointer",
        "True False",
        *([too_large] * 2),
        "[16, -1, -1]",
        "[4, -1, -1]",
        "[8, -1]",
        "16 8",
        "error the kernel has no struct or union nosuch",
        "error struct list_head has no member nosuch",
        "error the kernel has no struct or union nosuch",
    ]


def test_types_and_symbols_are_looked_up_once_until_modules_change(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    """mod -s brings types and symbols: crash is asked again after it, and only then."""
    made = module_with_types(crash.folder)
    crash.write(
        "types.py",
        "import crash, time\n"
        "def asked():\n"
        "    return crash.struct_size('brought'), crash.member_offset('brought', 'b'),\\\n"
        "        crash.member_offset('list_head', 'nosuch'), crash.symbol_exists('brought')\n"
        "start = time.process_time()\n"
        "first = asked()\n"
        "once = time.process_time() - start\n"
        "assert {first, *(asked() for _ in range(60))} == {first}\n"
        "print(*first, time.process_time() - start < 20 * once + 0.1)\n",
    )
    crash.write(
        "within.py",
        "import crash\n"
        f"for command in 'sys', 'mod -s xen_privcmd {made}', 'sys', 'mod -d xen_privcmd':\n"
        "    crash.run_command(command)\n"
        "    print(crash.struct_size('brought'), crash.symbol_exists('brought'))\n",
    )
    ran = crash(
        untouched,
        [f"extend {host}", "py types.py", f"mod -s xen_privcmd {made} > mod", "py types.py",
         "mod -d xen_privcmd", "py types.py", "py within.py"],
        "-s",
    )  # fmt: skip
    assert ran.after("object loaded\n").splitlines() == [
        "-1 -1 -1 False True", "40 32 -1 True True", "-1 -1 -1 False True",
        "-1 False", "40 True", "40 True", "-1 False",
    ]  # fmt: skip


def test_what_is_looked_up_is_kept_for_one_command(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    crash.write(
        "absent.py",
        "from pykdump_ext.host import crash, lookups\n"
        "crash.struct_size('list_head')\n"
        "print(len(lookups.types))\n"
        "crash.struct_size('nosuch')\n"
        "crash.struct_size('nosuch')\n"
        "print(len(lookups.types))\n",
    )
    ran = minimal(
        crash, truncated, host,
        "py absent.py", "py absent.py", "extend p2mfix.py", "py absent.py", "py absent.py",
    )  # fmt: skip
    assert re.findall(r"^\d+$", ran.text, re.MULTILINE) == ["1", "2"] * 4
