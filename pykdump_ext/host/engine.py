"""What runs when crash first calls into Python: the meeting point of the two.

Imported by the embedding library itself (``embedding_init_code``), once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import TracebackType
from typing import Any

from crash_host import ffi, lib

from ..errors import P2mError
from . import crash

sys.modules["crash"] = crash


class CrashOutput(io.TextIOBase):
    """A text file that prints where crash prints at this moment; nothing is kept back."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def write(self, text: str) -> int:
        """Print ``text``; raises as :func:`crash.write` does."""
        crash.write(text)
        return len(text)

    def writable(self) -> bool:
        """True: one can print to it."""
        return True


sys.stdout = sys.stderr = CrashOutput()
sys.argv = [""]
signal.signal(signal.SIGINT, signal.default_int_handler)
lib.host_keep_sigint()


def debugging() -> bool:
    """True when the user wants tracebacks: ``P2MFIX_DEBUG=1``."""
    return os.environ.get("P2MFIX_DEBUG", "") not in ("", "0")


def _one_line(error: BaseException) -> str:
    """Return what to tell the user of an exception."""
    text = " ".join(str(error).split("\n")).strip()
    if isinstance(error, (P2mError, crash.error)):
        return text or type(error).__name__
    where = ""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    if isinstance(error, SyntaxError):
        text, where = str(error.msg), f" ({error.filename}, line {error.lineno})"
    elif frame:
        where = f" ({frame.tb_frame.f_code.co_filename}, line {frame.tb_lineno})"
    return f"{type(error).__name__}: {text}{where}".replace(": (", " (")


def run(name: str, words: list[str]) -> None:
    """Run the command ``name``, ours or an extension's."""
    from . import console, extensions  # noqa: PLC0415  (they need this module to be there)

    if name == "extend":
        extensions.extend(words)
    elif name == "py":
        console.py(words)
    else:
        found = extensions.find_command(name)
        if found is None:
            raise crash.error("this command is no longer loaded")
        found.run(words)


@ffi.def_extern(error=lib.HOST_ERROR)  # type: ignore[untyped-decorator]
def python_command(name: Any, argc: int, argv: Any) -> int:
    """Run a command for crash; no exception passes, crash shows what it was.

    A reader that has gone (``p2m status | head -1``) is no error.
    """
    try:
        words = [
            ffi.string(argv[i]).decode("utf-8", "surrogateescape")
            for i in range(1, argc)
            if argv[i] != ffi.NULL
        ]
        run(ffi.string(name).decode(), words)
    except KeyboardInterrupt:
        return int(lib.HOST_INTERRUPTED)
    except crash.ReaderGone:
        return int(lib.HOST_OK)
    except SystemExit as stop:
        if not stop.code:
            return int(lib.HOST_OK)
        text = f"exit status {stop.code}" if isinstance(stop.code, int) else str(stop.code)
        lib.host_set_message(text.encode())
        return int(lib.HOST_ERROR)
    except BaseException as error:
        try:
            if debugging():
                traceback.print_exc()
            lib.host_set_message(_one_line(error).encode("utf-8", "replace"))
        except KeyboardInterrupt:
            return int(lib.HOST_INTERRUPTED)
        return int(lib.HOST_ERROR)
    return int(lib.HOST_OK)
