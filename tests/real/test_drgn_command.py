# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix drgn``: scripts, code, input, a prompt, and errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect

from tests.lab.dump import Dump

from .packed import filtered
from .sessions import BIN, ROOT, SECONDS

COMMAND = (BIN / "p2mfix", "drgn")


def run(*words: str | Path, stdin: str | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, "-q", *words], input=stdin, capture_output=True, text=True, check=False, cwd="/"
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
    assert (status, error.splitlines()) == (
        1,
        [
            "Traceback (most recent call last):",
            '  File "<string>", line 1, in <module>',
            "ValueError: its own",
        ],
    )
    broken = tmp_path / "broken.py"
    broken.write_text("def fail():\n    open('/nowhere')\n\nfail()\n")
    status, _, error = run(*files, broken)
    frames = re.findall(r'^  File "(.*)", line (\d+)', error, re.MULTILINE)
    assert (status, frames) == (1, [(str(broken), "4"), (str(broken), "2")])
    assert error.endswith("FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'\n")


def test_options_may_follow_the_files_of_a_split_dump(truncated: Dump, tmp_path: Path) -> None:
    parts = filtered(truncated, tmp_path, "-c", files=3)
    assert run(truncated.vmlinux, *parts, "-e", "print(prog['init_task'].pid.value_())") == (
        0,
        "0\n",
        "",
    )


def test_errors_are_sentences(truncated: Dump, not_xen: Dump, tmp_path: Path) -> None:
    vmlinux, vmcore = truncated.vmlinux, truncated.vmcore
    stripped = tmp_path / "vmlinux"
    subprocess.run(["strip", "--strip-debug", "-o", stripped, vmlinux], check=True)
    for words, sentence in (
        ((vmlinux, "/nowhere"), "/nowhere: No such file or directory"),
        ((vmlinux, vmlinux), f"{vmlinux}: not a 64-bit ELF core file"),
        ((vmlinux, not_xen.vmcore), "this is not a dump of a Xen host: open it with drgn itself"),
        (
            (stripped, vmcore),
            f"{stripped}: has no debug information, which drgn needs; give the vmlinux of the"
            " kernel's debug package",
        ),
    ):
        assert run(*words) == (1, "", f"p2mfix: {sentence}\n"), words
    status, printed, error = run(vmlinux, vmcore, "/nowhere.py")  # of drgn
    assert (status, printed) == (1, "") and error.endswith(
        "No such file or directory: '/nowhere.py'\n"
    )
    # without drgn, as where only the package itself was installed
    lacking = (
        "import sys; sys.modules['drgn'] = None; from pykdump_ext.cli.p2mfix import main;"
        " main(['drgn', 'a', 'b'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", lacking], capture_output=True, text=True, check=False, cwd="/"
    )
    sentence = f"p2mfix: drgn is not installed: {BIN / 'pip'} install '{ROOT}[drgn]'\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_the_prompt(truncated: Dump, tmp_path: Path) -> None:
    words = [COMMAND[1], str(truncated.vmlinux), str(truncated.vmcore)]
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb"}
    shown = pexpect.spawn(
        str(COMMAND[0]), words, env=environment, timeout=SECONDS, encoding="utf-8"
    )
    shown.expect(">>> from drgn.helpers.linux import")
    shown.expect(r">>> $")
    shown.sendline("[f.name for f in prog.crashed_thread().stack_trace() if 'sysrq_h' in f.name]")
    shown.expect(r"\['sysrq_handle_crash'\]")
    shown.sendline("exit(4)")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == 4
