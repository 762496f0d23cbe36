# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the shared objects: crash_host.so and stub.so for crash, p2m_preload.so for ``p2mfix``.

pyproject.toml describes the rest of the package.  Where the machine lacks what the build needs,
the build ends with one sentence that says what to install.  With ``PYKDUMP_EXT_NO_HOST=1`` in the
environment nothing is built: the package is Python alone then, for machines without crash.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

try:
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
except ImportError:
    raise SystemExit(
        "pykdump_ext: setuptools is missing: install python3-setuptools"
        " or run pip install setuptools"
    ) from None

HERE = Path(__file__).parent.resolve()
HOST = Path("pykdump_ext/host")
LAUNCH = Path("pykdump_ext/launch")
C_FILES = (
    "guard", "signals", "calls", "ask", "tables", "run", "commands", "p2m", "pages", "m2p", "walks",
    "tasks", "modules", "rcfiles", "session", "leave", "command_tables", "children",
    "background",
)  # fmt: skip
CRASH_HOST = [f"{HOST}/{name}.c" for name in C_FILES]
PRELOAD = [f"{LAUNCH}/preload.c"]
STUB = [f"{LAUNCH}/stub.c"]
HEADERS = [str(path) for folder in (HOST, LAUNCH) for path in folder.glob("*.h")]
DEPENDS = [*HEADERS, f"{HOST}/python.c", f"{HOST}/build_host.py"]
# -Wno-address: crash's defs.h is older than that warning.  -fvisibility=hidden: otherwise crash's
# functions would replace ours of the same name.
FLAGS = ["-Wall", "-Wno-address", "-fno-strict-aliasing", "-fvisibility=hidden"]
NO_HOST = os.environ.get("PYKDUMP_EXT_NO_HOST", "0") not in ("", "0")


def missing(what: str, debian: str, red_hat: str) -> NoReturn:
    """End the build with a sentence on what is missing, and the packages to install."""
    raise SystemExit(
        f"pykdump_ext: {what} is missing: install {debian} (Debian, Ubuntu)"
        f" or {red_hat} (Oracle Linux, Fedora)"
    )


def check_folder() -> None:
    """End the build where crash cannot load what is installed: a path with a blank."""
    if any(letter.isspace() for letter in sys.prefix):
        raise SystemExit(
            f"pykdump_ext: crash cannot load a file from {sys.prefix!r}, because of the blank in"
            " this path: make the venv in another folder"
        )


