"""S2.10, S2.11 and S2.13: containers that have no group, because none was wanted or none could be had."""

from __future__ import annotations

import os
import signal

import pytest

from behaviours import facts, places
from behaviours.facts import applies
from behaviours.groupless import OWN_VIEW, READ_ONLY, live, no_place, warnings_of, without_cgroup
from conformance.harness import Bundle, Runtime
from conformance.holders import in_private_mounts
from conformance.rootfs import chown_tree
from conformance.spec import drop_mount, drop_namespace, map_ids

NO_CGROUP = 3
CGROUPFS = applies("root", "cgroupfs-driver")


def test_s2_10_kill_all_with_neither_group_nor_pid_namespace_warns(runtime: Runtime, bundle: Bundle) -> None:
    """Nobody can tell which processes are all: it says so."""
    drop_namespace(bundle.spec, "pid")
    drop_mount(bundle.spec, "/proc")
    with without_cgroup(runtime).start(no_place(bundle)) as c:
        done = c.kill("KILL", "--all", check=False)
        assert "cgroup" in done.stderr
        if done.returncode == 0:
            assert c.wait() == 137


def test_s2_10_kill_all_with_a_pid_namespace_needs_no_group(runtime: Runtime, bundle: Bundle) -> None:
    """The end of its init ends all, so there is nothing to warn of."""
    with without_cgroup(runtime).start(no_place(bundle)) as c:
        done = c.kill("KILL", "--all")
        assert (done.stderr, c.wait()) == ("", 137)


@pytest.mark.parametrize(
    "words", ["ps", "pause", "update --pids-limit 5", "events --stats"], ids=lambda words: words.split()[0]
)
def test_s2_11_command_that_needs_a_group_says_there_is_none(runtime: Runtime, bundle: Bundle, words: str) -> None:
    """`no cgroup (reason)`, an exit code of its own, no traceback; the container goes on."""
    name, *flags = words.split()
    with without_cgroup(runtime).start(no_place(bundle)) as c:
        done = runtime(name, *flags, c.id, check=False)
        assert done.returncode == NO_CGROUP
        assert "has no cgroup (the cgroup manager is disabled)" in done.stderr
        assert "Traceback" not in done.stderr
        assert c.status == "running"


def nested(setup: str) -> list[str]:
    """A wrapper: the command runs in cgroup and mount namespaces of its own, after `setup`."""
    return ["unshare", "--cgroup", *in_private_mounts(setup)[1:]]


@CGROUPFS
def test_s2_13_life_in_a_nested_read_only_place_is_without_error(runtime: Runtime, bundle: Bundle) -> None:
    """A container's view: a cgroup namespace and read-only binds; root of a user namespace, no limits, no path."""
    no_place(bundle)
    drop_namespace(bundle.spec, "cgroup")
    if facts.wants_userns():
        # Of all ids there is only one in there.
        map_ids(bundle.spec, 0, size=1)
        chown_tree(bundle.rootfs, 0, 0)
    home = bundle.path / "home"
    home.mkdir()
    runtime.env = {"XDG_RUNTIME_DIR": str(home)}
    view = OWN_VIEW if facts.mode() == "v2" else ""
    runtime.prefix = [*nested(READ_ONLY)[:-2], f'{view}\n{READ_ONLY}\nexec unshare --user --map-root-user "$@"', "sh"]
    drop_mount(bundle.spec, "/dev/pts")
    created, *others = live(runtime, bundle)
    assert len(warnings_of(created.stderr)) == 1
    assert [done.stderr for done in others] == ["", "", ""]


def test_s2_13_life_with_the_manager_disabled_is_without_error(runtime: Runtime, bundle: Bundle) -> None:
    """No group is made or looked for; every command exits 0."""
    before = places.walk()
    for done in live(without_cgroup(runtime), no_place(bundle)):
        assert done.returncode == 0
    assert {group for group in places.walk() - before if "ct" in group.name and str(os.getpid()) in group.name} == set()


@applies("root")
def test_s2_13_limit_with_the_manager_disabled_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """S2.4 holds there too."""
    bundle.resources["pids"] = {"limit": 5}
    without_cgroup(runtime).refuse(bundle, "the cgroup manager is disabled")


def test_s2_13_signal_reaches_init_without_a_group(runtime: Runtime, bundle: Bundle) -> None:
    """kill of one process needs no group."""
    with without_cgroup(runtime).start(no_place(bundle)) as c:
        c.kill("TERM", check=False)
        c.kill(str(int(signal.SIGKILL)))
        assert c.wait() == 137
