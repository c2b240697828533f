"""One virtual machine: QEMU as a child, its port as a stream of messages, deadlines on everything.

Emulated, not accelerated: it works where there is no /dev/kvm, and the same everywhere. The disks are never written to
(`snapshot=on` keeps changes in a file that is already unlinked), so ending QEMU is all that there is to clean up.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vm.cells import HIERARCHIES
from vm.debian import Kernel
from vm.store import STORE, BenchError

__all__ = ["Machine", "MachineLost"]

MEMORY_MIB = 2048
PROCESSORS = 2
# On a host that is busy with other things; idle, it is 13 s.
BOOT_LIMIT_S = 600
# What costs time under emulation and changes nothing that is tested: waiting for entropy; zeroing memory twice; audits
# of system calls, which journald would turn on; a line in the journal for each unit.
CHEAPER = "random.trust_cpu=on init_on_alloc=0 audit=0 systemd.log_level=warning"
# Without erms: with it kernel and libc clear and copy memory by `rep stosb` and `rep movsb`, emulated byte by byte.
# Do not take svm out of it: TCG then runs user space wrongly.
MODEL = "max,-erms"
# Their self-tests cost seconds under emulation.
UNWANTED = "aesni_intel,ghash_clmulni_intel,crct10dif_pclmul,crc32_pclmul,sha512_ssse3,kvm_intel,kvm_amd"


class MachineLost(BenchError):
    """The guest ended, hung or never came up; the message ends with its console's last lines."""


class Machine:
    """A booted guest. Use as a context manager: on leaving it, QEMU is gone.

    ``number`` tells it from others of its kind that run at the same time.
    """

    def __init__(self, hierarchy: str, kernel: Kernel, root: Path, payload: Path, number: int = 0) -> None:
        self.hierarchy = hierarchy
        self.kernel = kernel
        self.disks = {"root": root, "modules": kernel.modules, "payload": payload}
        self.console = STORE / "consoles" / f"{hierarchy}-{kernel.release}-{number}.log"
        self.hello: dict[str, Any] = {}
        self.boot_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def processor_s(self) -> float:
        """Seconds of processor time that QEMU has taken until now: what counts on a host that is busy."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _command(self, port: str) -> list[str]:
        append = (
            f"console=ttyS0 panic=-1 quiet swapaccount=1 {CHEAPER} {HIERARCHIES[self.hierarchy]} systemd.show_status=0 "
        )
        append += f"modprobe.blacklist={UNWANTED}"
        model = MODEL
        if self.kernel.release.startswith("6.12"):
            # TCG's cmpxchg16b makes it double-fault in early boot.
            model += ",-cx16"
        command = ["nice", "-n", "10", "setpriv", "--pdeathsig=KILL", "qemu-system-x86_64"]
        command += ["-accel", os.environ.get("CORRAL_VM_ACCEL", "tcg,thread=multi"), "-M", "q35", "-cpu", model]
        command += [
            "-smp",
            str(PROCESSORS),
            "-m",
            str(MEMORY_MIB),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]
        command += ["-no-reboot", "-kernel", str(self.kernel.image), "-initrd", str(self.kernel.initramfs)]
        command += ["-append", append, "-serial", f"file:{self.console}", "-device", "virtio-rng-pci"]
        for serial, path in self.disks.items():
            command += ["-drive", f"if=none,id={serial},file={path},format=raw,snapshot=on,cache=unsafe"]
            command += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        command += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=port,path={port}"]
        return [*command, "-device", "virtserialport,chardev=port,name=corral.bench"]

    def _boot(self) -> None:
        self.console.parent.mkdir(parents=True, exist_ok=True)
        self.console.unlink(missing_ok=True)
        start = time.monotonic()
        # In /tmp: a socket's path is limited to 107 bytes.
        folder = tempfile.mkdtemp(prefix="corral-vm-")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as server:
                server.bind(f"{folder}/port")
                server.listen(1)
                server.settimeout(30)
                self._process = subprocess.Popen(
                    self._command(f"{folder}/port"),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "TMPDIR": str(STORE)},
                )
                self._connection = self._accept(server)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.hello = self._next_message(start + BOOT_LIMIT_S)
        self.boot_s = time.monotonic() - start

    def _accept(self, server: socket.socket) -> socket.socket:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            raise MachineLost(self._with_console("start qemu: it did not connect to its port")) from None
        return connection

    def run_job(self, job: dict[str, Any], limit_s: float, silence_s: float) -> Iterator[dict[str, Any]]:
        """Send a job and yield what comes, up to and including ``done``.

        Raises:
            MachineLost: the guest ended, was silent for ``silence_s``, or took longer than ``limit_s``.
        """
        assert self._connection is not None
        self._connection.sendall(json.dumps(job).encode() + b"\n")
        end = time.monotonic() + limit_s
        while True:
            message = self._next_message(min(end, time.monotonic() + silence_s))
            yield message
            if message.get("event") == "done":
                return

    def _next_message(self, deadline: float) -> dict[str, Any]:
        assert self._connection is not None
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                with contextlib.suppress(json.JSONDecodeError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        return message
                continue
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self._connection], [], [], remaining)[0]:
                raise MachineLost(self._with_console("wait for the guest: nothing within its time"))
            data = self._connection.recv(1 << 16)
            if not data:
                # The port closes a moment before the process ends.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert self._process is not None
                    self._process.wait(timeout=5)
                raise MachineLost(self._with_console("read from the guest: it ended"))
            self._buffer += data

    def _with_console(self, text: str) -> str:
        parts = [text]
        if self._process is not None and self._process.poll() is not None and self._process.stderr is not None:
            parts.append(self._process.stderr.read().decode(errors="replace").strip())
        parts.append(f"--- the console's last lines ({self.console}) ---")
        return "\n".join([*filter(None, parts), self.console_tail()])

    def console_tail(self, lines: int = 60) -> str:
        """The end of what the guest wrote to its console."""
        with contextlib.suppress(OSError):
            text = self.console.read_bytes()[-20000:].decode(errors="replace")
            return "\n".join(line.rstrip() for line in text.splitlines()[-lines:])
        return ""

    def end(self) -> None:
        """Kill QEMU, from any thread: whoever reads from the guest learns that it ended."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End QEMU by its pid, wait for it, close the port. May be called twice."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
