"""Inside the guest: take jobs from the bench outside, run pytest for each, send back what happened.

Started by corral-bench.service as root, with nothing but the standard library. The port to the outside carries one JSON
object a line. We say ``hello``; each line from outside is a job; everything that the pytest plugin (reporter.py) writes
into a FIFO goes out as it is; after each job come its files, then ``done``.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PORT_NAME = "corral.bench"
MOUNT = Path("/opt/corral")
TREE = Path("/srv/corral")
RESULTS = Path("/run/corral-bench")
TESTER = "tester"
PLUGINS = ("-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin", "-p", "reporter")
# The launcher of planners that are measured: all imports from files, in the same order of folders.
COVERED_LAUNCHER = """#!/usr/bin/python3
import atexit
import sys

sys.path[:0] = ["{mount}/prefix/lib/python3.11/site-packages", "{mount}/python"]
import coverage

measured = coverage.Coverage(data_file="{data}", data_suffix=True, config_file="{tree}/pyproject.toml")
atexit.register(measured.save)
measured.start()
from corral._boot import main

main(sys.argv[1:])
"""
# Loaded here, because what needs them must not find them missing: on a real host they are loaded or load themselves.
MODULES = "fuse tun overlay loop veth dummy bfq br_netfilter nf_tables ip_tables configfs".split()


def open_port() -> int:
    """Wait for the port, and open it."""
    subprocess.run(["modprobe", "-q", "virtio_console"], check=False)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for name in Path("/sys/class/virtio-ports").glob("vport*/name"):
            device = Path("/dev", name.parent.name)
            if name.read_text().strip() == PORT_NAME and device.exists():
                return os.open(device, os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.1)
    sys.exit("corral-bench: no port to the outside")


def send_bytes(port: int, data: bytes) -> None:
    """Write all of it: the port takes what the host reads."""
    view = memoryview(data)
    while view:
        view = view[os.write(port, view) :]


def send(port: int, **message: Any) -> None:
    """Send one message."""
    send_bytes(port, json.dumps(message).encode() + b"\n")


def receive(port: int) -> dict[str, Any]:
    """Wait for the next job."""
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(port, 65536)
        if not part:
            # Nobody has the other end open.
            time.sleep(0.1)
        data += part
    job: dict[str, Any] = json.loads(data)
    return job


def prepare() -> None:
    """Bring the fresh system to what tests expect of a host: modules, an I/O scheduler with weights, the tree."""
    for module in MODULES:
        subprocess.run(["modprobe", "-q", module], check=False)
    for scheduler in Path("/sys/block").glob("vd*/queue/scheduler"):
        if (scheduler.parents[1] / "serial").read_text().strip() == "root" and "bfq" in scheduler.read_text():
            scheduler.write_text("bfq")
    shutil.copytree(MOUNT / "tree", TREE, symlinks=True)
    RESULTS.mkdir(mode=0o755)


def measure_planners(results: Path) -> None:
    """Let the planners that corral-runtime starts write coverage data, too.

    Their interpreter looks at no environment and at no site-packages, so another launcher lies over theirs.
    """
    data = results / "planners"
    data.mkdir()
    data.chmod(0o1777)
    launcher = results / "corral-planner"
    launcher.write_text(COVERED_LAUNCHER.format(mount=MOUNT, tree=TREE, data=data / "coverage"))
    launcher.chmod(0o755)
    subprocess.run(["mount", "--bind", str(launcher), str(MOUNT / "prefix/bin/corral-planner")], check=True)


def start_user_manager(user: pwd.struct_passwd) -> None:
    """Start systemd for the unprivileged user, as a login with lingering would."""
    subprocess.run(["loginctl", "enable-linger", user.pw_name], check=True, timeout=60)
    subprocess.run(["systemctl", "start", f"user@{user.pw_uid}.service"], check=True, timeout=120)


def command_of(job: dict[str, Any], results: Path, shard: int) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of one of the job's pytest processes."""
    environment = {
        **os.environ,
        "PATH": f"{MOUNT}/prefix/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{MOUNT}/bench:{MOUNT}/python:{MOUNT}/prefix/lib/python3.11/site-packages",
        "CORRAL_VM_FIFO": str(results / f"fifo-{shard}"),
        "CORRAL_VM_SHARD": f"{shard}/{job['of']}",
        "CORRAL_VM_ABSENT": ",".join(job["absent"]),
        "CORRAL_CONFORMANCE_RUNTIME": f"{MOUNT}/prefix/bin/corral-runtime",
        # Otherwise pytest rewrites the assertions of all of hypothesis anew in each guest: 20 s.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CI": "true",
        **job["environment"],
    }
    command = [sys.executable, "-m"]
    if job["told"]:
        environment["PYTHONUNBUFFERED"] = "1"
    if job["coverage"]:
        environment["COVERAGE_FILE"] = str(results / "coverage")
        command += ["coverage", "run", "-p", "-m"]
    command += ["pytest", *PLUGINS, f"--junitxml={results / f'junit-{shard}.xml'}", "-o", "junit_family=xunit2"]
    return [*command, *job["arguments"]], environment


