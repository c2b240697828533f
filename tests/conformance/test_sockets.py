"""What systemd's protocols ask of a runtime: NOTIFY_SOCKET and LISTEN_FDS."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from conformance.harness import Bundle, Runtime, unique_id


@pytest.fixture
def notified(bundle: Bundle) -> socket.socket:
    """A datagram socket on the host, as systemd's."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(bundle.path / "notify"))
    server.settimeout(30)
    return server


def messages(server: socket.socket, wanted: str) -> list[str]:
    """All lines that came, until one starts with `wanted`."""
    lines: list[str] = []
    while not any(line.startswith(wanted) for line in lines):
        lines += server.recv(4096).decode().splitlines()
    return lines


def test_ready_reaches_the_socket_of_the_caller(runtime: Runtime, bundle: Bundle, notified: socket.socket) -> None:
    """A program's READY=1 arrives at NOTIFY_SOCKET, with the foreground command as MAINPID."""
    with notified:
        env = {"NOTIFY_SOCKET": str(bundle.path / "notify")}
        script = "probe send $NOTIFY_SOCKET READY=1; exec sleep 1000"
        bundle.shell(script)
        bundle.write()
        name = unique_id()
        args = ["run", "--bundle", str(bundle.path), name]
        with runtime.background(*args, env=env) as (process, _):
            lines = messages(notified, "READY=1")
            lines += [] if any(x.startswith("MAINPID") for x in lines) else messages(notified, "MAINPID")
            runtime("kill", name, "KILL")
            assert process.wait(30) == 137
            assert f"MAINPID={process.pid}" in lines


def test_socket_inside_is_not_the_one_of_the_host(runtime: Runtime, bundle: Bundle, notified: socket.socket) -> None:
    """The path in the program's NOTIFY_SOCKET is one of the container."""
    with notified:
        env = {"NOTIFY_SOCKET": str(bundle.path / "notify")}
        script = "echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET && echo socket; probe send $NOTIFY_SOCKET READY=1"
        bundle.shell(script)
        bundle.write()
        args = ["run", "--bundle", str(bundle.path), unique_id()]
        with runtime.background(*args, env=env) as (process, out):
            path = out.readline().decode().strip()
            assert path != env["NOTIFY_SOCKET"]
            assert out.readline() == b"socket\n"
            assert process.wait(30) == 0


def test_detached_container_waits_for_ready(runtime: Runtime, bundle: Bundle, notified: socket.socket) -> None:
    """`run --detach` (or `start`) with a NOTIFY_SOCKET returns once the program is ready."""
    with notified:
        env = {"NOTIFY_SOCKET": str(bundle.path / "notify")}
        script = "touch /before; probe send $NOTIFY_SOCKET READY=1; exec sleep 1000"
        with runtime.start(bundle, script, env=env) as c:
            assert (bundle.rootfs / "before").exists()
            lines = messages(notified, "READY=1")
            lines += [] if any(x.startswith("MAINPID") for x in lines) else messages(notified, "MAINPID")
            assert f"MAINPID={c.pid}" in lines
            assert c.status == "running"


def test_no_notify_socket_means_none_inside(runtime: Runtime, bundle: Bundle) -> None:
    """Without NOTIFY_SOCKET in the caller's environment the program has none."""
    assert runtime.run(bundle, "echo [$NOTIFY_SOCKET]").stdout == "[]\n"


def with_sockets(runtime: Runtime, count: int, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as systemd does: `count` sockets from 3 on, LISTEN_FDS and LISTEN_PID."""
    servers = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    for server in servers:
        server.bind(("127.0.0.1", 0))
        server.listen()
    numbers = [server.fileno() for server in servers]
    moves = " ".join(f"{3 + index}>&{fd}" for index, fd in enumerate(numbers))
    closes = " ".join(f"{fd}>&-" for fd in numbers if fd >= 3 + count)
    script = f'exec {moves} {closes}; export LISTEN_FDS={count} LISTEN_PID=$$; exec "$@"'
    try:
        return subprocess.run(
            ["bash", "-c", script, "bash", *runtime.argv(*args)],
            pass_fds=numbers,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        for server in servers:
            server.close()


def test_listen_fds_are_passed(runtime: Runtime, bundle: Bundle) -> None:
    """LISTEN_FDS sockets arrive as 3 and up, with LISTEN_FDS and a LISTEN_PID that is the program's."""
    script = "echo $LISTEN_FDS $LISTEN_PID $$; for n in 3 4 5; do readlink /proc/self/fd/$n | cut -d: -f1; done"
    bundle.shell(script)
    bundle.write()
    done = with_sockets(runtime, 2, "run", "--bundle", str(bundle.path), unique_id())
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["2 1 1", "socket", "socket"]


def test_listen_fds_of_another_process_are_not_taken(runtime: Runtime, bundle: Bundle) -> None:
    """Without sockets, a LISTEN_FDS of 0 gives nothing."""
    done = runtime.run(bundle, "echo [$LISTEN_FDS]; test -e /proc/$$/fd/3 || echo none", env={"LISTEN_FDS": "0"})
    assert done.lines[-1] == "none"
    assert os.environ.get("LISTEN_FDS") is None
