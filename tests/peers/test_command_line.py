"""``corral login``, ``push``, ``pull`` and ``run`` with a real registry: TLS, a password, bars on a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peers.registry import PASSWORD, USER, PeerRegistry
from root.cli.conftest import Cli, cli
from root.engine.conftest import engine

__all__ = ["cli", "engine"]

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]


@pytest.fixture
def image(cli: Cli, tmp_path: Path) -> str:
    """An image in the store, with content that no registry has yet."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "echo").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "echo").chmod(0o755)
    (root / "chance").write_bytes(os.urandom(300_000))
    cli("import", "-c", 'CMD ["/bin/echo", "pulled"]', str(root), "mine:1")
    return "mine:1"


def test_image_goes_to_a_registry_and_comes_back(cli: Cli, trusted: PeerRegistry, image: str, tmp_path: Path) -> None:
    """Refused without a login; then pushed, removed, and fetched by `run` itself; logout forgets."""
    there = f"{trusted.host}/some/{image}"
    refused = cli("push", image, there, code=125)
    assert "hint: log in with `corral login`" in refused.stderr
    wrong = cli("login", "-u", USER, "--password-stdin", trusted.host, text="wrong\n", code=125)
    assert "user name or password is wrong" in wrong.stderr
    done = cli("login", "-u", USER, "--password-stdin", trusted.host, text=f"{PASSWORD}\n")
    assert done.stdout.startswith(f"logged in to {trusted.host} as {USER} (")
    assert PASSWORD not in done.stdout + done.stderr
    assert cli("login", "--get-login", trusted.host).stdout == f"{USER}\n"
    pushed = cli("push", "--digestfile", f"{tmp_path}/digest", image, there)
    assert pushed.stdout.strip() == (tmp_path / "digest").read_text()
    assert "pushing mine:1\n" in pushed.stderr
    cli("rmi", image)
    ran = cli("run", "--rm", "--network", "none", there)
    assert ran.stdout == "pulled\n"
    assert ran.stderr.startswith(f"pulling {there}\n")
    assert cli("run", "--rm", "--network", "none", there).stderr == ""
    cli("logout", trusted.host)
    assert cli("login", "--get-login", trusted.host, code=1).stdout == ""


def test_pull_shows_bars_on_a_terminal_and_nothing_when_quiet(cli: Cli, trusted: PeerRegistry, image: str) -> None:
    """A line for each blob, drawn over; --quiet prints the id alone."""
    there = f"{trusted.host}/some/bars:1"
    creds = ("--creds", f"{USER}:{PASSWORD}")
    cli("push", *creds, image, there)
    cli("rmi", image)
    seen, code = cli.on_terminal("pull", *creds, there)
    assert code == 0
    assert f"pulling {there}" in seen
    assert "\x1b[2K" in seen
    assert " layer  done " in seen
    quiet = cli("pull", "-q", *creds, there)
    assert (len(quiet.stdout.strip()), quiet.stderr) == (64, "")


def test_image_that_is_nowhere_is_told_so(cli: Cli, trusted: PeerRegistry) -> None:
    """The reference and what to do stand in the message; --pull never does not even ask."""
    name = f"{trusted.host}/some/nothing:1"
    done = cli("run", "--rm", "--creds", f"{USER}:{PASSWORD}", name, code=125)
    assert name in done.stderr
    never = cli("run", "--rm", "--pull", "never", name, code=125)
    assert never.stderr.startswith(f"find image {name!r}: not in the store")
