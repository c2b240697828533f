"""corral.engine.places: where things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine import places as module
from corral.engine.places import Places
from corral.errors import InvalidArgument


def test_run_directory_is_in_the_store_when_none_is_given() -> None:
    """Two stores never share a run directory by accident."""
    assert Places("/srv/one").run == "/srv/one/run"


def test_paths_of_a_container_when_it_has_an_id() -> None:
    """The tree of docs/design/engine.md."""
    found = Places("/s", "/r")
    shown = [found.container("x"), found.container_run("x"), found.bundle("x"), found.exec_run("x", "e")]
    assert shown == ["/s/containers/x", "/r/containers/x", "/r/containers/x/bundle", "/r/containers/x/exec/e"]
    assert (found.runtime_root, found.record("x")) == ("/r/runtime", "/r/runtime/x")


def test_the_users_own_places_when_it_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rootless: the data home and the runtime directory."""
    monkeypatch.setattr(module, "is_rootless", lambda: True)
    found = Places.find({"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1"})
    assert (found.store, found.run) == ("/home/u/.local/share/corral", "/run/user/1/corral")


def test_the_environment_names_the_store_when_no_flag_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag over the environment, the environment over the default."""
    monkeypatch.setattr(module, "is_rootless", lambda: False)
    environ = {"CORRAL_STORE": "/from/env"}
    assert Places.find(environ).store == "/from/env"
    assert Places.find(environ, store="/from/flag").store == "/from/flag"
    assert (Places.find({}).store, Places.find({}).run) == ("/var/lib/corral", "/run/corral")


def test_a_relative_store_is_refused_when_it_is_not_resolved() -> None:
    """Paths outlive the working directory of who made them."""
    with pytest.raises(InvalidArgument, match="not an absolute path"):
        Places("relative")


def test_prepare_makes_the_directories_for_the_owner_only(tmp_path: Path) -> None:
    """What containers hold is not for every user of the host to read."""
    found = Places(str(tmp_path / "s"))
    found.prepare()
    found.prepare()
    assert Path(found.containers).stat().st_mode & 0o777 == 0o700
