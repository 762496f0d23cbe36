# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kdump of a Xen host whose PV dom0 crashed, in about a minute.

Xen and Linux of the distribution run in an emulator without KVM.  The memory
of the machine is laid out so that part of dom0's own memory is remapped above
``xen_start_info->nr_pages``, as ``dom0_mem=`` does it on large hosts.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .cache import product, say
from .emulator import BOOT_SECONDS, Typed, run
from .packages import HOST, Archive, Missing

MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
    "virtio_pci", "virtio_blk", "xen-privcmd", "xenfs",
)  # fmt: skip
XEN_OPTIONS = (
    "console=com1 com1=115200,8n1 dom0_mem=700M,max:700M crashkernel=192M"
    " sync_console dom0_max_vcpus=4 loglvl=warning guest_loglvl=none/warning"
)
LINUX_OPTIONS = "console=hvc0 earlyprintk=xen nokaslr"
MACHINE_OPTIONS = (
    "-machine", "pc,max-ram-below-4g=600M", "-m", "1536M", "-smp", "4",
    "-accel", "tcg,thread=multi", "-cpu", "qemu64",
)  # fmt: skip
SPARSE = "discard=unmap,detect-zeroes=unmap"  # zeros that are written stay holes of the file
INIT = Path(__file__).with_name("init")
CRASHES = "echo c >/proc/sysrq-trigger"  # how INIT ends
BOOTS = 3


@dataclass(frozen=True)
class Dump:
    """A dump and the kernel it is of; both are files of the cache."""

    vmlinux: Path
    vmcore: Path


@dataclass(frozen=True)
class Machine:
    """The emulated machine, and what its Xen and its Linux are told.

    Without options for Xen there is none: Linux boots by itself.  ``disk``: bytes that the
    dump may have.
    """

    hardware: tuple[str, ...] = MACHINE_OPTIONS
    xen: str | None = XEN_OPTIONS
    linux: str = LINUX_OPTIONS
    disk: int = 2 << 30

    def boots(self, source: Source, initrd: Path, folder: Path) -> list[str]:
        """Return the emulator's options for what it boots; Xen is put into ``folder``."""
        if self.xen is None:
            files = ["-kernel", str(source.vmlinuz()), "-initrd", str(initrd)]
            return [*files, "-append", self.linux]

        def escaped(text: object) -> str:  # a comma separates modules, two are one
            return str(text).replace(",", ",,")

        xen_image = folder / "xen"
        xen_image.write_bytes(source.xen())
        modules = f"{escaped(source.vmlinuz())} {escaped(self.linux)},{escaped(initrd)}"
        return ["-kernel", str(xen_image), "-append", self.xen, "-initrd", modules]


