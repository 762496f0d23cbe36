# SPDX-License-Identifier: GPL-3.0-or-later
"""percpu NAME [SIZE]: a per-cpu variable on all cpus.

An example of a command with a parser, which gives one-line errors and the text of ``help percpu``.
"""

from __future__ import annotations

import argparse

from pykdump_ext.host import CommandError, command, crash

parser = argparse.ArgumentParser(description="show a per-cpu variable on all cpus")
parser.add_argument("name", help="the variable's name, such as current_task")
parser.add_argument(
    "size",
    nargs="?",
    type=int,
    choices=(1, 2, 4, 8),
    default=8,
    help="its size in bytes (default: 8)",
)


@command("percpu", parser=parser, minimal=True)
def percpu(args: argparse.Namespace) -> None:
    """Print the address and the value of the variable on each cpu."""
    variable = crash.sym2addr(args.name)
    if not variable:
        raise CommandError(f"{args.name}: no such symbol")
    offsets = crash.sym2addr("__per_cpu_offset")
    for cpu in range(crash.readInt(crash.sym2addr("nr_cpu_ids"), 4)):
        address = variable + crash.readPtr(offsets + 8 * cpu) & 0xFFFFFFFFFFFFFFFF
        value = crash.readInt(address, args.size)
        print(f"cpu {cpu:3}  {address:x}: {value:0{2 * args.size}x}")
