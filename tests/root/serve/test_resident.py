"""Short commands in the service's resident process (docs/adr/0009), and everything else where it always was."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from root.engine.conftest import DEADLINE_S, eventually
from root.serve.conftest import CORRAL, Service, children_of, is_alive

SLEEPER = ("host", "--", "sleep", "1000")
QUICK = (
    ("create", "--name", "made", *SLEEPER),
    ("start", "made"),
    ("run", "-d", "--name", "job", *SLEEPER),
    ("rename", "job", "work"),
    ("pause", "work"),
    ("unpause", "work"),
    ("ps", "-q"),
    ("inspect", "work"),
    ("restart", "-t", "0", "work"),
    ("kill", "work"),
    ("stop", "-t", "0", "made"),
    ("rm", "-f", "work", "made"),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def resident(service: Service) -> int:
    """The resident process that listens."""
    path = Path(service.engine.places.run, "resident.sock")
    eventually(path.exists)
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children_of(service.process.pid)}
    found = [pid for pid in words if b"_resident" in words[pid]]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def front(service: Service, resident: int, tmp_path: Path) -> Run:
    """The program without the launcher beside it: it can have a command run there, or not at all."""
    alone = Path(shutil.copy(CORRAL, tmp_path / "corral"))

    def run(*words: str, before: tuple[str, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        command = [*before, str(alone), "--store", service.engine.places.store, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options)

    return run


def is_refused(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether the front went on to start an interpreter, which it could not find."""
    return done.returncode == 125 and "corral-planner" in done.stderr


def test_short_commands_need_no_interpreter_where_a_service_answers(front: Run) -> None:
    """Each of them is done by the resident process, and says what it always says."""
    assert [(words[0], 0, "") for words in QUICK] == [
        (words[0], done.returncode, done.stderr) for words in QUICK for done in [front(*words)]
    ]


def test_errors_and_exit_codes_come_from_the_resident_process_as_from_any(front: Run, service: Service) -> None:
    """Both streams and the code are the caller's."""
    for words in (("stop", "nobody"), ("run", "-d", "host", "--", "/no/such")):
        there, here = front(*words), service.corral("--no-service", *words)
        assert (here.returncode, here.stderr, here.stdout) == (there.returncode, there.stderr, there.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "host", "--", "echo", "-d"),
        ("--debug", "ps"),
        ("--no-service", "ps"),
        ("start", "--attach", "c"),
        ("exec", "c", "true"),
        ("version",),
    ],
    ids=" ".join,
)
def test_what_is_not_short_is_done_by_a_process_of_the_callers(front: Run, words: tuple[str, ...]) -> None:
    """A terminal, signals, and what looks at this process itself stay where they are."""
    assert is_refused(front(*words))


@pytest.mark.parametrize(
    "before",
    [
        ("unshare", "-m", "--propagation", "private"),
        ("unshare", "-n"),
        ("unshare", "-u"),
        ("unshare", "-pf"),
        ("setpriv", "--no-new-privs"),
        ("setpriv", "--bounding-set", "-sys_time"),
        ("setpriv", "--groups", "12345"),
        ("env", "LC_ALL=de_DE.ISO-8859-1"),
    ],
    ids=" ".join,
)
def test_another_view_or_other_rights_are_not_taken_along(front: Run, before: tuple[str, ...]) -> None:
    """A caller that is not for certain what the resident process is does its command itself."""
    assert (False, True) == (is_refused(front("ps")), is_refused(front("ps", before=before)))


def test_directory_environment_umask_and_limits_are_the_callers(front: Run, service: Service, tmp_path: Path) -> None:
    """Relative paths, `-e NAME`, and the mode and size of what a command writes."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "file.env").write_text("FROM_FILE=1\n")
    words = ("run", "-d", "--name", "c", "-e", "GIVEN", "--env-file", "file.env", "--cidfile", "id", *SLEEPER)
    done = front(*words, cwd=there, umask=0o077, env={**os.environ, "GIVEN": "ä ü"})
    assert (0, "") == (done.returncode, done.stderr)
    assert (0o600, done.stdout.strip()) == ((there / "id").stat().st_mode & 0o777, (there / "id").read_text())
    environment = service.engine.call("inspect", "c")["process"]["env"]
    assert ["FROM_FILE=1", "GIVEN=ä ü"] == sorted(word for word in environment if word.startswith(("GIVEN", "FROM")))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with open(tmp_path / "output", "wb") as output:
        full = subprocess.run(
            [tmp_path / "corral", "--store", service.engine.places.store, "ps"],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            preexec_fn=limit,
            check=False,
        )
    assert (1, b"write the output: file too large\n", 0) == (
        full.returncode,
        full.stderr,
        (tmp_path / "output").stat().st_size,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_command_ends_with_its_front(service: Service, resident: int, number: int) -> None:
    """Whoever interrupts the front, or kills it, leaves nobody at work for it."""
    service.engine.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", name="deaf")
    front = subprocess.Popen([CORRAL, "--store", service.engine.places.store, "stop", "-t", "1000", "deaf"])
    eventually(lambda: bool(children_of(resident)))
    front.send_signal(number)
    assert -number == front.wait(DEADLINE_S)
    eventually(lambda: not children_of(resident))
    assert is_alive(resident)
    service.corral("rm", "-f", "-t", "0", "deaf")


def test_commands_work_when_the_resident_process_was_killed(service: Service, resident: int) -> None:
    """Nothing depends on it."""
    os.kill(resident, signal.SIGKILL)
    eventually(lambda: not is_alive(resident))
    done = [service.corral(*words) for words in (("run", "-d", "--name", "c", *SLEEPER), ("ps",))]
    assert [(0, ""), (0, "")] == [(one.returncode, one.stderr) for one in done]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_resident_process_ends_with_its_service(service: Service, resident: int, number: int) -> None:
    """However the service ends; the next one has its own."""
    service.end(number)
    eventually(lambda: not is_alive(resident))
    service.begin()
    service.wait_ready()
    assert service.corral("ps").returncode == 0
