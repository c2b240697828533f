"""What the front hands to sockets and files of its caller, and the rendezvous of descriptors."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from root.native.front import EXEC, NEWNS, NEWPID, PRELUDE, TTY, Front, wait_until

pytestmark = pytest.mark.requires("root", "cc")


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """A front whose planner the test writes."""
    return Front(tmp_path)


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    """A listening stream socket of the caller, under a path longer than an address may be."""
    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    sock = socket.socket(socket.AF_UNIX)
    here = os.open(folder, os.O_PATH)
    sock.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    sock.listen(1)
    sock.settimeout(20)
    return sock


def path_of(tmp_path: Path) -> str:
    """Where ``listener`` is."""
    return str(tmp_path / ("long-" * 20) / "socket")


def receive(listener: socket.socket) -> tuple[bytes, list[int]]:
    """What comes with the first connection: bytes and descriptors."""
    with listener, listener.accept()[0] as peer:
        data, extra, _, _ = peer.recvmsg(65536, 256)
        return data, [fd for _, _, raw in extra for fd in array.array("i", raw)]


def test_pid_file_appears_whole_when_it_is_written(front: Front) -> None:
    """PID_FILE: the decimal pid, by rename, no newline; a relative path is the caller's."""
    front.plan('("front", "PID_FILE", "box.pid"), sync("x"), *run("sh", "-c", "cut -d\' \' -f1 /proc/self/stat")')
    assert front.run("exec").status == 0
    assert int((front.folder / "box.pid").read_text()) > 1
    assert [path.name for path in front.folder.iterdir() if "pid" in path.name] == ["box.pid"]


def test_pid_file_is_named_when_its_folder_is_missing(front: Front) -> None:
    """The path as the caller gave it."""
    front.plan('("front", "PID_FILE", "nowhere/box.pid"), sync("x"), *run("true")')
    expected = "write the pid file nowhere/box.pid: open 'nowhere/box.pid': no such file or directory"
    assert front.run("exec").err.splitlines()[0] == expected


def test_pidfd_is_sent_when_a_socket_is_named(front: Front, listener: socket.socket, tmp_path: Path) -> None:
    """PIDFD_SEND: one descriptor, of init."""
    front.plan(f'("front", "PIDFD_SEND", {path_of(tmp_path)!r}), sync("x"), *run("true")')
    process = front.start("exec", stdout=DEVNULL)
    data, fds = receive(listener)
    assert data == b"pidfd"
    assert "pidfd" in os.readlink(f"/proc/self/fd/{fds[0]}")
    os.close(fds[0])
    assert process.wait(20) == 0


def test_socket_is_named_when_nobody_listens(front: Front) -> None:
    """PIDFD_SEND and CONSOLE_CONNECT both say which socket."""
    front.plan('("front", "PIDFD_SEND", "/nowhere"), sync("x"), *run("true")')
    expected = "send the pidfd to /nowhere: connect to '/nowhere': no such file or directory"
    assert front.run("exec").err.splitlines()[0] == expected
    front.plan('("front", "CONSOLE_CONNECT", "/nowhere", 1), sync("x"), *run("true")')
    expected = "connect to the console socket /nowhere: connect to '/nowhere': no such file or directory"
    assert front.run("exec").err.splitlines()[0] == expected


def test_console_is_sent_when_the_caller_gave_a_socket(front: Front, listener: socket.socket, tmp_path: Path) -> None:
    """CONSOLE, TAKE_FD, CONSOLE_SEND: the master of the container's terminal, at its size."""
    front.plan(
        f"""("front", "CONSOLE_CONNECT", {path_of(tmp_path)!r}, 1), *console(), sync("x"),
        ("front", "CONSOLE_SEND", 66, 1), *run_in_console("sh", "-c", "stty size; echo $((40 + 2))")""",
        CONSOLE,
    )
    process = front.start("exec", stdout=DEVNULL)
    data, fds = receive(listener)
    assert data == b"/dev/ptmx"
    text = b""
    while b"42" not in text:
        text += os.read(fds[0], 100)
    assert text == b"24 80\n42\n"
    os.close(fds[0])
    assert process.wait(20) == 0


def test_pid_file_is_taken_back_when_a_later_step_is_refused(front: Front) -> None:
    """Nobody shall find, and signal, the pid of a process that never became what was asked for."""
    front.plan('("front", "PID_FILE", "box.pid"), ("front", "PIDFD_SEND", "/nowhere"), sync("x"), *run("true")')
    assert front.run("exec").status == 255
    assert list(front.folder.glob("*box.pid*")) == []


def test_pid_file_of_another_is_left_when_an_earlier_step_is_refused(front: Front) -> None:
    """It was there before, and nothing was written yet."""
    (front.folder / "box.pid").write_text("1")
    front.plan('("front", "PIDFD_SEND", "/nowhere"), ("front", "PID_FILE", "box.pid"), sync("x"), *run("true")')
    assert front.run("exec").status == 255
    assert (front.folder / "box.pid").read_text() == "1"


def test_seccomp_listener_is_sent_with_the_state(front: Front, listener: socket.socket, tmp_path: Path) -> None:
    """SECCOMP_SEND: head, pid, tail, and the descriptor in the slot."""
    front.plan(
        f"""("front", "PID_FILE", "pid"), ("front", "CONSOLE_CONNECT", HERE + "/other", 3),
        ("front", "SECCOMP_SEND", {path_of(tmp_path)!r}, '{{"pid":', ',"state":', '}}', 3), sync("x"), *run("true")""",
        "other = socket.socket(socket.AF_UNIX); other.bind(HERE + '/other'); other.listen(1)",
    )
    process = front.start("exec", stdout=DEVNULL)
    data, fds = receive(listener)
    assert process.wait(20) == 0
    pid = (front.folder / "pid").read_text()
    assert data.decode() == f'{{"pid":{pid},"state":{pid}}}'
    assert os.readlink(f"/proc/self/fd/{fds[0]}").startswith("socket:")
    os.close(fds[0])


