"""Terminals: the console socket, the foreground pty, sizes, and who may use /dev/console."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from conformance.harness import Bundle, Container, Runtime, reap, status_of, unique_id
from conformance.rootfs import chown_tree
from conformance.spec import map_ids
from conformance.terminal import console_socket, read_rest, read_until, set_window_size, window_size

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def on_terminal(runtime: Runtime, bundle: Bundle, script: str) -> Iterator[tuple[Container, int]]:
    """A created container with a terminal, and the master that came over the console socket."""
    bundle.process["terminal"] = True
    path = bundle.path / "console.sock"
    with console_socket(path) as console, runtime.create(bundle, script, "--console-socket", str(path)) as c:
        master, _ = console.receive()
        try:
            yield c, master
        finally:
            os.close(master)


def test_console_socket_gets_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """create sends the master of the container's own terminal."""
    with on_terminal(runtime, bundle, "tty; echo done") as (c, master):
        assert os.isatty(master)
        c.start()
        assert "/dev/pts/0" in read_until(master, "done")


def test_all_three_streams_are_the_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """0, 1 and 2 of the program are /dev/pts/0, and there are no more."""
    with on_terminal(runtime, bundle, "ls -l /proc/$$/fd | sed 's/.* -> //'; echo done") as (c, master):
        c.start()
        told = read_until(master, "done")
        assert told.count("/dev/pts/0") >= 3


def test_terminal_is_the_controlling_one(runtime: Runtime, bundle: Bundle) -> None:
    """/dev/tty works: ^C interrupts, since the program leads the terminal's session."""
    script = "trap 'echo interrupted; exit' INT; echo up; while :; do sleep 0.01; done"
    with on_terminal(runtime, bundle, script) as (c, m):
        c.start()
        read_until(m, "up")
        os.write(m, b"\x03")
        read_until(m, "interrupted")


def test_foreground_terminal_has_onlcr_cleared(runtime: Runtime, bundle: Bundle) -> None:
    """Line ends are made by the caller's terminal, and not a second time by the container's."""
    args = start_foreground(bundle, "stty -a | grep -o -e '-onlcr'; echo done; read x")
    with on_own_pty(runtime, *args) as (process, master):
        assert "-onlcr" in read_until(master, "done")
        os.write(master, b"\n")
        assert process.wait(30) == 0


def test_dev_console_is_the_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """/dev/console is the container's terminal."""
    with on_terminal(runtime, bundle, "echo via-console > /dev/console; stat -c %F /dev/console; echo done") as (c, m):
        c.start()
        told = read_until(m, "done")
        assert "via-console" in told
        assert "character special file" in told


def test_console_size(runtime: Runtime, bundle: Bundle) -> None:
    """process.consoleSize is the size of the terminal before the program starts."""
    bundle.process["consoleSize"] = {"height": 31, "width": 101}
    with on_terminal(runtime, bundle, "stty size; echo done") as (c, master):
        assert window_size(master) == (31, 101)
        c.start()
        assert "31 101" in read_until(master, "done")


def test_terminal_belongs_to_the_user(runtime: Runtime, bundle: Bundle) -> None:
    """The terminal's owner is the program's user."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    with on_terminal(runtime, bundle, "stat -c owner=%u $(tty); echo done") as (c, master):
        c.start()
        assert "owner=1000" in read_until(master, "done")


def test_terminal_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """The terminal is made in the container's devpts, so it belongs to the mapped user."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    with on_terminal(runtime, bundle, "stat -c owner=%u $(tty); echo done") as (c, master):
        c.start()
        assert "owner=0" in read_until(master, "done")
        assert status_of(c.pid)["Uid"].split()[0] == "200000"


def test_terminal_hangs_up_when_the_container_ends(runtime: Runtime, bundle: Bundle) -> None:
    """After the end of the program no process of the runtime holds the terminal."""
    with on_terminal(runtime, bundle, "echo bye") as (c, master):
        c.start()
        assert "bye" in read_rest(master)
        c.wait()


def test_input_reaches_the_program(runtime: Runtime, bundle: Bundle) -> None:
    """What is written to the master is read by the program, line by line."""
    with on_terminal(runtime, bundle, "read line; echo got:$line") as (c, master):
        c.start()
        os.write(master, b"hello\n")
        read_until(master, "got:hello")


def test_terminal_without_console_socket_is_refused_when_detached(runtime: Runtime, bundle: Bundle) -> None:
    """A detached container with a terminal has no one to take it."""
    bundle.process["terminal"] = True
    bundle.shell(": > /ran")
    bundle.write()
    done = runtime("run", "--detach", "--bundle", bundle.path, unique_id(), check=False)
    assert done.returncode != 0
    assert not (bundle.rootfs / "ran").exists()


