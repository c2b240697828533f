"""MKDIR, SYMLINK, FIND_HOME, WORKDIR and the notify steps, on a directory taken for the rootfs, without privileges."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from corral.runtime.plan import FRONT
from native.driver import Bench

pytestmark = pytest.mark.requires("cc")

NO_BIND = 1
EXISTS_IS_FINE, REPLACES = 1, 2
MAKE, MAYBE_LATER, IF_LATER = 1, 2, 4


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Steps run in the tests' own namespaces, below an empty directory."""
    (tmp_path / "rootfs").mkdir()
    return Bench(tmp_path)


def run(bench: Bench, *steps: tuple[object, ...]) -> str:
    """The words of the first step that is refused, or ''."""
    return bench.run([("ROOTFS", str(bench.rootfs), NO_BIND), *steps]).err


# ---- MKDIR, SYMLINK ------------------------------------------------------------------------------


def test_directory_is_made_with_its_parents(bench: Bench) -> None:
    """The last component has the mode of the step, those before it 0755; what exists is fine."""
    assert run(bench, ("MKDIR", "/a/b/../c//d/", 0o1777), ("MKDIR", "/a", 0o700)) == ""
    assert oct((bench.rootfs / "a" / "c" / "d").stat().st_mode & 0o7777) == "0o1777"
    assert oct((bench.rootfs / "a").stat().st_mode & 0o7777) == "0o755"
    assert (bench.rootfs / "a" / "b").is_dir()


def test_directory_where_a_file_is_is_refused(bench: Bench) -> None:
    """ENOTDIR, as last component and as parent."""
    (bench.rootfs / "file").touch()
    assert run(bench, ("MKDIR", "/file", 0o755)) == "create directory /file: '/file': not a directory"
    assert run(bench, ("MKDIR", "/file/x", 0o755)) == "create directory /file/x: not a directory"


def test_links_never_lead_out(bench: Bench) -> None:
    """Absolute links and any number of ".." stay below the rootfs, existing or not."""
    outside = bench.folder / "outside"
    outside.mkdir()
    (bench.rootfs / "absolute").symlink_to(outside)
    (bench.rootfs / "upward").symlink_to("../" * 20 + str(outside).lstrip("/"))
    assert run(bench, ("MKDIR", "/absolute/x", 0o755), ("MKDIR", "/upward/y", 0o755)) == ""
    assert run(bench, ("MKDIR", "/../../../z", 0o755)) == ""
    assert list(outside.iterdir()) == []
    assert sorted(os.listdir(f"{bench.rootfs}{outside}")) == ["x", "y"]
    assert (bench.rootfs / "z").is_dir()


def test_long_names_are_refused(bench: Bench) -> None:
    """ENAMETOOLONG for a component and for a path."""
    assert run(bench, ("MKDIR", "/" + "x" * 300, 0o755)).endswith(": file name too long")
    assert run(bench, ("MKDIR", "/x" * 3000, 0o755)).endswith(": file name too long")


def test_symlink_is_made_with_its_parents(bench: Bench) -> None:
    """The target is text: it is neither resolved nor checked."""
    assert run(bench, ("SYMLINK", "/no/../such", "/dev/deep/link", 0)) == ""
    assert os.readlink(bench.rootfs / "dev" / "deep" / "link") == "/no/../such"


def test_existing_entry_at_a_links_place(bench: Bench) -> None:
    """The same link is fine, another is an error; flag 1 takes any entry, flag 2 replaces a file."""
    (bench.rootfs / "same").symlink_to("there")
    (bench.rootfs / "other").write_text("x")
    assert run(bench, ("SYMLINK", "there", "/same", 0)) == ""
    assert run(bench, ("SYMLINK", "there", "/other", 0)) == (
        "create the link /other to there: link '/other': file exists"
    )
    assert run(bench, ("SYMLINK", "there", "/other", EXISTS_IS_FINE)) == ""
    assert (bench.rootfs / "other").read_text() == "x"
    assert run(bench, ("SYMLINK", "there", "/other", REPLACES)) == ""
    assert os.readlink(bench.rootfs / "other") == "there"
    (bench.rootfs / "folder").mkdir()
    assert run(bench, ("SYMLINK", "there", "/folder", REPLACES)).endswith(": is a directory")


@pytest.mark.parametrize("path", ["/", "/..", "/a/.."], ids=["root", "parent", "below"])
def test_link_without_a_name_is_refused(bench: Bench, path: str) -> None:
    """A path whose last component is no name."""
    assert "names nothing that could be made" in run(bench, ("SYMLINK", "x", path, 0))


