"""HOOK and HOOK_OUTPUT, run without privileges."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.plan import FRONT
from native.driver import Bench

pytestmark = pytest.mark.requires("cc")

WARN_ONLY = 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Steps run in the tests' own namespaces."""
    return Bench(tmp_path)


def hook(path: str, *args: str, **more: Any) -> tuple[Any, ...]:
    """A HOOK step of kind prestart. ``more``: env, timeout_ms, head, tail, flags."""
    return (
        "HOOK",
        "prestart",
        path,
        list(args),
        more.get("env", []),
        more.get("timeout_ms", 0),
        more.get("head", '{"pid": '),
        more.get("tail", "}"),
        more.get("flags", 0),
    )


def shell(script: str, **more: Any) -> tuple[Any, ...]:
    """A HOOK step that runs a shell."""
    return hook("/bin/sh", "sh", "-c", script, **more)


def test_state_is_on_stdin_with_the_pid_in_it(bench: Bench) -> None:
    """The hook reads head, pid and tail, then the end of file."""
    bench.run([shell(f"/bin/cat > {bench.folder}/out")], DRIVER_INIT_PID="4711")
    assert (bench.folder / "out").read_text() == '{"pid": 4711}'


def test_large_state_does_not_block(bench: Bench) -> None:
    """A state beyond a pipe's capacity reaches a hook that reads it slowly, and harms none that does not read it."""
    tail = "x" * 1_000_000
    result = bench.run([shell(f"/bin/cat > {bench.folder}/out", tail=tail), shell("exit 0", tail=tail)])
    assert (result.status, result.err) == (0, "")
    assert (bench.folder / "out").read_text() == '{"pid": 0' + tail


def test_arguments_and_environment_are_exactly_those_given(bench: Bench) -> None:
    """argv[0] is the config's own, and an empty environment is empty."""
    lines = "/usr/bin/tr '\\0' '\\n' < /proc/$$"
    script = f"{lines}/cmdline > {bench.folder}/args; {lines}/environ > {bench.folder}/env"
    bench.run([hook("/bin/sh", "name", "-c", script, "x", "a b")])
    assert (bench.folder / "args").read_text().splitlines() == ["name", "-c", script, "x", "a b"]
    assert (bench.folder / "env").read_text() == ""
    bench.run([hook("/bin/sh", "sh", "-c", script, env=["A=1", "B="])])
    assert (bench.folder / "env").read_text() == "A=1\nB=\n"


def test_hook_without_arguments_gets_its_path(bench: Bench) -> None:
    """An empty argument list becomes the path alone."""
    assert bench.run([hook("/bin/true")]).status == 0


def test_exit_status_and_output_are_in_the_error(bench: Bench) -> None:
    """A hook that exits non-zero ends the plan, quoted with its last words on one line."""
    result = bench.run([shell("echo one; echo two >&2; exit 3")])
    assert (result.status, result.err) == (1, "run the prestart hook /bin/sh: exit status 3, it wrote: one two")


def test_only_the_end_of_much_output_is_quoted(bench: Bench) -> None:
    """The pipe is emptied all the while, and at most 400 bytes are kept."""
    result = bench.run([shell("/usr/bin/seq 1 100000; exit 1")])
    assert result.err.endswith("99999 100000")
    assert len(result.err) < 700


def test_signal_is_named(bench: Bench) -> None:
    """A hook that a signal ended."""
    result = bench.run([shell("kill -9 $$")])
    assert result.err == "run the prestart hook /bin/sh: killed by signal 9"


def test_missing_hook_is_named(bench: Bench) -> None:
    """exec's own error, with the path."""
    result = bench.run([hook("/no/such/hook")])
    assert result.err == "run the prestart hook /no/such/hook: exec '/no/such/hook': no such file or directory"


def test_timeout_kills_the_whole_group(bench: Bench) -> None:
    """At the end of its time the hook and its children are killed, and the error says so."""
    begin = time.monotonic()
    result = bench.run([shell(f"/bin/sleep 60 & echo $! > {bench.folder}/child; wait", timeout_ms=300)])
    assert result.err == "run the prestart hook /bin/sh: killed after its timeout of 300 ms"
    assert time.monotonic() - begin < 20
    child = int((bench.folder / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the hook's child is still there")


def test_daemon_left_behind_does_not_hold_up(bench: Bench) -> None:
    """A hook's end is its own process' end, even if a child of it keeps the output open."""
    begin = time.monotonic()
    result = bench.run([shell(f"/bin/sleep 5 & echo $! > {bench.folder}/child; exit 0")])
    os.kill(int((bench.folder / "child").read_text()), 9)
    assert (result.status, result.err) == (0, "")
    assert time.monotonic() - begin < 4


def test_failure_is_a_warning_where_the_plan_says_so(bench: Bench) -> None:
    """Flag 1 (poststop): the rest of the plan runs."""
    steps = [shell("exit 2", flags=WARN_ONLY), shell(f"echo > {bench.folder}/ran")]
    result = bench.run(steps, actor=FRONT)
    assert (result.status, result.err) == (0, "warning: prestart hook /bin/sh: exit status 2")
    assert (bench.folder / "ran").exists()


def test_output_goes_to_the_files_of_hook_output(bench: Bench) -> None:
    """HOOK_OUTPUT: both are appended to."""
    out, err = bench.folder / "hook.out", bench.folder / "hook.err"
    step = shell("echo to-out; echo to-err >&2")
    bench.run([("HOOK_OUTPUT", str(out), str(err)), step, step])
    assert (out.read_text(), err.read_text()) == ("to-out\n" * 2, "to-err\n" * 2)


def test_hook_inherits_nothing_but_stdio(bench: Bench) -> None:
    """Descriptors that happen to be inheritable do not reach a hook, and no signal is blocked or ignored."""
    listing = f"cd {bench.folder}; /bin/ls /proc/self/fd > fds; /bin/grep -E 'SigBlk|SigIgn' /proc/self/status > sig"
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        command = bench.command([shell(listing)])
        subprocess.run(command, env={"ASAN_OPTIONS": "detect_leaks=0"}, pass_fds=[read], check=True, timeout=60)
    finally:
        os.close(read)
        os.close(write)
    # ls opens the directory itself as 3.
    assert sorted((bench.folder / "fds").read_text().split()) == ["0", "1", "2", "3"]
    assert {line.split()[1] for line in (bench.folder / "sig").read_text().splitlines()} == {"0" * 16}