def as_user(user: pwd.struct_passwd, command: list[str], environment: dict[str, str]) -> list[str]:
    """Run it as a service of the user's own manager: only there is the subtree that the user may write."""
    manager = {"XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}", "HOME": user.pw_dir, "USER": user.pw_name}
    manager["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path=/run/user/{user.pw_uid}/bus"
    kept = {name: value for name, value in environment.items() if name.startswith(("CORRAL", "PYT", "COVERAGE"))}
    passed = {**kept, **manager, "PATH": environment["PATH"], "LANG": "C.UTF-8", "CI": "true"}
    runner = ["runuser", "-u", user.pw_name, "--", "env", *(f"{name}={value}" for name, value in manager.items())]
    unit = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"]
    unit += ["-pDelegate=yes", "-pOOMPolicy=continue", "-pTasksMax=infinity", "-pKillMode=process"]
    unit += [f"--working-directory={TREE}", *(f"--setenv={name}={value}" for name, value in passed.items())]
    return [*runner, *unit, *command]


class Shard:
    """One of the pytest processes of a job, and the FIFO in which its plugin writes."""

    def __init__(self, job: dict[str, Any], results: Path, number: int, user: pwd.struct_passwd | None) -> None:
        path = results / f"fifo-{number}"
        os.mkfifo(path)
        self.output = results / f"output-{number}"
        self.rest = b""
        self.told = 0
        command, environment = command_of(job, results, number)
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
            command = as_user(user, command, environment)
        self.fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def take_lines(self) -> bytes:
        """The whole lines that are there; a part of one is kept for the next time."""
        try:
            data = self.rest + os.read(self.fifo, 1 << 16)
        except BlockingIOError:
            return b""
        lines, newline, self.rest = data.rpartition(b"\n")
        return lines + newline

    def new_output(self) -> str:
        """What pytest has written since the last time."""
        with self.output.open("rb") as file:
            file.seek(self.told)
            data = file.read()
        self.told += len(data)
        return data.decode(errors="replace")


def run_job(port: int, job: dict[str, Any], number: int) -> None:
    """Run pytest, in as many processes as the job says, and send all that comes of it."""
    results = RESULTS / str(number)
    results.mkdir(mode=0o755)
    user = None
    if job["rootless"]:
        user = pwd.getpwnam(TESTER)
        start_user_manager(user)
        os.chown(results, user.pw_uid, user.pw_gid)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(TREE)], check=True)
    if job["coverage"]:
        measure_planners(results)
    shards = [Shard(job, results, index, user) for index in job["parts"]]
    relay(port, shards, is_told=job["told"])
    if job["coverage"]:
        subprocess.run(["umount", str(MOUNT / "prefix/bin/corral-planner")], check=True)
        gather_planners(results)
    send_files(port, results)
    words = [item.output.read_bytes()[-20000:].decode(errors="replace") for item in shards]
    codes = [item.process.wait() for item in shards]
    # 5: nothing selected, which is fine for a part of a small selection.
    code = max((item for item in codes if item != 5), default=5)
    send(port, event="done", code=code, output="\n".join(words))


def gather_planners(results: Path) -> None:
    """Make one file of the planners' hundreds."""
    command = [sys.executable, "-m", "coverage", "combine", "-q", f"--data-file={results}/coverage.planners"]
    environment = {**os.environ, "PYTHONPATH": f"{MOUNT}/python"}
    # Named one by one: in a folder it takes only files that are called like its own.
    files = [str(path) for path in (results / "planners").iterdir()]
    subprocess.run([*command, *files], cwd=TREE, env=environment, check=False)


def relay(port: int, shards: list[Shard], *, is_told: bool) -> None:
    """Pass on what the plugins write, and ``is_told`` all output, until each pytest has ended and its FIFO is empty."""
    running = list(shards)
    while running:
        for item in list(running):
            is_over = item.process.poll() is not None
            lines = item.take_lines()
            text = item.new_output() if is_told else ""
            if text:
                send(port, event="output", text=text)
            if lines:
                send_bytes(port, lines)
            elif is_over:
                running.remove(item)
                os.close(item.fifo)
        # No select: a FIFO without a writer is always readable.
        time.sleep(0.05)


def send_files(port: int, results: Path) -> None:
    """Send the JUnit files and the coverage data."""
    for path in sorted(results.iterdir()):
        if path.name.startswith(("junit", "coverage")):
            send(port, event="file", name=path.name, data=base64.b64encode(path.read_bytes()).decode())


def main() -> None:
    """Serve jobs until the machine is switched off from outside."""
    port = open_port()
    prepare()
    send(port, event="hello", kernel=os.uname().release, uptime_s=float(Path("/proc/uptime").read_text().split()[0]))
    number = 0
    while True:
        run_job(port, receive(port), number)
        number += 1


if __name__ == "__main__":
    main()
