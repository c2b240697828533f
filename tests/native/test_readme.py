"""What the README promises a stranger works as it is written there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from native.install import ROOT

pytestmark = [pytest.mark.timeout(600), pytest.mark.requires("root", "busybox", "cc")]


def indented_block(text: str, first: str) -> str:
    """The commands of a README block, from the line that begins with ``first`` to the end of the block."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"    {first}"))
    block = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        block.append(line.removeprefix("    "))
    return "\n".join(block)


def test_first_container_of_the_runtime_works_as_written(prefix: Path, tmp_path: Path) -> None:
    """The commands under "Installing", run one after the other, end with the container's output."""
    script = indented_block((ROOT / "README.md").read_text(), "mkdir -p bundle")
    script = script.replace("/opt/corral/", f"{prefix}/").replace("run hello", f"run readme-{tmp_path.name}")
    result = subprocess.run(["/bin/sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "hello from 1"


def test_demo_shows_the_limits_it_asked_for(prefix: Path) -> None:
    """`make run`'s container sees its own names and limits, and leaves nothing behind."""
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--runtime", str(prefix / "bin" / "corral-runtime")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shown = [line.split(None, 1) for line in result.stdout.splitlines() if " " in line]
    facts = {key: value.strip() for key, value in shown}
    assert (result.returncode, facts["hostname"], facts["left"]) == (0, "corral-demo", "behind     nothing")
    assert facts["user"].startswith("uid=0")
    assert "= 67108864" in result.stdout
    assert "pids.max = 32" in result.stdout


def test_demo_of_the_engine_runs_to_its_end(prefix: Path) -> None:
    """`make run` begins with the engine: hello, a container in the background, what is told of it, its removal."""
    command = [sys.executable, str(ROOT / "tools" / "demo_engine.py"), "--corral", str(prefix / "bin" / "corral")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    shown = result.stdout.splitlines()
    assert shown[:2] == ["$ corral run --rm host -- echo hello", "hello"]
    assert any(line.startswith("web  ") and "Exited (137)" in line for line in shown)
    assert shown[-2:] == ["$ corral rm web", "web"]


def test_podmans_configuration_in_the_readme_names_the_runtime() -> None:
    """Podman takes JSON errors only from the names in runtime_supports_json: the README's line holds ours."""
    text = (ROOT / "README.md").read_text()
    line = next(line for line in text.splitlines() if "runtime_supports_json =" in line)
    assert "corral-runtime" in json.loads(line.partition("=")[2])