def test_descriptor_is_passed_to_init_when_the_plan_says_so(front: Front) -> None:
    """PASS_FD: a tree that the front opened arrives in init's slot."""
    front.plan(
        """("front", "OPEN_TREE", 5, "/usr", 0), ("init", "PASS_FD", 5), ("init", "ROOT_PROPAGATION", 0x44000),
        ("init", "WARN", "here"), *run("true")"""
    )
    result = front.run("exec")
    assert (result.status, result.err) == (0, "warning: here")


def test_empty_slot_is_named_when_it_is_to_be_passed(front: Front) -> None:
    """A plan that hands over nothing is refused, not guessed at."""
    front.plan('("init", "PASS_FD", 7), *run("true")')
    assert front.run("exec").err.splitlines()[0] == (
        "hand over descriptor 7: descriptor 7 of the plan: bad file descriptor"
    )


def test_preserved_descriptor_reaches_the_program(front: Front) -> None:
    """--preserve-fds 1: descriptor 3 of the caller, and no other."""
    front.scenario(
        f"""
        assert "fds=3" in request()
        answer([("front", "FRONT_MODE", {EXEC}, 1), ("front", "SPAWN", {NEWNS}, -1), sync("x"),
                ("init", "PREPARE_FDS", 1), *run("sh", "-c", "cat <&3; echo /proc/self/fd/[4-9]*")])
        serve()
        """
    )
    reader, writer = os.pipe()
    os.write(writer, b"hello\n")
    os.close(writer)
    process = front.start("exec", stdout=PIPE, preexec_fn=lambda: os.dup2(reader, 3), pass_fds=[3])
    out, _ = process.communicate(timeout=60)
    os.close(reader)
    # The shell's own listing is open while it lists.
    assert out == "hello\n/proc/self/fd/4\n"


CONSOLE = """
def console():
    return [("init", "ROOT_PROPAGATION", 0x44000), ("init", "CONSOLE", 24, 80, 0, 66), ("init", "TAKE_FD", 66)]

def run_in_console(*argv):
    return [("init", "SESSION", ""), ("init", "PREPARE_FDS", 0), *run(*argv)]
"""


def open_terminal() -> tuple[int, int]:
    """A terminal of 30 by 90 for the front to run in."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    return master, slave


def read_until(master: int, text: bytes) -> bytes:
    """What appears on the terminal up to ``text``."""
    seen = b""
    while text not in seen:
        seen += os.read(master, 1000)
    return seen


def test_terminal_is_relayed_and_restored_when_it_is_the_callers(front: Front) -> None:
    """run -t: raw while it runs, sizes follow SIGWINCH, settings come back, the exit code is the process's."""
    front.scenario(
        CONSOLE
        + f"""
request()
script = "echo ready; read line; stty size; echo got $line; exit 5"
answer([("front", "FRONT_MODE", {EXEC | TTY}, 0), ("front", "SPAWN", {NEWNS | NEWPID}, -1), sync("birth"),
        *console(), sync("x"), *run_in_console("sh", "-c", script)])
serve()
"""
    )
    master, slave = open_terminal()
    before = termios.tcgetattr(slave)
    process = front.start("exec", stdin=slave, stdout=slave, stderr=slave)
    read_until(master, b"ready")
    assert termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO) == 0
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 91, 0, 0))
    process.send_signal(signal.SIGWINCH)
    os.write(master, b"line\r")
    assert b"31 91" in read_until(master, b"got line")
    assert process.wait(20) == 5
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_front_ends_when_its_process_ends_and_a_child_keeps_the_terminal(front: Front) -> None:
    """A leaked background process must not keep exec -t waiting."""
    front.scenario(
        CONSOLE
        + f"""
request()
answer([("front", "FRONT_MODE", {EXEC | TTY}, 0), ("front", "SPAWN", {NEWNS | NEWPID}, -1), sync("birth"),
        *console(), sync("x"), *run_in_console("sh", "-c", "sleep 1000 & echo over; exit 3")])
serve()
"""
    )
    master, slave = open_terminal()
    process = front.start("exec", stdin=slave, stdout=slave, stderr=slave)
    read_until(master, b"over")
    assert process.wait(20) == 3
    os.close(slave)
    os.close(master)


def test_record_is_undone_by_its_own_program_when_it_is_reclaimed(front: Front) -> None:
    """RECLAIM: the front undoes the stale record, then asks again."""
    root = str(front.root)
    front.scenario(
        f"""
        request()
        if os.path.exists({root!r} + "/old"):
            send(51, {root!r}.encode() + b"/old")
            request()
        send(52, b"free" if not os.path.exists({root!r} + "/old") else b"taken")
        """
    )
    make = front.folder / "make.py"
    make.write_text(PRELUDE + f"make_record({root!r}, 'old', [('delete', [('front', 'REMOVE_RECORD', 0)])])")
    subprocess.run([sys.executable, str(make)], check=True)
    assert front.run("create").out == "free"
    wait_until(lambda: not list(front.root.glob("*old*")))


def test_record_is_left_alone_when_its_owner_still_lives(front: Front) -> None:
    """A held owner lock means that another create is at work: bounded wait, then an error."""
    root = str(front.root)
    front.scenario(
        f"""
        request()
        make_record({root!r}, "old")
        send(51, {root!r}.encode() + b"/old")
        serve()
        """
    )
    result = front.run("create")
    assert result.status == 1
    assert result.err.splitlines()[0] == f"undo the unfinished container '{root}/old': its owner lock is held"