# ---- FIND_HOME -----------------------------------------------------------------------------------


def home_of(bench: Bench, uid: int, passwd: bytes | None) -> str:
    """What FIND_HOME finds for ``uid`` in a container with this /etc/passwd."""
    if passwd is not None:
        (bench.rootfs / "etc").mkdir(exist_ok=True)
        (bench.rootfs / "etc" / "passwd").write_bytes(passwd)
    steps = [("ROOTFS", str(bench.rootfs), NO_BIND), ("FIND_HOME", uid)]
    result = bench.run(steps, "/bin/sh", "-c", 'printf %s "$FOUND_HOME"')
    assert (result.status, result.err) == (0, "")
    return result.out


PASSWD = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\ndouble:x:1000:1:x:/other:x\n"


@pytest.mark.parametrize(
    ("uid", "passwd", "home"),
    [
        (0, PASSWD, "/root"),
        (1000, PASSWD, "/home/user"),
        (7, PASSWD, "/"),
        (0, None, "/"),
        (0, b"", "/"),
        (5, b"last:x:5:5::/no/newline:/bin/sh", "/no/newline"),
        (5, b"last:x:5:5::/no/shell", "/no/shell"),
        (5, b"relative:x:5:5::home:/bin/sh\n", "/"),
        (5, b"short:x:5\n:::::::::\n\n\nright:x:5:5::/right:/bin/sh\n", "/right"),
        (5, b"x" * 70_000 + b"\nright:x:5:5::/right:\n", "/right"),
        (5, b"long:x:5:5::/" + b"y" * 5000 + b":\n", "/"),
        (0, b"a:x:4294967296:0::/wrapped:\nb:x:-0:0::/minus:\nc:x: 0:0::/blank:\n", "/"),
        (5, b"nul:x:5:5::/a\0b:\n", "/"),
        (5, b"filler:x:9:9::/:\n" * 100_000 + b"far:x:5:5::/far:\n", "/"),
    ],
    ids="root user unknown no-file empty no-newline no-shell relative short long-line long-home number nul far".split(),
)
def test_home_is_that_of_the_first_matching_line(bench: Bench, uid: int, passwd: bytes | None, home: str) -> None:
    """A hostile or broken /etc/passwd gives "/" at worst; only its first mebibyte is read."""
    assert home_of(bench, uid, passwd) == home


def test_home_is_not_read_from_a_fifo(bench: Bench) -> None:
    """Neither a FIFO nor a directory at /etc/passwd holds anything up."""
    (bench.rootfs / "etc").mkdir()
    os.mkfifo(bench.rootfs / "etc" / "passwd")
    assert home_of(bench, 0, None) == "/"


def test_home_is_not_read_from_the_host(bench: Bench) -> None:
    """A link at /etc/passwd resolves in the container."""
    (bench.rootfs / "etc").mkdir()
    (bench.rootfs / "etc" / "passwd").symlink_to("/etc/../../../../../etc/passwd-of-host")
    assert home_of(bench, 0, None) == "/"


# ---- WORKDIR -------------------------------------------------------------------------------------


def test_working_directory_is_below_the_root(bench: Bench) -> None:
    """The directory is entered by descriptor, links resolved in the root."""
    (bench.rootfs / "link").symlink_to("/made")
    steps = [("ROOTFS", str(bench.rootfs), NO_BIND), ("MKDIR", "/made/here", 0o755), ("WORKDIR", "/link/here", 0)]
    assert bench.run(steps, "/bin/pwd", "-P").out == f"{bench.rootfs}/made/here\n"


def test_missing_working_directory_is_made_where_asked(bench: Bench) -> None:
    """Flag 1 makes it; without the flag its absence is an error."""
    assert run(bench, ("WORKDIR", "/none", 0)) == (
        "change to the working directory /none: enter '/none': no such file or directory"
    )
    assert run(bench, ("WORKDIR", "/srv/app", MAKE), ("WORKDIR", "/srv/app", IF_LATER)) == ""
    assert (bench.rootfs / "srv" / "app").is_dir()


def test_working_directory_through_a_descriptor_is_refused(bench: Bench, tmp_path: Path) -> None:
    """CVE-2024-21626: /proc/self/fd/N of the host is no way in."""
    result = bench.run([("WORKDIR", "/proc/self/fd/0/../..", 0)])
    assert result.status == 1
    assert result.err.endswith(("too many levels of symbolic links", "not a directory"))


