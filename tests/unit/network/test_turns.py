"""Calls of plugins take turns, by a lock that a plugin keeps when the engine that called it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.errors import Unavailable
from corral.network.plugins import run_plugin
from corral.network.turns import Turn

HOLD = "import sys; print('ready', flush=True); sys.stdin.read()"


def hold(fd: int, container_id: str) -> subprocess.Popen[bytes]:
    """A program that has inherited the turn, as a plugin of this container."""
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"CNI_CONTAINERID": container_id},
        pass_fds=(fd,),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def lose(turn: Turn) -> None:
    """End as an engine does that is killed: its descriptor is closed, and nothing is said."""
    os.close(turn._fd)
    turn._fd = -1


def test_turn_lasts_until_the_plugin_of_a_killed_engine_ends(tmp_path: Path) -> None:
    """Whoever comes next waits for it, and has the turn then."""
    turn = Turn(str(tmp_path), "abc", 60.0)
    process = hold(turn.__enter__(), "abc")
    lose(turn)
    with pytest.raises(Unavailable, match="an earlier call goes on"), Turn(str(tmp_path), "another", 0.0):
        pytest.fail("it was not waited for")
    assert process.poll() is None
    process.communicate()
    with Turn(str(tmp_path), "abc", 0.0) as fd:
        assert fd >= 0


def test_plugin_of_a_killed_engine_is_killed_after_its_time(tmp_path: Path) -> None:
    """As any plugin is that does not end; it is known by the container's id."""
    turn = Turn(str(tmp_path), "abc", 60.0)
    process = hold(turn.__enter__(), "abc")
    lose(turn)
    with Turn(str(tmp_path), "abc", 0.0):
        assert process.wait() == -9
    process.communicate()


def test_turn_ends_with_the_call_whatever_the_plugin_has_started(tmp_path: Path) -> None:
    """A service of the plugin's that keeps the descriptor keeps nobody waiting."""
    with Turn(str(tmp_path), "abc", 60.0) as fd:
        process = hold(fd, "abc")
    with Turn(str(tmp_path), "abc", 0.0) as fd:
        assert fd >= 0
    assert process.poll() is None
    process.communicate()


def test_container_without_a_directory_has_nobody_to_wait_for(tmp_path: Path) -> None:
    """It was removed meanwhile: the turn is there, without a descriptor."""
    with Turn(str(tmp_path / "gone"), "abc", 0.0) as fd:
        assert fd == -1


def test_plugin_inherits_the_turn(tmp_path: Path) -> None:
    """And nothing else of ours beside its pipes."""
    plugin = tmp_path / "fake"
    with Turn(str(tmp_path), "abc", 0.0) as fd:
        ask = f"import json, os; print(json.dumps({{'is': os.readlink('/proc/self/fd/{fd}')}}))"
        plugin.write_text(f"#!{sys.executable} -IS\n{ask}\n")
        plugin.chmod(0o755)
        answer = run_plugin("ADD", {"type": "fake", "name": "n"}, {}, directories=[str(tmp_path)], kept_fd=fd)
    assert answer == {"is": str(tmp_path)}
