# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: a real broken Xen dump, crash dying on it, and p2mfix.py opening it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .broken import truncated
from .cache import say
from .dump import Dump, Source, dom0_dump

BIN = Path(sys.executable).parent


def title(text: str) -> None:
    """Print what comes next."""
    print(f"\n=== {text}\n", flush=True)


def crash(dump: Dump, *options: str, commands: str = "quit\n") -> tuple[int, str]:
    """Run crash with an input file, as it echoes what it runs; show it from gdb's banner on.

    It reads no ``.crashrc``, which may load another installation of this package.
    """
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "commands")
        file.write_text(commands)
        words: list[str | Path] = ["crash", *options, "-i", file, dump.vmlinux, dump.vmcore]
        shown = " ".join(["crash", *options, "vmlinux", "vmcore"])
        print(f"$ {shown}", flush=True)
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, cwd=home, env={**os.environ, "HOME": home},
        )  # fmt: skip
    text = re.sub(r"\r[^\r\n]*(?=[\r\n])", "", done.stdout.decode(errors="replace"))
    print(text.rpartition('word"...\n')[2].replace("\r", "").strip("\n"))
    return done.returncode, text


def main() -> None:
    """Run the demonstration; exit status 0 only when each step did what it shows."""
    title("A real dump of a crashed Xen host, its p2m list truncated at nr_pages")
    dump = truncated(dom0_dump(Source()))
    print(f"vmlinux  {dump.vmlinux}\nvmcore   {dump.vmcore}")

    title("Plain crash dies on it")
    status, text = crash(dump)
    print(f"(exit status {status})")
    died = status == 1 and "current_task (per_cpu)" in text and "tss_struct ist array" in text

    title("crash --minimal, then: extend p2mfix.py")
    host = subprocess.run(
        [BIN / "pykdump-ext", "host"], stdout=subprocess.PIPE, text=True, check=True, cwd="/"
    ).stdout.strip()
    status, text = crash(
        dump, "--minimal",
        commands=f"extend {host}\nextend p2mfix.py\nbt\nps\np2m status\nquit\n",
    )  # fmt: skip
    opened = status == 0 and "sysrq_handle_crash" in text and "PANIC:" in text

    if not (died and opened):
        what = "open in p2mfix" if died else "stop plain crash"
        say(f"the dump did not {what}: what crash printed above says why")
        raise SystemExit(1)
    title("Your turn")
    print(f"{BIN / 'p2mfix'} \\\n  {dump.vmlinux} \\\n  {dump.vmcore}")


if __name__ == "__main__":
    main()
