"""What ``pip install`` makes: the programs, the launcher with its fixed interpreter, the tag, a package that starts."""

from __future__ import annotations

import platform
import re
import zipfile
from pathlib import Path

import pytest

from native.install import ROOT, run

pytestmark = [pytest.mark.timeout(600), pytest.mark.requires("cc")]


def test_wheel_is_tagged_for_static_programs(wheel: Path) -> None:
    """No Python version and no libc is demanded: any glibc from 2.17, any musl from 1.1."""
    machine = platform.machine()
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}.whl")


def test_wheel_ships_the_programs_as_scripts(wheel: Path) -> None:
    """All programs lie in the wheel's scripts folder, executable; the launcher waits for its interpreter."""
    archive = zipfile.ZipFile(wheel)
    names = {name.rpartition("/")[2]: name for name in archive.namelist() if ".data/scripts/" in name}
    text = (ROOT / "native" / "build.py").read_text()
    programs = re.findall(r'^    "(corral[a-z-]*)": \(', text, re.MULTILINE)
    assert sorted(names) == sorted([*programs, "corral-planner"])
    assert {"corral", "corral-runtime"} <= set(programs)
    assert all(archive.getinfo(name).external_attr >> 16 & 0o111 for name in names.values())
    assert archive.read(names["corral-runtime"])[:4] == b"\x7fELF"
    assert archive.read(names["corral-planner"]).splitlines()[0] == b"#!python"


def test_wheel_ships_manual_pages_and_completions(wheel: Path) -> None:
    """They lie where man and the shells look below an installation."""
    names = {name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    assert {
        "share/man/man1/corral.1",
        "share/man/man1/corral-run.1",
        "share/bash-completion/completions/corral",
        "share/zsh/site-functions/_corral",
        "share/fish/vendor_completions.d/corral.fish",
    } <= names


def test_installed_program_is_static(prefix: Path) -> None:
    """The installed program asks for no loader: a container's or the host's libc does not matter to it."""
    program = (prefix / "bin" / "corral-runtime").read_bytes()
    assert b"ld-linux" not in program
    assert b"ld-musl" not in program


def test_installed_launcher_names_the_environments_interpreter(prefix: Path) -> None:
    """The first line is ``#!`` and the absolute path of the environment's Python, without arguments."""
    first = (prefix / "bin" / "corral-planner").read_text().splitlines()[0]
    assert first.startswith(f"#!{prefix}/bin/python")
    assert " " not in first


def test_installed_command_answers_with_a_hostile_environment(prefix: Path, tmp_path: Path) -> None:
    """PATH and PYTHON* variables choose neither the interpreter nor its modules."""
    (tmp_path / "corral").mkdir()
    (tmp_path / "corral" / "__init__.py").write_text("raise SystemExit('the wrong corral')")
    (tmp_path / "python3").write_text("#!/bin/sh\necho the wrong python\nexit 3\n")
    (tmp_path / "python3").chmod(0o755)
    text = run(
        str(prefix / "bin" / "corral-runtime"),
        "features",
        PATH=str(tmp_path),
        PYTHONPATH=str(tmp_path),
        PYTHONHOME=str(tmp_path),
        PYTHONSTARTUP=str(tmp_path / "corral" / "__init__.py"),
    )
    assert '"ociVersionMax"' in text


def test_installed_command_answers_through_a_link(prefix: Path, tmp_path: Path) -> None:
    """A link of any name, from anywhere, finds its launcher beside the real program."""
    (tmp_path / "runc").symlink_to(prefix / "bin" / "corral-runtime")
    assert '"ociVersionMax"' in run(str(tmp_path / "runc"), "features")


def test_package_is_installed_with_bytecode(prefix: Path) -> None:
    """Cold starts never compile: the bytecode is written at install."""
    (folder,) = (prefix / "lib").glob("python*/site-packages/corral/__pycache__")
    assert [path.name.split(".")[0] for path in folder.glob("_boot.*.pyc")] == ["_boot"]
