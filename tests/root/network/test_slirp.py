"""slirp4netns as root: a network that needs no bridge, carried by a process of which nothing stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from root.network.conftest import ADDRESS, Host

pytestmark = [pytest.mark.requires("root", "cni", "slirp4netns"), pytest.mark.timeout(300)]


def test_slirp_carries_ports_and_ends_with_the_container(host: Host) -> None:
    """Published on all addresses; its own resolver and addresses are in the files."""
    host.serve("web", "--network", "slirp4netns:cidr=10.5.0.0/24", "-p", "8096:80")
    assert host.ask("127.0.0.1", 8096) == "web"
    assert host.ask(ADDRESS, 8096) == "web"
    assert host("exec", "web", "cat", "/etc/resolv.conf").stdout == "nameserver 10.5.0.3\n"
    assert f"{ADDRESS}\thost.containers.internal" in host("exec", "web", "cat", "/etc/hosts").stdout
    helper = host.network_of("web")["helper"]["pid"]
    host("stop", "-t", "0", "web")
    assert not Path(f"/proc/{helper}/cmdline").exists() or Path(f"/proc/{helper}/cmdline").read_bytes() == b""


def test_slirp_that_nobody_put_down_is_ended(host: Host) -> None:
    """The engine was killed between starting it and writing that down."""
    words = ["run", "-d", "--name", "c", "--network", "slirp4netns", "host", "sleep", "1000"]
    assert host(*words, code=None, env={"CORRAL_FAILPOINT": "engine:network.helper:kill"}).returncode == -9
    host("gc")
    assert _slirps(host) == []


def test_unknown_option_leaves_nothing(host: Host) -> None:
    """Refused in words, before the helper is started."""
    done = host("run", "--network", "slirp4netns:speed=9", "host", "true", code=125)
    assert "slirp4netns:speed=9: unknown" in done.stderr
    assert _slirps(host) == []


def _slirps(host: Host) -> list[str]:
    """Pids of those that work for this store."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            where, text = os.readlink(path / "cwd"), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if b"slirp4netns" in text and where.startswith(str(host.store)):
            found.append(path.name)
    return found