def test_removed_working_directory_is_noticed(bench: Bench) -> None:
    """A directory without a path is refused by getcwd."""
    steps = [
        ("ROOTFS", str(bench.rootfs), NO_BIND),
        ("WORKDIR", "/gone", MAKE),
        ("HOOK", "test", "/bin/rmdir", ["rmdir", f"{bench.rootfs}/gone"], [], 0, "", "", 0),
        ("WORKDIR", "/gone", IF_LATER),
    ]
    assert "the working directory '/gone' has no path" in bench.run(steps).err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter anything")
def test_refused_working_directory_is_tried_again(bench: Bench) -> None:
    """Flag 2 puts a refusal off; flag 4 then tries, and is refused in its turn."""
    (bench.rootfs / "closed").mkdir(mode=0)
    assert run(bench, ("WORKDIR", "/closed", MAYBE_LATER)) == ""
    text = run(bench, ("WORKDIR", "/closed", MAYBE_LATER), ("WORKDIR", "/closed", IF_LATER))
    assert text.endswith("enter '/closed': permission denied")


# ---- NOTIFY_LISTEN, NOTIFY_RELAY -----------------------------------------------------------------

SENDER = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for message in sys.argv[2:]:
    sock.sendto(message.encode().decode("unicode_escape").encode(), sys.argv[1])
"""


def relay(bench: Bench, steps: list[tuple[object, ...]], *messages: str) -> bytes:
    """What the host hears when the container says ``messages``; b"" if nothing within the time."""
    record = bench.folder / "record"
    record.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(str(bench.folder / "host.sock"))
        host.settimeout(10)
        command = bench.command(steps, actor=FRONT)
        sleeper = subprocess.Popen(["/bin/sleep", "60"])
        env = {"ASAN_OPTIONS": "detect_leaks=0", "DRIVER_RECORD": str(record), "DRIVER_INIT_PID": str(sleeper.pid)}
        env.update(bench.environment)
        driver = subprocess.Popen(command, env=env)
        try:
            path = record / "notify" / "notify.sock"
            for _ in range(1000):
                if path.exists() or driver.poll() is not None:
                    break
                os.sched_yield()
                subprocess.run(["/bin/sleep", "0.01"], check=True)
            subprocess.run(["/usr/bin/python3", "-ISE", "-c", SENDER, str(path), *messages], check=True)
            if not any("READY=1" in message for message in messages):
                sleeper.kill()
                assert driver.wait(20) == 0
                host.settimeout(0.2)
            try:
                heard = host.recv(4096)
            except TimeoutError:
                heard = b""
            assert driver.wait(20) == 0
            return heard.replace(str(sleeper.pid).encode(), b"INIT").replace(str(driver.pid).encode(), b"FRONT")
        finally:
            sleeper.kill()
            sleeper.wait()
            driver.kill()
            driver.wait()


@pytest.fixture
def relay_steps(bench: Bench) -> list[tuple[object, ...]]:
    """Listen in the record, relay to the host's socket, as `start` does."""
    return [
        ("NOTIFY_LISTEN", "notify/notify.sock"),
        ("NOTIFY_RELAY", "notify/notify.sock", str(bench.folder / "host.sock")),
    ]


def test_readiness_is_relayed_with_the_pid(bench: Bench, relay_steps: list[tuple[object, ...]]) -> None:
    """Of all that a container says, READY=1 alone passes, with MAINPID of the first process as the host knows it."""
    heard = relay(bench, relay_steps, "STATUS=starting", "MAINPID=1\\nREADY=1\\nFDSTORE=1")
    assert heard == b"MAINPID=INIT\nREADY=1"


def test_end_of_the_process_ends_the_relay(bench: Bench, relay_steps: list[tuple[object, ...]]) -> None:
    """A container that never says READY=1 does not hold up start for ever, and the host hears nothing."""
    assert relay(bench, relay_steps, "READY=0", "XREADY=1 no".replace("READY=1", "READY=2")) == b""


def test_foreground_run_relays_from_its_loop(bench: Bench, relay_steps: list[tuple[object, ...]]) -> None:
    """Where the front stays, NOTIFY_RELAY returns at once, notify_pump() does the work, and MAINPID is the front's."""
    bench.environment = {"DRIVER_STAYS": "1"}
    assert relay(bench, relay_steps, "READY=1") == b"MAINPID=FRONT\nREADY=1"


def test_stale_notify_socket_is_replaced(bench: Bench, relay_steps: list[tuple[object, ...]]) -> None:
    """start listens where create did; other files of that name are not in its way."""
    (bench.folder / "record" / "notify").mkdir(parents=True)
    steps = [("NOTIFY_LISTEN", "notify/notify.sock"), *relay_steps]
    assert relay(bench, steps, "READY=1") == b"MAINPID=INIT\nREADY=1"
