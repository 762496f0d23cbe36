# SPDX-License-Identifier: GPL-3.0-or-later
"""crash on a running dom0: the lab's machine, with crash and this package on its disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from .cache import say
from .dump import MODULES, Source, archive, put_modules
from .packages import HOST

DISK_MODULES = ("crc16", "crc32c_generic", "mbcache", "jbd2", "ext4")
XEN_OPTIONS = "console=com1 com1=115200,8n1 dom0_mem=1500M,max:1500M dom0_max_vcpus=2"
LINUX_OPTIONS = "console=hvc0 nokaslr"
MACHINE_OPTIONS = (
    "-machine", "pc", "-m", "2048M", "-smp", "2",
    "-accel", "tcg,thread=multi", "-cpu", "qemu64",
)  # fmt: skip
SECONDS = 900


def _libraries(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def _disk(source: Source, folder: Path, script: str) -> Path:
    """Make a disk with crash, Python, this package and the kernel's symbols; return its path."""
    tree = folder / "tree"

    def put(path: Path) -> None:
        target = tree / path.relative_to("/")
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "test", "config-*")
            shutil.copytree(path, target, ignore=ignored)
        else:
            shutil.copy(path, target)

    for name in ("proc", "sys", "dev", "tmp", "bin", "usr/bin"):
        (tree / name).mkdir(parents=True)
    busybox = HOST.file("busybox-static", "bin/busybox")
    shutil.copy(busybox, tree / "bin/busybox")
    shown = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    for name in shown.split():
        for link in (tree / "bin" / name, tree / "usr/bin" / name):
            if not link.exists():
                link.symlink_to("/bin/busybox")
    packages = Path(sysconfig.get_path("platlib"))
    crash = Path(shutil.which("crash") or "/usr/bin/crash")
    python = Path(sys.base_exec_prefix) / "bin/python3"
    parts = [crash, python, Path(sysconfig.get_path("stdlib")), Path(sys.prefix, "pyvenv.cfg")]
    parts += [Path(sys.prefix, "bin/python3"), Path(sys.prefix, "bin/pykdump-ext")]
    for name in ("pykdump_ext", "cffi", "elftools", "pycparser"):
        parts.append(packages / name)
    parts += packages.glob("_cffi_backend*")
    parts += packages.glob("cffi.libs")
    for part in parts:
        put(part)
    objects = (*packages.glob("_cffi_backend*"), *packages.glob("pykdump_ext/host/*.so"))
    modules = Path(sysconfig.get_path("stdlib")).glob("lib-dynload/*.so")
    for binary in (crash, python, *objects, *modules):
        for library in _libraries(binary):
            put(library)
    # crash looks for the banner in the strings of the namelist, which takes the emulator minutes
    strings = tree / "usr/bin/strings"
    strings.unlink()
    strings.write_text("#!/bin/sh\ncat /proc/version\n")
    strings.chmod(0o755)
    shutil.copy(source.vmlinux(), tree / "vmlinux")
    (tree / "run-live").write_text(script)
    disk = folder / "disk"
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", tree, disk, "1200M"], check=True)
    shutil.rmtree(tree)
    return disk


def _initramfs(source: Source, folder: Path) -> Path:
    tree = folder / "initramfs"
    for name in ("bin", "sbin", "modules", "proc", "sys", "dev", "disk"):
        (tree / name).mkdir(parents=True)
    shutil.copy(HOST.file("busybox-static", "bin/busybox"), tree / "bin/busybox")
    shutil.copy(Path(__file__).with_name("init-live"), tree / "init")
    (tree / "init").chmod(0o755)
    put_modules(source, (*MODULES, *DISK_MODULES), tree)
    target = folder / "initrd"
    archive(tree, target)
    return target


def run_live(source: Source, folder: Path, script: str) -> str:
    """Run a shell script in a running dom0, where ``/vmlinux`` is; return what it printed."""
    xen = folder / "xen"
    xen.write_bytes(source.xen())
    initrd = _initramfs(source, folder)
    disk = _disk(source, folder, script)
    console = folder / "console.log"

    def escaped(text: object) -> str:
        return str(text).replace(",", ",,")

    command = [
        "qemu-system-x86_64", *MACHINE_OPTIONS, "-nic", "none", "-no-reboot",
        "-display", "none", "-serial", f"file:{console}",
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
        "-kernel", str(xen), "-append", XEN_OPTIONS,
        "-initrd", f"{escaped(source.vmlinuz())} {escaped(LINUX_OPTIONS)},{escaped(initrd)}",
    ]  # fmt: skip
    say("booting Xen and dom0 in the emulator, and crash in it")
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=SECONDS)
    printed = re.sub(r"\r+\n", "\n", console.read_bytes().decode(errors="replace"))
    return printed.partition("lab: begin\n")[2].partition("lab: end")[0]
