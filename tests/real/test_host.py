"""Python inside crash: what a user of the host sees at the prompt."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.lab.dump import Dump

from .conftest import BIN, SECONDS, Crash, Ran, environment

PROMPT = "crash> "


def minimal(crash: Crash, dump: Dump, host: Path, *commands: str, **variables: str) -> Ran:
    """A silent minimal session with Python in it."""
    return crash(dump, [f"extend {host}", *commands], "--minimal", "-s", **variables)


class Terminal:
    """crash as at a terminal: keys can be sent while it works."""

    def __init__(self, crash: Crash, words: list[str]) -> None:
        self.child = pexpect.spawn(
            words[0],
            words[1:],
            cwd=str(crash.folder),
            env={**environment(crash.home), "PAGER": "cat"},
            timeout=SECONDS,
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(40, 200),
        )

    def line(self, text: str, then: str = PROMPT) -> str:
        """Type a line and return what is printed until ``then``."""
        self.child.sendline(text)
        self.child.expect_exact(text + "\r\n")
        return self.until(then)

    def until(self, text: str = PROMPT) -> str:
        self.child.expect_exact(text)
        return str(self.child.before).replace("\r\n", "\n")

    def interrupt(self) -> None:
        self.child.sendintr()


@pytest.fixture
def terminal(crash: Crash, truncated: Dump, host: Path) -> Iterator[Terminal]:
    (crash.home / ".crashrc").write_text(f"set scroll off\nset emacs\nextend {host}\n")
    made = Terminal(
        crash, ["crash", "-s", "--minimal", str(truncated.vmlinux), str(truncated.vmcore)]
    )
    made.until()
    yield made
    made.child.close(force=True)


def script(crash: Crash, name: str, text: str) -> str:
    (crash.folder / name).write_text(text)
    return name


# --------------------------------------------------------------------------
# extend


def test_a_bare_extend_lists_shared_objects_and_python_files(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    script(
        crash,
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
    script(crash, "two.py", "")
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
    script(
        crash,
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
    script(
        crash,
        "log.py",
        "from pykdump_ext.host import command\n"
        "@command('log')\n"
        "def log(words): print('not this one')\n",
    )
    ran = minimal(crash, untouched, host, "extend log.py", "log | head -1")
    assert 'extend: ./log.py: "log" is a duplicate of an existing command\n' in ran.text
    assert "not this one" not in ran.text


# --------------------------------------------------------------------------
# errors


ERRORS = (
    "from pykdump_ext.host import crash\n"
    "from pykdump_ext.host import command\n"
    "import argparse\n"
    "p = argparse.ArgumentParser(description='adds')\n"
    "p.add_argument('n', type=int)\n"
    "@command('adds', parser=p, minimal=True)\n"
    "def adds(args): print(args.n + 1)\n"
    "@command('fails', minimal=True)\n"
    "def fails(words): return 1 // 0\n"
    "@command('reads', minimal=True)\n"
    "def reads(words): crash.readmem(int(words[0], 16), 8)\n"
)


def test_an_error_is_one_line_and_the_session_goes_on(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    script(crash, "errors.py", ERRORS)
    script(crash, "broken.py", "def (\n")
    ran = minimal(
        crash, truncated, host,
        "extend errors.py", "adds 41", "adds", "adds x", "fails", "reads ffff888106206024",
        "reads 0", "reads zz", "extend broken.py", "py nosuch.py", "adds 1",
    )  # fmt: skip
    said = ran.after("errors.py: loaded\n").splitlines()
    said = [line for line in said if line]
    assert said[:3] == [
        "42",
        "adds: the following arguments are required: n (see 'help adds')",
        "adds: argument n: invalid int value: 'x' (see 'help adds')",
    ]
    assert re.fullmatch(r"fails: ZeroDivisionError: .* \(\S+errors\.py, line 9\)", said[3])
    assert said[4] == 'reads: read error: kernel virtual address: ffff888106206024  type: "Python"'
    assert said[5] == "reads: read of a NULL pointer"
    assert said[6].startswith("reads: ValueError: invalid literal for int() with base 16: 'zz' (")
    assert re.fullmatch(r"extend: SyntaxError: invalid syntax \(\S+broken\.py, line 1\)", said[7])
    assert said[8:] == ["py: nosuch.py: no such file", "2"]


def test_a_traceback_is_shown_only_on_request(crash: Crash, untouched: Dump, host: Path) -> None:
    script(crash, "errors.py", ERRORS)
    quiet = minimal(crash, untouched, host, "extend errors.py", "fails")
    assert "Traceback" not in quiet.text
    loud = minimal(crash, untouched, host, "extend errors.py", "fails", P2MFIX_DEBUG="1")
    assert "Traceback (most recent call last)" in loud.text
    assert "fails: ZeroDivisionError" in loud.text


def test_crashs_own_errors_become_exceptions_and_its_state_survives_them(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    script(
        crash,
        "many.py",
        "import crash\n"
        "for i in range(2000):\n"
        "    try:\n"
        "        crash.exec_crash_command('rd 0')\n"
        "    except crash.error as error:\n"
        "        message = str(error)\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
        "print(message)\n"
        "try: crash.exec_gdb_command('print no_such_symbol')\n"
        "except crash.error as error: print(error)\n"
        "print(crash.exec_crash_command('eval 1 + 1').splitlines()[0])\n",
    )
    ran = crash(untouched, [f"extend {host}", "py many.py", "ps | head -3", "bt | head -1"], "-s")
    text = ran.after("shared object loaded\n")
    assert text.splitlines()[0] == 'invalid user virtual address: 0  type: "64-bit UVADDR"'
    assert 'No symbol "no_such_symbol" in current context.' in text or "gdb request failed" in text
    assert "hexadecimal: 2" in text
    assert "PID    PPID  CPU" in text
    assert "PID: 1 " in text
    assert ran.status == 0


def test_a_command_used_wrongly_or_unknown_is_an_exception_with_what_it_printed(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    script(
        crash,
        "wrong.py",
        "import crash\n"
        "for line in ('rd', 'sym', 'nosuch', 'sym ' + 1600 * ' ' + 'jiffies'):\n"
        "    try: crash.exec_crash_command(line)\n"
        "    except crash.error as error: print('error:', error, 'Usage:' in error.output)\n"
        "print(crash.exec_crash_command('dmesg').count('Linux version'))\n",
    )
    ran = crash(untouched, [f"extend {host}", "alias dmesg log", "py wrong.py"], "-s")
    assert ran.text.splitlines()[-5:] == [
        "error: rd: not used as it should be True",
        "error: sym: not used as it should be True",
        "error: command not found: nosuch False",
        "error: a command of 1611 bytes: crash takes 1499 at most False",
        "1",
    ]


def test_threads_are_kept_out_of_crash(crash: Crash, untouched: Dump, host: Path) -> None:
    script(
        crash,
        "threads.py",
        "import crash, threading\n"
        "said = set()\n"
        "def work():\n"
        "    for _ in range(300):\n"
        "        for call in (lambda: crash.exec_crash_command('sym init_task'),\n"
        "                     lambda: crash.readmem(crash.sym2addr('linux_banner'), 8)):\n"
        "            try: call()\n"
        "            except crash.error as error: said.add(str(error))\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for t in threads: t.start()\n"
        "for _ in range(300): assert 'init_task' in crash.exec_crash_command('sym init_task')\n"
        "for t in threads: t.join()\n"
        "print(said)\n",
    )
    ran = minimal(crash, untouched, host, "py threads.py", "eval 16")
    assert "{'crash can be asked by its own thread only, not by one that" in ran.text
    assert "hexadecimal: 10" in ran.text
    assert ran.status == 0


def test_a_command_may_unload_its_own_extension(crash: Crash, untouched: Dump, host: Path) -> None:
    script(
        crash,
        "selfun.py",
        "import gc\n"
        "from pykdump_ext.host import crash\n"
        "from pykdump_ext.host import command\n"
        "@command('selfunloadlongname', minimal=True)\n"
        "def run(words):\n"
        "    crash.exec_crash_command('extend -u selfun.py')\n"
        "    gc.collect()\n"
        "    junk = [bytes(32) for _ in range(10000)]\n"
        "    raise crash.error('after unload')\n",
    )
    ran = minimal(crash, untouched, host, "extend selfun.py", "selfunloadlongname", "eval 16")
    assert "selfunloadlongname: after unload\n" in ran.text
    assert "hexadecimal: 10" in ran.text


def test_an_extension_whose_start_failed_is_tried_again(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    script(
        crash,
        "later.py",
        "import os\n"
        "def loaded():\n"
        "    if not os.path.exists('now'): raise SystemExit('not yet')\n"
        "    print('now it is')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend later.py", "!touch now", "extend later.py", "extend later.py",
    )  # fmt: skip
    assert ran.after("crash_host.so: shared object loaded\n") == (
        "./later.py: loaded\nextend: not yet\nnow it is\n./later.py: already loaded\n"
    )


def test_what_cannot_be_written_is_told(crash: Crash, untouched: Dump, host: Path) -> None:
    script(crash, "hello.py", "print('\\ud800 lone')\nprint('hello')\n")
    ran = minimal(crash, untouched, host, "py hello.py > /dev/full", "py hello.py")
    assert re.search(r"py: OSError: \[Errno 28\] No space left on device", ran.text)
    assert ran.text.endswith("\\ud800 lone\nhello\n")


# --------------------------------------------------------------------------
# output


def test_output_goes_where_crashs_output_goes(crash: Crash, untouched: Dump, host: Path) -> None:
    (crash.folder / "commands").write_text("hello > file2\nhello | tr h H\n")
    script(
        crash,
        "hello.py",
        "import sys\n"
        "from pykdump_ext.host import crash\n"
        "from pykdump_ext.host import command\n"
        "@command('hello', minimal=True)\n"
        "def hello(words):\n"
        "    print('hello')\n"
        "    print(crash.exec_crash_command('eval 8').split()[1])\n"
        "    sys.stdout.write('end\\n')\n"
        "@command('many', minimal=True)\n"
        "def many(words):\n"
        "    for i in range(10**6): print('line', i)\n"
        "@command('nested', minimal=True)\n"
        "def nested(words): print(crash.exec_crash_command('hello').upper(), end='')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend hello.py", "hello > file", "hello >> file", "hello | tr a-z A-Z",
        "many | head -2", "nested", "< commands", "hello | cat | cat",
    )  # fmt: skip
    once = "hello\n8\nend\n"
    assert (crash.folder / "file").read_text() == once * 2
    assert (crash.folder / "file2").read_text() == once
    text = ran.after("hello.py: loaded\n")
    assert text == (
        once.upper() + "line 0\nline 1\n" + once.upper() + once.replace("h", "H") + once
    )


def test_errors_of_a_redirected_command_are_seen_on_the_terminal_too(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    script(crash, "errors.py", ERRORS)
    ran = minimal(crash, untouched, host, "extend errors.py", "adds > file", "adds 1 | cat")
    wanted = "adds: the following arguments are required: n (see 'help adds')\n"
    assert wanted in ran.text
    assert (crash.folder / "file").read_text() == wanted
    assert ran.text.endswith("2\n")


# --------------------------------------------------------------------------
# py


def test_py_runs_a_script_with_its_arguments(crash: Crash, untouched: Dump, host: Path) -> None:
    (crash.folder / "helper.py").write_text("GREETING = 'good day'\n")
    script(
        crash,
        "run.py",
        "import sys, helper, crash\n"
        "print(helper.GREETING, sys.argv, __name__)\n"
        "print(crash.readmem(crash.sym2addr('linux_banner'), 13), crash.readInt("
        "crash.sym2addr('linux_banner'), 4) == crash.mem2long(b'Linu'))\n"
        "print(crash.addr2sym(crash.sym2addr('linux_banner')),"
        " crash.addr2sym(crash.sym2addr('linux_banner') + 1),"
        " crash.addr2sym(crash.sym2addr('linux_banner') + 1, True),"
        " crash.symbol_exists('nosuch'), crash.sym2addr('nosuch'))\n"
        "print(crash.struct_size('task_struct') > 1000, crash.member_offset('list_head', 'prev'),"
        " crash.member_size('list_head', 'prev'), crash.struct_size('nosuch'))\n",
    )
    ran = minimal(crash, untouched, host, "py run.py one two")
    assert ran.after("loaded\n").splitlines() == [
        "good day ['run.py', 'one', 'two'] __main__",
        "b'Linux version' True",
        "linux_banner None ('linux_banner', 1) False 0",
        "True 8 8 -1",
    ]


def test_py_is_a_prompt_with_a_memory(terminal: Terminal) -> None:
    greeting = terminal.line("py", ">>> ")
    assert re.match(r"(Python 3\.\d+\.\d+\S* in crash)?", greeting.strip())
    assert terminal.line("1 + 1", ">>> ").strip() == "2"
    assert "ZeroDivisionError" in terminal.line("1 / 0", ">>> ")
    terminal.line("answer = 42", ">>> ")
    terminal.line("exit()")
    terminal.line("py", ">>> ")
    assert terminal.line("answer", ">>> ").strip() == "42"
    terminal.child.send("\x10\x10")  # Ctrl-P twice: two lines up in the prompt's own history
    terminal.child.expect_exact("answer")
    terminal.child.sendline("")
    terminal.until(">>> ")
    terminal.child.sendeof()
    terminal.until()
    terminal.child.send("\x10")  # crash's own history has no Python in it
    terminal.child.expect_exact("py")


# --------------------------------------------------------------------------
# Ctrl-C


def test_ctrl_c_in_python_is_a_keyboard_interrupt_and_a_prompt(
    crash: Crash, terminal: Terminal
) -> None:
    script(
        crash,
        "loop.py",
        "try:\n"
        "    print('looping')\n"
        "    while True: pass\n"
        "except KeyboardInterrupt:\n"
        "    print('was interrupted')\n"
        "    raise\n",
    )
    for _ in range(3):
        terminal.line("py loop.py", "looping\r\n")
        terminal.interrupt()
        assert "was interrupted" in terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_in_crashs_code_ends_the_command_as_crash_does(
    crash: Crash, terminal: Terminal
) -> None:
    script(
        crash,
        "search.py",
        "import crash\n"
        "print('searching')\n"
        "try:\n"
        "    while True: crash.exec_crash_command('rd -p 1000000 100000')\n"
        "except KeyboardInterrupt:\n"
        "    print('was interrupted')\n"
        "    raise\n",
    )
    for _ in range(3):
        terminal.line("py search.py", "searching\r\n")
        terminal.child.expect(pexpect.TIMEOUT, timeout=0.3)
        terminal.interrupt()
        assert "was interrupted" in terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_at_the_prompt_of_py_gives_a_new_line_of_it(terminal: Terminal) -> None:
    terminal.line("py", ">>> ")
    terminal.child.send("half a li")
    terminal.child.expect_exact("half a li")
    terminal.interrupt()
    assert "KeyboardInterrupt" in terminal.until(">>> ")
    assert terminal.line("1 + 1", ">>> ").strip() == "2"
    terminal.child.sendeof()
    terminal.until()


def test_ctrl_c_while_crash_itself_works_is_crashs_own(terminal: Terminal) -> None:
    terminal.line("py", ">>> ")
    terminal.child.sendeof()
    terminal.until()
    terminal.child.sendline("rd -p 1000000 10000000")
    terminal.child.expect_exact("1000100:")
    terminal.interrupt()
    terminal.until()
    assert "hexadecimal: 10" in terminal.line("eval 16")


def test_ctrl_c_waits_until_the_full_session_is_there(terminal: Terminal) -> None:
    terminal.line("extend p2mfix.py", "p2mfix.py: loaded")
    for _ in range(5):
        terminal.child.expect(pexpect.TIMEOUT, timeout=0.5)
        terminal.interrupt()
    terminal.until()
    terminal.line("p2m fix")  # where it was interrupted before that, it is tried again
    assert "sysrq_handle_crash" in terminal.line("bt")
    assert "hexadecimal: 10" in terminal.line("eval 16")


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
    script(crash, "where.py", "import sys, pykdump_ext\nprint(sys.prefix, pykdump_ext.__file__)\n")
    ran = minimal(crash, untouched, host, "py where.py")
    assert f"{BIN.parent} {host.parent.parent}/__init__.py\n" in ran.text


# --------------------------------------------------------------------------
# ~/.crashrc, and signals of a plain session


def test_a_session_that_loads_the_host_and_uses_no_python_is_as_before(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    plain = crash(untouched, ["ps", "rd 0", "bt"], "-s")
    loaded = crash(untouched, [f"extend {host}", "ps", "rd 0", "bt"], "-s")
    assert loaded.text == plain.text.replace(
        "      PID    PPID", f"{host}: shared object loaded\n      PID    PPID", 1
    )


def test_setup_adds_one_line_to_crashrc_and_takes_it_out_again(crash: Crash, host: Path) -> None:
    crashrc = crash.home / ".crashrc"
    crashrc.write_text("alias b bt\nset scroll off")
    crashrc.chmod(0o600)
    tool: list[str | Path] = [BIN / "pykdump-ext", "setup"]
    assert crash.run(tool).status == 0
    wanted = f"alias b bt\nset scroll off\nextend {host}\n"
    assert crashrc.read_text() == wanted
    assert "has the line already" in crash.run(tool).text
    assert crashrc.read_text() == wanted
    assert crashrc.stat().st_mode & 0o777 == 0o600
    crashrc.write_text(wanted.replace(str(host), "/old/place/crash_host.so"))
    assert crash.run(tool).status == 0
    assert crashrc.read_text() == wanted
    assert crash.run([*tool, "--remove"]).status == 0
    assert crashrc.read_text() == "alias b bt\nset scroll off\n"
    assert crash.run([*tool, "--remove"]).status == 0


def test_doctor_says_that_all_is_well(crash: Crash, host: Path) -> None:
    crash.run([BIN / "pykdump-ext", "setup"])
    ran = crash.run([BIN / "pykdump-ext", "doctor"])
    assert ran.status == 0, ran.text
    assert "BAD" not in ran.text
    assert ran.text.endswith("all is well\n")
    assert re.search(r"^ok +host +built for crash \S+ and Python 3\.\d+$", ran.text, re.MULTILINE)


def test_doctor_says_what_would_fail(crash: Crash, tmp_path: Path) -> None:
    ran = crash.run([BIN / "pykdump-ext", "doctor"], CRASH="nosuchcrash", CRASH_INCLUDE="/nosuch")
    assert ran.status == 1
    assert "BAD  crash        not installed: install the package crash\n" in ran.text
    assert re.search(r"^BAD +defs\.h", ran.text, re.MULTILINE)
    assert re.search(r"^BAD +host +built for crash .*: build it again", ran.text, re.MULTILINE)


def test_sigint_is_left_to_crash_by_p2mfix(crash: Crash, truncated: Dump) -> None:
    (crash.home / ".crashrc").write_text("set scroll off\nset emacs\n")
    opened = Terminal(
        crash, [str(BIN / "p2mfix"), str(truncated.vmlinux), str(truncated.vmcore), "-s"]
    )
    opened.until()
    opened.child.sendline("rd -p 1000000 10000000")
    opened.child.expect_exact("1000100:")
    os.kill(opened.child.pid, signal.SIGINT)
    opened.until()
    assert "hexadecimal: 10" in opened.line("eval 16")
    opened.child.sendline("quit")
    opened.child.expect(pexpect.EOF)
    opened.child.close()
    assert opened.child.exitstatus == 0
