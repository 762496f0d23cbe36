# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: ``extend`` loads, lists and unloads it, and what it was built for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.lab.dump import Dump

from .sessions import BIN, Crash, minimal


def test_a_bare_extend_lists_shared_objects_and_python_files(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "hello.py",
        "from pykdump_ext.host import command\n"
        "@command('hello', usage='[name]', help='greets', minimal=True)\n"
        "def hello(words):\n"
        "    '''Greets whoever is named.'''\n"
        "    print('hello', *words)\n",
    )
    ran = minimal(crash, untouched, host, "extend hello.py", "hello world", "extend", "help hello")
    assert "./hello.py: loaded\nhello world\n" in ran.text
    assert re.search(
        r"^SHARED OBJECT +COMMANDS\n\S+crash_host\.so +py \n\./hello\.py +hello \n",
        ran.text,
        re.MULTILINE,
    )
    help_text = ran.after("NAME\n")
    assert help_text.startswith(
        "  hello - greets\n\nSYNOPSIS\n  hello [name]\n\nDESCRIPTION\n  Greets whoever is named.\n"
    )


def test_python_files_are_found_where_crash_looks_for_extensions(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "silent.py").write_text("print('found it')\n")
    ran = minimal(
        crash, untouched, host, "extend silent.py", "extend nosuch.py",
        CRASH_EXTENSIONS=str(elsewhere),
    )  # fmt: skip
    assert f"found it\n{elsewhere}/silent.py: loaded\n" in ran.text
    assert "extend: nosuch.py: no such file, here or in crash's extensions folders\n" in ran.text


def test_what_extend_accepted_before_it_still_accepts(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    source = crash.folder / "native.c"
    source.write_text(
        '#include "defs.h"\n'
        'static void cmd(void) { fprintf(fp, "native was here\\n"); }\n'
        'static char *help[] = { "native", "d", "s", "t", NULL };\n'
        'static struct command_table_entry table[] = {{"native", cmd, help, MINIMAL}, {NULL}};\n'
        "__attribute__((constructor)) static void load(void) { register_extension(table); }\n"
    )
    subprocess.run(
        ["cc", "-w", "-shared", "-fPIC", "-DX86_64", "-I/usr/include/crash", "-o",
         crash.folder / "native.so", source],
        check=True,
    )  # fmt: skip
    crash.write("two.py", "")
    ran = minimal(
        crash, untouched, host,
        "extend native.so", "native", "extend native.so two.py", "extend -u native.so",
        "native", "extend -l native.so", "native", "extend nosuch.so", "extend /etc/passwd",
    )  # fmt: skip
    assert ran.text.count("./native.so: shared object loaded") == 2
    assert ran.text.count("native was here") == 2
    assert "./native.so: shared object already loaded\n./two.py: loaded\n" in ran.text
    assert "native: command not available in minimal mode" in ran.text
    assert "extend: nosuch.so: No such device or address" in ran.text
    assert "extend: /etc/passwd: not an ELF format object file" in ran.text


def test_unloading_takes_the_commands_away_and_loading_brings_them_back(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "hello.py",
        "from pykdump_ext.host import command\n"
        "@command('hello', minimal=True)\n"
        "def hello(words): print('hello')\n"
        "def unloaded(): print('good bye')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend hello.py", "extend hello.py", "hello", "extend -u hello.py", "hello",
        "extend -u hello.py", "extend hello.py", "extend -u", "hello", "extend hello.py",
        f"extend {host}", "extend hello.py", "hello", f"extend -u {host}", "extend", "py",
    )  # fmt: skip
    text = ran.after("shared object loaded\n")
    assert text.startswith("./hello.py: loaded\n./hello.py: already loaded\nhello\ngood bye\n")
    gone = "crash: hello: command not available in minimal mode"
    assert text.count(gone) == 2
    assert "extend: hello.py: not loaded\n" in text
    assert text.count("good bye\n./hello.py: unloaded\n") == 3
    assert f"{host}: shared object unloaded\n" in text
    assert "hello.py: not an ELF format object file\n" in text
    assert f"{host}: shared object loaded\n./hello.py: loaded\nhello\n" in text
    assert "crash: py: command not available in minimal mode" in text


def test_a_command_name_that_is_taken_is_refused(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "log.py",
        "from pykdump_ext.host import command\n"
        "@command('log')\n"
        "def log(words): print('not this one')\n",
    )
    ran = minimal(crash, untouched, host, "extend log.py", "log | head -1")
    assert 'extend: ./log.py: "log" is a duplicate of an existing command\n' in ran.text
    assert "not this one" not in ran.text


# --------------------------------------------------------------------------
# what it was built for


def test_built_for_another_crash_it_refuses(crash: Crash, untouched: Dump, host: Path) -> None:
    version = re.search(rb"BUILT_FOR_CRASH=([\d.]+)", host.read_bytes())
    assert version
    old = version[1]
    other = b"6" + old[1:]
    copy = crash.folder / "other.so"
    copy.write_bytes(host.read_bytes().replace(old, other))
    ran = crash(untouched, [f"extend {copy}", "py"], "--minimal", "-s")
    assert (
        f"extend: this crash is version {old.decode()}, pykdump_ext was built for"
        f" {other.decode()}: build it again (pip install --force-reinstall pykdump-ext)\n"
    ) in ran.text
    assert "py: command not available" in ran.text


def environment_like(host: Path, folder: Path, version: str) -> Path:
    """A virtual environment of another version that has our shared object in it."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python3").symlink_to(BIN / "python3")
    (folder / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    copy = folder / "lib/host.so"
    copy.parent.mkdir()
    shutil.copy(host, copy)
    return copy


def test_in_an_environment_of_another_python_it_refuses(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    copy = environment_like(host, tmp_path / "env", "3.99.1")
    ran = minimal(crash, untouched, copy, "py", "extend p2mfix.py", "eval 16")
    sentence = "its environment is now for Python 3.99.1: build it again"
    assert ran.text.count(sentence) == 2
    assert "hexadecimal: 10" in ran.text


def test_without_the_package_it_says_what_is_missing(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    found = re.search(r"version = (\S+)", (BIN.parent / "pyvenv.cfg").read_text())
    assert found
    copy = environment_like(host, tmp_path / "env", found[1])
    ran = minimal(crash, untouched, copy, "py", "eval 16")
    assert re.search(
        r"py: \S+/env/bin/python3 has no module cffi: install pykdump-ext with it\n", ran.text
    )
    assert "hexadecimal: 10" in ran.text


def test_python_comes_from_the_virtual_environment_that_holds_the_package(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("where.py", "import sys, pykdump_ext\nprint(sys.prefix, pykdump_ext.__file__)\n")
    ran = minimal(crash, untouched, host, "py where.py")
    assert f"{BIN.parent} {host.parent.parent}/__init__.py\n" in ran.text