def test_console_socket_without_terminal_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A console socket for a container without a terminal is a mistake of the caller."""
    bundle.shell(": > /ran")
    bundle.write()
    with console_socket(bundle.path / "s") as console:
        flags = ["--detach", "--console-socket", str(console.path)]
        done = runtime("run", *flags, "--bundle", bundle.path, unique_id(), check=False)
    assert done.returncode != 0
    assert not (bundle.rootfs / "ran").exists()


def test_exec_with_console_socket(runtime: Runtime, bundle: Bundle) -> None:
    """exec --tty --detach sends a terminal of its own."""
    with runtime.start(bundle) as c, console_socket(bundle.path / "s") as console:
        pid_file = bundle.path / "exec.pid"
        flags = ["--tty", "--detach", "--console-socket", str(console.path), "--pid-file", str(pid_file)]
        c.exec("/bin/sh", "-c", "tty; read x; exit 4", flags=flags, output=bundle.path / "out")
        master, _ = console.receive()
        try:
            assert "/dev/pts/0" in read_until(master, "/dev/pts/0")
            os.write(master, b"\n")
            read_rest(master)
            assert reap(int(pid_file.read_text())) == 4
        finally:
            os.close(master)


@contextlib.contextmanager
def on_own_pty(runtime: Runtime, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A foreground command whose three streams are a pty that this test holds the master of."""
    master, slave = os.openpty()
    set_window_size(master, 24, 80)
    process = runtime.spawn(*args, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        yield process, master
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(master)


def start_foreground(bundle: Bundle, script: str) -> list[str]:
    """The arguments of a foreground `run` with a terminal."""
    bundle.process["terminal"] = True
    bundle.shell(script)
    bundle.write()
    return ["run", "--bundle", str(bundle.path), unique_id()]


def test_foreground_run_passes_the_terminal_through(runtime: Runtime, bundle: Bundle) -> None:
    """`run` copies between its own terminal and the container's, and exits with its code."""
    with on_own_pty(runtime, *start_foreground(bundle, "tty; read x; echo got:$x; exit 7")) as (process, master):
        read_until(master, "/dev/pts/0")
        os.write(master, b"hello\n")
        read_until(master, "got:hello")
        assert process.wait(30) == 7


def test_foreground_run_takes_over_the_size(runtime: Runtime, bundle: Bundle) -> None:
    """The container's terminal has the size of the caller's, and follows it."""
    # The first size may come a moment after the start of the program, as with runc.
    script = "until stty size 2>/dev/null | grep .; do sleep 0.01; done; "
    script += "trap 'echo new:$(stty size)' WINCH; echo up; while :; do sleep 0.01; done"
    args = start_foreground(bundle, script)
    with on_own_pty(runtime, *args) as (process, master):
        assert "24 80" in read_until(master, "up")
        set_window_size(master, 40, 120)
        process.send_signal(signal.SIGWINCH)
        read_until(master, "new:40 120")
        process.send_signal(signal.SIGKILL)
    runtime("delete", "--force", args[-1])


def test_foreground_run_puts_the_terminal_back(runtime: Runtime, bundle: Bundle) -> None:
    """While it runs the caller's terminal is raw, afterwards it is as before."""
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        process = runtime.spawn(*start_foreground(bundle, "echo up; read x"), stdin=slave, stdout=slave, stderr=slave)
        read_until(master, "up")
        assert termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO) == 0
        os.write(master, b"\r")
        assert process.wait(30) == 0
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_foreground_exec_with_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """`exec --tty` gives the program a terminal of the container's devpts."""
    with runtime.start(bundle) as c:
        args = [
            "exec",
            "--tty",
            c.id,
            "/bin/sh",
            "-c",
            "tty; until stty size 2>/dev/null | grep .; do :; done; read x; exit 3",
        ]
        with on_own_pty(runtime, *args) as (process, master):
            told = read_until(master, "24 80")
            assert "/dev/pts/0" in told
            os.write(master, b"\n")
            assert process.wait(30) == 3


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "INT", "QUIT"])
def test_foreground_run_forwards_signals(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """A signal to the foreground `run` reaches the program."""
    bundle.shell(f"trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.01; done")
    bundle.write()
    with runtime.background("run", "--bundle", bundle.path, unique_id()) as (process, out):
        assert out.readline() == b"up\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert out.readline() == b"got\n"
        assert process.wait(30) == 9
