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
import select
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


def start_user_manager(user: pwd.struct_passwd) -> None:
    """Start systemd for the unprivileged user, as a login with lingering would."""
    subprocess.run(["loginctl", "enable-linger", user.pw_name], check=True, timeout=60)
    subprocess.run(["systemctl", "start", f"user@{user.pw_uid}.service"], check=True, timeout=120)


def command_of(job: dict[str, Any], results: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of pytest for this job."""
    environment = {
        **os.environ,
        "PATH": f"{MOUNT}/prefix/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{MOUNT}/bench:{MOUNT}/python:{MOUNT}/prefix/lib/python3.11/site-packages",
        "CORRAL_VM_FIFO": str(results / "fifo"),
        "CORRAL_VM_ABSENT": ",".join(job["absent"]),
        "CORRAL_CONFORMANCE_RUNTIME": f"{MOUNT}/prefix/bin/corral-runtime",
        # Otherwise pytest rewrites the assertions of all of hypothesis anew in each guest: 20 s.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CI": "true",
        **job["environment"],
    }
    command = [sys.executable, "-m"]
    if job["coverage"]:
        environment["COVERAGE_FILE"] = str(results / "coverage")
        command += ["coverage", "run", "-p", "-m"]
    command += ["pytest", *PLUGINS, f"--junitxml={results / 'junit.xml'}", "-o", "junit_family=xunit2"]
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


def run_job(port: int, job: dict[str, Any], number: int) -> None:
    """Run pytest once and send all that comes of it."""
    results = RESULTS / str(number)
    results.mkdir(mode=0o755)
    os.mkfifo(results / "fifo")
    command, environment = command_of(job, results)
    if job["rootless"]:
        user = pwd.getpwnam(TESTER)
        start_user_manager(user)
        os.chown(results, user.pw_uid, user.pw_gid)
        os.chown(results / "fifo", user.pw_uid, user.pw_gid)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(TREE)], check=True)
        command = as_user(user, command, environment)
    fifo = os.open(results / "fifo", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with (results / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        relay(port, fifo, process)
    os.close(fifo)
    send_files(port, results)
    words = (results / "output").read_bytes()[-20000:].decode(errors="replace")
    send(port, event="done", code=process.wait(), output=words)


def relay(port: int, fifo: int, process: subprocess.Popen[bytes]) -> None:
    """Pass on what the plugin writes until pytest has ended and the FIFO is empty."""
    last = b"\n"
    while True:
        is_over = process.poll() is not None
        # A FIFO without a writer is always readable, so time is given up by hand then.
        select.select([fifo], [], [], 0.05)
        try:
            data = os.read(fifo, 1 << 16)
        except BlockingIOError:
            data = b""
        if data:
            send_bytes(port, data)
            last = data[-1:]
        elif is_over:
            break
        else:
            time.sleep(0.02)
    if last != b"\n":
        send_bytes(port, b"\n")


def send_files(port: int, results: Path) -> None:
    """Send the JUnit file and the coverage data."""
    for path in sorted(results.iterdir()):
        if path.name == "junit.xml" or path.name.startswith("coverage"):
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