@dataclass(frozen=True)
class Source:
    """What a dump is made of: the kernel of a release and the Xen of a release.

    By default both are those of this machine's own release.
    """

    kernels: Archive = HOST
    xens: Archive = HOST

    def release(self) -> str:
        """Return the kernel's release, such as ``6.1.0-56-amd64``.

        :raises Missing: the archive has no such kernel.
        """
        image = self.kernels.dependency("linux-image-amd64", r"linux-image-\d[\w.+-]+")
        return image.removeprefix("linux-image-")

    def files(self) -> list[Path]:
        """Return the folders with the kernel and its modules: one package, or two from 7.x on."""
        image = f"linux-image-{self.release()}"
        try:
            parts = [
                self.kernels.dependency(image, rf"linux-{part}-\d[\w.+-]+")
                for part in ("binary", "modules")
            ]
        except Missing:
            parts = [image]
        return [self.kernels.unpacked(part) for part in parts]

    def hypervisor(self) -> str:
        """Return the package of the Xen that boots, such as ``xen-hypervisor-4.17-amd64``.

        :raises Missing: the archive has no Xen.
        """
        return self.xens.dependency("xen-system-amd64", r"xen-hypervisor-\d[\d.]*-amd64")

    def xen(self) -> bytes:
        """Return the Xen that boots."""
        packed = min((self.xens.unpacked(self.hypervisor()) / "boot").glob("xen-*.gz"))
        return gzip.decompress(packed.read_bytes())

    def vmlinuz(self) -> Path:
        """Return the path of the kernel that boots."""
        return next(
            found
            for folder in self.files()
            for found in folder.glob("**/vmlinuz*")
            if not found.is_dir()
        )

    def module(self, name: str) -> bytes | None:
        """Return the module of that name, unpacked, or None where the kernel has none."""
        pattern = re.sub("[-_]", "[-_]", name)
        for folder in self.files():
            for found in folder.glob(f"**/{pattern}.ko*"):
                content = found.read_bytes()
                return lzma.decompress(content) if found.suffix == ".xz" else content
        return None

    def vmlinux(self) -> Path:
        """Return the path of the kernel's ``vmlinux`` with debugging information."""
        package = f"linux-image-{self.release()}-dbg"
        folder = self.kernels.unpacked(package, "usr/lib/debug/*vmlinux*")  # a link from 7.x on
        return folder / f"usr/lib/debug/boot/vmlinux-{self.release()}"