def crash_version() -> str:
    """Return the version of the installed crash, such as ``8.0.2``; end the build without one."""
    crash = os.environ.get("CRASH", "crash")
    if not shutil.which(crash):
        missing("crash", "crash", "crash")
    shown = subprocess.run([crash, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"^crash (\S+)$", shown, re.MULTILINE)
    if not found:
        raise SystemExit(
            f"pykdump_ext: {crash} --version prints no version: set CRASH to the path of crash"
        )
    return found[1]


def crash_headers() -> Path:
    """Return the folder of crash's ``defs.h``; end the build where there is none."""
    chosen = os.environ.get("CRASH_INCLUDE", "/usr/include/crash")
    if not (Path(chosen) / "defs.h").is_file():
        missing(f"crash's header {chosen}/defs.h", "crash", "crash-devel")
    if not any((Path(folder) / "zlib.h").is_file() for folder in ("/usr/include", chosen)):
        missing("zlib.h, which crash's header includes,", "zlib1g-dev", "zlib-devel")
    return Path(chosen)


def python_library() -> tuple[str, str]:
    """Return the folder and the name of this Python's libpython; end the build without one."""
    folder = sysconfig.get_config_var("LIBDIR")
    shared = sysconfig.get_config_var("INSTSONAME") or ""
    name = f"python{sysconfig.get_config_var('LDVERSION')}"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED") or ".so" not in shared:
        missing(
            f"a shared libpython for {sys.executable}",
            "libpython3-dev and use /usr/bin/python3",
            "python3-devel and use /usr/bin/python3",
        )
    folders = [folder, sysconfig.get_config_var("LIBPL") or folder]
    folders.append(str(Path(folder) / (sysconfig.get_config_var("MULTIARCH") or "")))
    if not any((Path(f) / f"lib{name}.so").exists() for f in folders):
        missing(f"lib{name}.so", "libpython3-dev", "python3-devel")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing("Python.h", "python3-dev", "python3-devel")
    return folder, name


def clone() -> str:
    """Return the folder of the sources, or nothing where pip has unpacked them for this build."""
    return "" if any(part.startswith("pip-") for part in HERE.parts) else str(HERE)


def pip_install() -> str:
    """Return the command that a user builds the package again with."""
    words = [f"{sys.prefix}/bin/pip", "install", "--force-reinstall", clone() or "."]
    return shlex.join(words) + ("" if clone() else " in a clone of pykdump_ext")


def c_string(text: str) -> str:
    """Return a text as a literal in C."""
    return '"' + re.sub(r'(["\\\\])', r"\\\1", text) + '"'


class BuildHost(build_ext):  # type: ignore[misc]
    """The build of the shared objects; cffi generates a part of ``crash_host.so``."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the path of a shared object, without Python's tag: crash loads the file."""
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link a shared object; end the build where something for it is missing."""
        if not shutil.which(os.environ.get("CC", "cc")):
            missing("a C compiler", "gcc and libc6-dev", "gcc")
        if ext.name.endswith("crash_host"):
            self.prepare(ext)
        super().build_extension(ext)

    def prepare(self, ext: Extension) -> None:
        """Generate cffi's part of ``crash_host.so``, and set its sources, macros and libraries."""
        check_folder()
        headers = crash_headers()
        version = crash_version()
        folder, name = python_library()
        try:
            ffi = runpy.run_path(str(HERE / HOST / "build_host.py"))["builder"]()
        except ImportError:
            missing("cffi", "python3-cffi", "python3-cffi")
        generated = Path(self.build_temp) / "crash_host.c"
        generated.parent.mkdir(parents=True, exist_ok=True)
        ffi.emit_c_code(str(generated))
        ext.sources = [str(generated), *CRASH_HOST]
        ext.include_dirs.append(str(headers))
        ext.define_macros = [("X86_64", None), ("CRASH_VERSION", f'"{version}"')]
        ext.define_macros.append(("PYTHON_EXECUTABLE", f'"{sys.executable}"'))
        ext.define_macros.append(("BUILT_FROM", c_string(clone())))
        ext.define_macros.append(("PIP_INSTALL", c_string(pip_install())))
        defs = (headers / "defs.h").read_text(errors="replace")
        if "error_path" in defs:
            ext.define_macros.append(("HAVE_ERROR_PATH", None))
        if re.search(r"\bint pid_numbers;", defs):
            ext.define_macros.append(("HAVE_PID_NUMBERS_LENGTH", None))
        ext.libraries.append(name)
        ext.library_dirs = [folder]
        if folder not in ("/usr/lib", "/usr/lib64") and not folder.startswith("/usr/lib/"):
            ext.runtime_library_dirs = [folder]
        ext.extra_compile_args = FLAGS


def extension(name: str, sources: list[str]) -> Extension:
    """Return a shared object to build, with the settings that all have in common."""
    folders = [str(HOST), str(LAUNCH)]
    return Extension(name, sources, include_dirs=folders, depends=DEPENDS, libraries=["dl"])


setup(
    ext_modules=[]
    if NO_HOST
    else [
        extension("pykdump_ext.host.crash_host", CRASH_HOST),
        extension("pykdump_ext.launch.p2m_preload", PRELOAD),
        extension("pykdump_ext.launch.stub", STUB),
    ],
    cmdclass={"build_ext": BuildHost},
)
