"""A scope of a user's own manager, which on v1 has none of the controllers."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from corral.cgroup.layout import Hierarchy, Layout
from corral.runtime import scopes
from corral.runtime.groups import MAKE_ABSENT_IS_FINE
from corral.runtime.host import Host
from unit.runtime.jobs import compiled, config, namespaces

ABOVE = "/user.slice/user-1000.slice/user@1000.service"
OWN = f"{ABOVE}/app.slice/me.service"


class UserManager:
    """As much of the user's systemd as placing asks for."""

    def manager_path(self, *, deadline_s: float) -> str:
        """The group in which it makes its units."""
        assert deadline_s > 0
        return ABOVE


@pytest.fixture(autouse=True)
def _user_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "user_manager", lambda environ: contextlib.nullcontext(UserManager()))


def may_be_absent(**resources: Any) -> dict[str, bool]:
    """By mount point: whether the container goes without a group there, if none can be made."""
    pids = Hierarchy(0, 1, ("pids",), mount_point="/cg/pids", own_path="/user.slice")
    named = Hierarchy(1, 1, ("name=systemd",), mount_point="/cg/systemd", own_path=OWN)
    host = Host(Layout((pids, named)), euid=1000, egid=1000, permitted=0, effective=0)
    ids = [{"containerID": 0, "hostID": 1000, "size": 1}]
    spaces = namespaces("mount", "user", "pid", "ipc", "uts", "network")
    document = config(
        cgroupsPath="x.slice:c:one", namespaces=spaces, uidMappings=ids, gidMappings=ids, resources=resources
    )
    job = compiled(document, host, manager="systemd")
    points = {number: hierarchy.mount_point for number, hierarchy, _ in job.groups.members}
    made: list[Any] = [step.args for step in job.plan if step.op == "CG_MAKE"]
    return {points[number]: bool(flags & MAKE_ABSENT_IS_FINE) for number, flags, *_ in made}


def test_v1_controllers_that_nobody_delegated_are_done_without() -> None:
    """The scope was asked for, and is had; what it lies in elsewhere was not."""
    assert may_be_absent() == {"/cg/pids": True, "/cg/systemd": False}


def test_limit_of_a_v1_controller_is_not_done_without() -> None:
    """S2.4: never silently unlimited."""
    assert may_be_absent(pids={"limit": 5}) == {"/cg/pids": False, "/cg/systemd": False}