def _initramfs(source: Source, folder: Path) -> Path:
    """Build the initramfs of dom0 and of its crash kernel; return its path."""
    tree = folder / "tree"
    for name in ("bin", "sbin", "lib", "lib64", "modules", "proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(HOST.file("busybox-static", "bin/busybox"), tree / "bin/busybox")
    shutil.copy(INIT, tree / "init")
    (tree / "init").chmod(0o755)

    put_modules(source, MODULES, tree)

    outer = folder / "initrd"
    archive(tree, outer)  # the crash kernel's: the same without kexec in it
    shutil.move(outer, tree / "initrd")
    shutil.copy(source.vmlinuz(), tree / "vmlinuz")
    kexec = HOST.file("kexec-tools", "sbin/kexec")
    shutil.copy(kexec, tree / "sbin/kexec")
    for library in libraries_of(kexec, libraries_of_xen(HOST)):
        shutil.copy(library, tree / "lib" / library.name)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", tree / "lib64/ld-linux-x86-64.so.2")
    archive(tree, outer)
    shutil.rmtree(tree)
    return outer


def put_modules(source: Source, names: Iterable[str], tree: Path) -> None:
    """Put modules of the kernel into ``tree``, and ``modules/order``, which the init reads."""
    order = []
    for name in names:
        content = source.module(name)
        if content is None:
            say(f"kernel {source.release()} has no module {name} (built in, or by another name)")
            continue
        (tree / "modules" / f"{name}.ko").write_bytes(content)
        order.append(f"{name}.ko")
    (tree / "modules/order").write_text("\n".join(order) + "\n")


def archive(tree: Path, target: Path) -> None:
    """Write the files below ``tree`` as an initramfs."""
    names = "\n".join(sorted(str(p.relative_to(tree)) for p in tree.rglob("*")))
    made = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
        cwd=tree, input=names.encode(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    target.write_bytes(gzip.compress(made.stdout, compresslevel=1))


def initramfs_that_starts(lines: str, tree: Path, folder: Path, crashes: str = CRASHES) -> bytes:
    """Return an initramfs of the files in ``tree``, with an init that runs ``lines`` in dom0.

    :param crashes: how dom0 dies once its crash kernel is loaded.
    """
    init = INIT.read_text()
    assert "\nkexec -p" in init and CRASHES in init
    init = init.replace("\nkexec -p", f"\n{lines}kexec -p").replace(CRASHES, crashes)
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    archive(tree, folder / "more")
    shutil.rmtree(tree)
    files = (folder / "more").read_bytes()
    (folder / "more").unlink()
    return files


def folders_of_libraries(archive: Archive, package: str) -> set[Path]:
    """Return the folders with the libraries that the package needs, itself included."""
    return {
        file.parent
        for needed in archive.libraries(package)
        for file in archive.unpacked(needed).glob("**/*.so*")
    }


def libraries_of_xen(xens: Archive) -> set[Path]:
    """Return the folders with the libraries of that Xen, and with those that they need."""
    return folders_of_libraries(xens, xens.dependency("libxen-dev", r"libxenmisc[\d.]+"))


def libraries_of(program: Path, folders: set[Path]) -> list[Path]:
    """Return every shared library that ``program`` needs: those in ``folders``, all others as
    they are installed."""
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    listed = subprocess.run(
        ["ldd", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    if "not found" in listed:
        raise RuntimeError(f"{program.name} of the archive lacks libraries:\n{listed}")
    return [Path(p) for p in re.findall(r"=> (/\S+)", listed)]


def crash_machine(
    source: Source,
    folder: Path,
    more: bytes = b"",
    machine: Machine | None = None,
    typed: Typed | None = None,
) -> None:
    """Boot Xen and Linux, or Linux alone, in the emulator, let it crash, keep its vmcore.

    :param more: an initramfs whose files the first kernel has as well, or instead.
    :param typed: keys for the console, if the machine does not crash by itself.
    """
    machine = machine or Machine()
    initrd = _initramfs(source, folder)
    with initrd.open("ab") as file:
        file.write(more)
    disk = folder / "vmcore"
    with disk.open("wb") as file:
        file.truncate(machine.disk)
    console = folder / "console.log"
    command = [
        "qemu-system-x86_64", *machine.hardware, "-nic", "none", "-no-reboot",
        "-display", "none",
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe,{SPARSE}",
        *machine.boots(source, initrd, folder),
    ]  # fmt: skip
    for attempt in range(1, BOOTS + 1):
        what = "Linux" if machine.xen is None else "Xen and dom0"
        say(f"booting {what} in the emulator, about a minute")
        try:
            run(command, console, typed)
        except subprocess.TimeoutExpired:
            say(f"the machine did not stop within {BOOT_SECONDS} s")
        printed = console.read_text(errors="replace")
        saved = re.search(r"lab: vmcore saved, (\d+) bytes", printed)
        if saved:
            break
        # Kernels patch their own text while other cpus run it; the emulator's threads can
        # trip over that. In one thread they cannot, and it takes twice as long.
        say(f"the machine made no dump (attempt {attempt} of {BOOTS})")
        command = [word.replace("thread=multi", "thread=single") for word in command]
    else:
        raise RuntimeError(f"the machine made no dump; its console ended:\n{printed[-3000:]}")
    os.truncate(disk, int(saved[1]))
    initrd.unlink()
    (folder / "xen").unlink(missing_ok=True)


def made_from(source: Source) -> tuple[object, ...]:
    """Return what a dump of this source depends on."""
    release = source.release()
    return (
        2, source.kernels.version(f"linux-image-{release}"),
        source.xens.version(source.hypervisor()),
        HOST.version("kexec-tools"), HOST.version("busybox-static"),
        MODULES, XEN_OPTIONS, LINUX_OPTIONS, MACHINE_OPTIONS, INIT.read_text(),
    )  # fmt: skip


def dom0_dump(source: Source) -> Dump:
    """Return a real dump of a crashed PV dom0, untouched, and its kernel.

    :raises Missing: the archive lacks what it is made of.
    """
    symbols = source.vmlinux()
    folder = product(
        f"dump-{source.release()}", made_from(source), lambda folder: crash_machine(source, folder)
    )
    return Dump(symbols, folder / "vmcore")


def tools() -> list[str]:
    """Return the commands the lab uses that are not on this machine."""
    wanted = ("qemu-system-x86_64", "cpio", "dpkg-deb", "apt-get", "tar", "ldd")
    return [name for name in wanted if not shutil.which(name)]
