"""Flaws by which a container reaches the runtime's own program, descriptors or directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, Container, Runtime
from cve.attacks import Sentinel, digest

ROUNDS = 6
LOOK_S = 20


def set_trap(bundle: Bundle, attacker: Path) -> None:
    """Put the attacker, the script that runs whatever enters, and a fifo to hold it into the rootfs."""
    shutil.copy2(attacker, bundle.rootfs / "bin/attacker")
    (bundle.rootfs / "bin/evil").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "bin/evil").chmod(0o755)
    (bundle.rootfs / "trap").mkdir()
    os.mkfifo(bundle.rootfs / "trap/config.json")
    specs.set_capabilities(bundle.spec, "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL")


def attack(target: Path) -> str:
    """The shell command of the attacker, which may write into this one file and no other."""
    facts = target.stat()
    return f"exec /bin/attacker /trap/config.json {LOOK_S} {facts.st_dev} {facts.st_ino}"


def enter_unprotected(container: Container, program: Path) -> None:
    """Run a program of the host inside, by a descriptor, as a careless runtime would."""
    held = os.open(program, os.O_RDONLY)
    try:
        namespaces = ["nsenter", "-t", str(container.pid), "-m", "-p", "--"]
        argv = [*namespaces, f"/proc/self/fd/{held}", "wait", "/trap/config.json"]
        subprocess.run(argv, pass_fds=[held], check=False, timeout=30, capture_output=True)
    finally:
        os.close(held)


def test_attack_overwrites_a_program_when_nothing_protects_it(
    runtime: Runtime, bundle: Bundle, attacker: Path, directory: Path
) -> None:
    """The replay of CVE-2019-5736 works: a program that is run inside unprotected gets overwritten."""
    victim = directory / "victim"
    shutil.copy2(attacker, victim)
    set_trap(bundle, attacker)
    with runtime.start(bundle, attack(victim)) as container:
        container.wait_output("looking")
        enter_unprotected(container, victim)
        container.wait_output("wrote")
    assert victim.read_bytes()[:11] == b"OVERWRITTEN"


@pytest.mark.cve("CVE-2019-5736")
@pytest.mark.parametrize(
    "command",
    [["/bin/evil"], ["/proc/self/exe", "run", "-b", "/trap", "x"]],
    ids=["interpreter", "self-exe"],
)
def test_cve_2019_5736_exec_does_not_expose_the_runtimes_binary(
    runtime: Runtime, bundle: Bundle, attacker: Path, binary: Path, command: list[str]
) -> None:
    """A container that is entered by `exec` can't write to the runtime's program through /proc/PID/exe."""
    before = digest(binary)
    set_trap(bundle, attacker)
    with runtime.start(bundle, attack(binary)) as container:
        container.wait_output("looking")
        for _ in range(ROUNDS):
            container.exec(*command, check=False)
    assert digest(binary) == before


@pytest.mark.cve("CVE-2019-5736")
def test_cve_2019_5736_run_does_not_expose_the_runtimes_binary(
    runtime: Runtime, bundle: Bundle, attacker: Path, binary: Path
) -> None:
    """An image whose entry point is the runtime itself can't write to it, from a process that joined it."""
    before = digest(binary)
    set_trap(bundle, attacker)
    with runtime.start(bundle, attack(binary)) as container:
        container.wait_output("looking")
        path = f"/proc/{container.pid}/ns/pid"
        specs.add_namespace(bundle.spec, "pid", path)
        for command in (["/bin/evil"], ["/proc/self/exe", "run", "-b", "/trap", "x"]):
            bundle.process["args"] = command
            runtime.run(bundle, check=False)
    assert digest(binary) == before


@pytest.mark.cve("CVE-2024-21626")
@pytest.mark.parametrize("number", range(3, 16))
def test_cve_2024_21626_cwd_by_descriptor_stays_inside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel, number: int
) -> None:
    """A working directory /proc/self/fd/N is refused or inside: no descriptor of a host directory leaks."""
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    climb = "../" * 12
    result = runtime.run(bundle, f"cat {climb}{str(sentinel.secret)[1:]}", check=False)
    assert "untouched" not in result.stdout


@pytest.mark.cve("CVE-2024-21626")
def test_cve_2024_21626_exec_cwd_by_descriptor_stays_inside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """`exec --cwd /proc/self/fd/N`: the same."""
    climb = "../" * 12
    with runtime.start(bundle) as container:
        for number in range(3, 16):
            flags = ("--cwd", f"/proc/self/fd/{number}")
            result = container.sh(f"cat {climb}{str(sentinel.secret)[1:]}", *flags, check=False)
            assert "untouched" not in result.stdout


@pytest.mark.cve("CVE-2024-21626")
def test_cve_2024_21626_program_by_descriptor_is_not_the_hosts(
    runtime: Runtime, bundle: Bundle, workspace: Path
) -> None:
    """A program path through /proc/self/fd/N can't reach a program of the host."""
    tool = workspace / "hosttool"
    tool.write_text("#!/bin/sh\necho reached\n")
    tool.chmod(0o755)
    for number in range(3, 16):
        bundle.process["args"] = [f"/proc/self/fd/{number}/{'../' * 12}{str(tool)[1:]}"]
        assert "reached" not in runtime.run(bundle, check=False).stdout


@pytest.mark.cve("CVE-2024-21626", "CVE-2016-9962")
def test_descriptors_of_the_runtime_do_not_reach_the_program(runtime: Runtime, bundle: Bundle) -> None:
    """The program starts with descriptors 0 to 2 only, by `run` and by `exec`, also when the caller had more open."""
    script = "for fd in /proc/self/fd/*; do [ ${fd##*/} -gt 2 ] && readlink $fd; done; true"
    caller_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        ran = runtime.run(bundle, script, pass_fds=[caller_fd])
        with runtime.start(bundle) as container:
            entered = container.sh(script, pass_fds=[caller_fd])
    finally:
        os.close(caller_fd)
    # The shell's own directory stream on /proc/PID/fd is gone by the time readlink runs.
    assert [line for line in ran.lines + entered.lines if not line.startswith("/proc/")] == []


@pytest.mark.cve("CVE-2021-43784")
def test_cve_2021_43784_long_path_is_not_taken_for_other_settings(runtime: Runtime, bundle: Bundle) -> None:
    """A value of more than 64 KiB is refused: it can't wrap a length and smuggle settings in."""
    specs.add_namespace(bundle.spec, "ipc", "/proc/self/ns/ipc" + "/" * 70000)
    runtime.refuse(bundle)


@pytest.mark.cve("CVE-2025-24965", "CVE-2026-84042")
def test_cve_2025_24965_handler_file_of_the_image_is_not_followed(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """An image's .krun_config.json that is a symlink leads nowhere, whatever handler is asked for."""
    (bundle.rootfs / ".krun_config.json").symlink_to(sentinel.secret)
    bundle.spec["annotations"] = {"run.oci.handler": "krun"}
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()
