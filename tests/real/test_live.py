# SPDX-License-Identifier: GPL-3.0-or-later
"""crash on a running dom0: nothing is repaired there, what only reads works."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.live import run_live
from tests.lab.matrix import MAIN, source

COMMANDS = "p2m\np2m pfn 100\np2m list\np2m fix\np2m undo\nextend -u p2mfix.py"
NAMES = """\
import crash, os
print("live", crash.session().live)
print(crash.readmem(crash.sym2addr("linux_banner"), 13))
print(crash.gdb_typeinfo("struct list_head")["body"][1]["fname"])
print(crash.gdb_whatis("init_task")["basetype"])
fd, child = crash.exec_crash_command_bg2("rd -a linux_banner")
print(open(fd).read().split("  ")[1][:13], os.waitpid(child, 0)[1])
"""
PROGRAM = "import sys\nprint('program', sys.argv[1:])\n"


def test_a_live_session_is_looked_at_and_not_repaired(tmp_path: Path, host: Path) -> None:
    # minimal: crash 8.0.2 itself cannot start a full session in a running PV dom0
    script = (
        f"cat >/tmp/names.py <<'EOF'\n{NAMES}EOF\n"
        f"cat >/tmp/program.py <<'EOF'\n{PROGRAM}EOF\n"
        f"cat >/tmp/commands <<'EOF'\nextend {host}\nextend p2mfix.py\n{COMMANDS}\n"
        "extend epython.py\npy /tmp/names.py\nepython /tmp/program.py 1 2\nquit\nEOF\n"
        "crash --minimal /vmlinux /proc/kcore </tmp/commands\n"
    )
    printed = run_live(source(MAIN), tmp_path, script)
    assert "this is a live session, which needs no list: nothing to repair" in printed
    assert re.search(r"Linux \S+, running, linear p2m at [0-9a-f]{16}, [\d,]+ pfns", printed)
    assert re.search(r"pfn 100: mfn [0-9a-f]+, memory", printed)
    refused = (
        "p2m: this is a live session, which has no dump: only p2m status and p2m pfn work in it"
    )
    assert printed.splitlines().count(refused) == 1
    assert "nothing to undo" in printed
    assert "Traceback" not in printed
    assert "p2mfix.py: unloaded" in printed
    shown = printed.partition("epython.py: loaded\n")[2].splitlines()
    assert shown == [
        "live True", "b'Linux version'", "prev", "struct task_struct", "Linux version 0",
        "program ['1', '2']",
    ]  # fmt: skip
