"""The five capability sets, noNewPrivileges, and what a change of user does to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.harness import Bundle, Runtime, parse_status
from conformance.spec import set_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
KINDS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}
STATUS = "cat /proc/self/status"


def mask(*names: str) -> int:
    """The bits of these capabilities."""
    return sum(1 << NUMBERS[name] for name in names)


def sets_of(text: str) -> dict[str, int]:
    """The five sets from the text of /proc/PID/status."""
    status = parse_status(text)
    return {kind: int(status[field], 16) for kind, field in KINDS.items()}


def ask(bundle: Bundle, **sets: Iterable[str]) -> None:
    """Let the config have these sets and no others."""
    bundle.process["capabilities"] = {kind: list(names) for kind, names in sets.items()}


def own_sets(runtime: Runtime, bundle: Bundle) -> dict[str, int]:
    """The sets of the init itself while it runs: a root who executes gets more from the kernel."""
    bundle.process["args"] = ["/bin/cat", "/proc/self/status"]
    return sets_of(runtime.run(bundle).stdout)


def test_bounding_set_limits_root(runtime: Runtime, bundle: Bundle) -> None:
    """Root's capabilities after exec are those of the bounding set."""
    set_capabilities(bundle.spec, "CAP_CHOWN", "CAP_KILL")
    found = own_sets(runtime, bundle)
    assert found["bounding"] == found["effective"] == found["permitted"] == mask("CAP_CHOWN", "CAP_KILL")


def test_no_capabilities_means_none(runtime: Runtime, bundle: Bundle) -> None:
    """Empty sets leave root without any right."""
    ask(bundle, bounding=[], effective=[], permitted=[], inheritable=[], ambient=[])
    assert set(own_sets(runtime, bundle).values()) == {0}


def test_capabilities_absent_means_none(runtime: Runtime, bundle: Bundle) -> None:
    """Without process.capabilities the program has none."""
    del bundle.process["capabilities"]
    found = own_sets(runtime, bundle)
    assert (found["effective"], found["permitted"], found["inheritable"]) == (0, 0, 0)


def test_ambient_capabilities_survive_for_an_unprivileged_user(runtime: Runtime, bundle: Bundle) -> None:
    """A user other than root keeps the ambient set over exec."""
    set_capabilities(bundle.spec, "CAP_NET_BIND_SERVICE", "CAP_KILL", ambient=True)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = own_sets(runtime, bundle)
    assert found == dict.fromkeys(KINDS, mask("CAP_NET_BIND_SERVICE", "CAP_KILL"))


def test_unprivileged_user_without_ambient_has_none(runtime: Runtime, bundle: Bundle) -> None:
    """A user other than root loses permitted and effective over exec; bounding stays."""
    set_capabilities(bundle.spec, "CAP_NET_BIND_SERVICE")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = own_sets(runtime, bundle)
    assert (found["effective"], found["permitted"]) == (0, 0)
    assert found["bounding"] == mask("CAP_NET_BIND_SERVICE")


def test_inheritable_set(runtime: Runtime, bundle: Bundle) -> None:
    """The inheritable set is what the config says, also apart from the others."""
    ask(bundle, bounding=["CAP_CHOWN", "CAP_KILL"], permitted=["CAP_CHOWN", "CAP_KILL"], inheritable=["CAP_KILL"])
    assert own_sets(runtime, bundle)["inheritable"] == mask("CAP_KILL")


def test_bounding_set_alone_for_a_user(runtime: Runtime, bundle: Bundle) -> None:
    """Bounding without permitted gives an unprivileged user nothing."""
    ask(bundle, bounding=["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"])
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = own_sets(runtime, bundle)
    assert found["bounding"] == mask("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID")
    assert found["effective"] == found["permitted"] == found["ambient"] == 0


@pytest.mark.parametrize("name", ["CAP_SYS_CHROOT", "CAP_SYSLOG", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"])
def test_each_capability_by_name(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Names old and new reach their own bit."""
    set_capabilities(bundle.spec, name)
    assert own_sets(runtime, bundle)["effective"] == mask(name)


def test_unknown_capability_is_not_granted(runtime: Runtime, bundle: Bundle) -> None:
    """A name that the kernel does not know is refused or ignored, and never becomes another."""
    set_capabilities(bundle.spec, "CAP_CHOWN", "CAP_OF_TOMORROW")
    bundle.process["args"] = ["/bin/cat", "/proc/self/status"]
    done = runtime.run(bundle, check=False)
    if done.returncode == 0:
        assert sets_of(done.stdout)["effective"] == mask("CAP_CHOWN")
    else:
        assert "CAP_OF_TOMORROW" in done.stderr


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(runtime: Runtime, bundle: Bundle, value: bool) -> None:
    """process.noNewPrivileges is the kernel's bit."""
    bundle.process["noNewPrivileges"] = value
    assert parse_status(runtime.run(bundle, STATUS).stdout)["NoNewPrivs"] == str(int(value))


def test_no_new_privileges_disarms_setuid(runtime: Runtime, bundle: Bundle) -> None:
    """With the bit, a set-user-id program runs as who called it."""
    target = bundle.rootfs / "bin/idsuid"
    target.write_bytes((bundle.rootfs / "bin/busybox").read_bytes())
    target.chmod(0o4755)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["noNewPrivileges"] = True
    script = "ln -s /bin/idsuid /tmp/cat; /tmp/cat /proc/self/status | grep ^Uid"
    assert runtime.run(bundle, script).stdout.split() == ["Uid:", "1000", "1000", "1000", "1000"]


def test_chown_needs_its_capability(runtime: Runtime, bundle: Bundle) -> None:
    """The sets have effect: without CAP_CHOWN root cannot give a file away."""
    set_capabilities(bundle.spec, "CAP_KILL")
    assert runtime.run(bundle, "> /f; chown 5 /f || echo refused").lines[-1] == "refused"
    set_capabilities(bundle.spec, "CAP_CHOWN")
    assert runtime.run(bundle, "chown 5 /f; stat -c %u /f").lines[-1] == "5"


def test_capabilities_of_a_user_namespace_are_not_the_hosts(runtime: Runtime, bundle: Bundle) -> None:
    """All capabilities in a user namespace are none over the host."""
    from conformance.rootfs import chown_tree
    from conformance.spec import add_bind, map_ids

    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    foreign = bundle.host_dir("foreign")
    add_bind(bundle.spec, str(foreign), "/mnt")
    set_capabilities(bundle.spec, *NUMBERS)
    done = runtime.run(bundle, "> /mnt/x || echo refused; grep CapEff /proc/self/status")
    assert done.lines[0] == "refused"
    assert int(done.lines[1].split()[1], 16) == mask(*NUMBERS)
