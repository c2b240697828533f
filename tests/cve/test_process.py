"""Flaws in what a process of the container is given: ids, capabilities, environment."""

from __future__ import annotations

import json

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, Runtime, parse_status

NONE = "0000000000000000"


@pytest.mark.cve("CVE-2022-29162", "CVE-2022-27650", "CVE-2025-27612")
def test_cve_2022_29162_exec_cap_adds_nothing_inheritable(runtime: Runtime, bundle: Bundle) -> None:
    """`exec --cap` leaves the inheritable and the ambient set as the container's process has them: empty."""
    with runtime.start(bundle) as container:
        status = parse_status(container.sh("cat /proc/self/status", "--cap", "CAP_NET_RAW").stdout)
    assert (status["CapInh"], status["CapAmb"]) == (NONE, NONE)
    assert int(status["CapEff"], 16) >> 13 & 1 == 1


@pytest.mark.cve("CVE-2022-27650")
def test_cve_2022_27650_run_and_exec_have_the_same_empty_inheritable_set(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing is inheritable unless config.json says so, neither for the first process nor for later ones."""
    with runtime.start(bundle) as container:
        first = parse_status(container.proc("status"))
        later = parse_status(container.sh("cat /proc/self/status").stdout)
    assert [first["CapInh"], later["CapInh"], first["CapAmb"], later["CapAmb"]] == [NONE] * 4


@pytest.mark.cve("CVE-2022-29162")
def test_spec_makes_a_config_without_inheritable_capabilities(runtime: Runtime, bundle: Bundle) -> None:
    """The config.json that `spec` writes asks for no inheritable capabilities."""
    (bundle.path / "config.json").unlink(missing_ok=True)
    runtime("spec", "--bundle", bundle.path)
    written = json.loads((bundle.path / "config.json").read_text())
    assert written["process"]["capabilities"].get("inheritable", []) == []


@pytest.mark.cve("CVE-2026-30892")
@pytest.mark.parametrize(("asked", "got"), [("1", "1 0"), ("1000", "1000 0"), ("1:2", "1 2"), ("0:7", "0 7")], ids=str)
def test_cve_2026_30892_exec_user_is_the_one_asked_for(runtime: Runtime, bundle: Bundle, asked: str, got: str) -> None:
    """`exec -u 1` is uid 1 with gid 0, not root."""
    with runtime.start(bundle) as container:
        assert container.sh("echo $(id -u) $(id -g)", "--user", asked).stdout == f"{got}\n"


@pytest.mark.cve("CVE-2026-46680")
@pytest.mark.parametrize("asked", ["-1", "4294967295", "99999999999999999999", "1x", "0x0", "", ":"])
def test_cve_2026_46680_exec_user_that_is_no_id_is_not_root(runtime: Runtime, bundle: Bundle, asked: str) -> None:
    """What is no id is refused: it is not looked up in the image's passwd either."""
    with (bundle.rootfs / "etc/passwd").open("a") as passwd:
        passwd.write(f"{asked}:x:0:0::/:/bin/sh\n")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    with runtime.start(bundle) as container:
        result = container.sh("id -u", f"--user={asked}", check=False)
    assert result.stdout != "0\n"


@pytest.mark.cve("CVE-2026-46680/wrap")
def test_cve_2026_46680_exec_user_does_not_wrap_to_root(runtime: Runtime, bundle: Bundle) -> None:
    """2 to the power of 32 is no id: cut to 32 bits it would be root."""
    with runtime.start(bundle) as container:
        assert container.sh("id -u", "--user=4294967296", check=False).stdout != "0\n"


@pytest.mark.cve("CVE-2026-46680")
@pytest.mark.parametrize("uid", [4294967296, -1, 4294967295, 1 << 64])
def test_cve_2026_46680_config_user_out_of_range_is_not_root(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    """The same for process.user.uid."""
    bundle.process["user"] = {"uid": uid, "gid": 1000}
    assert runtime.run(bundle, "id -u", check=False).stdout != "0\n"


@pytest.mark.cve("CVE-2016-9962")
def test_cve_2016_9962_container_can_not_trace_what_enters_it(runtime: Runtime, bundle: Bundle) -> None:
    """While `exec` enters, a root process of the container never sees a descriptor of the runtime's.

    The watcher lists the descriptors of every other process that it meets in /proc.
    """
    specs.set_capabilities(bundle.spec, "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE")
    watch = "while :; do for f in /proc/[0-9]*/fd/*; do readlink $f 2>/dev/null; done; done >> /seen"
    with runtime.start(bundle, f"echo watching; {watch}") as container:
        container.wait_output("watching")
        for _ in range(20):
            container.exec("/bin/true")
    links = set((bundle.rootfs / "seen").read_text().splitlines())
    ours = ("/run/", "/var/", str(runtime.root.parent))
    # The container's own output file is a descriptor that the caller gave it.
    assert {link for link in links if link.startswith(ours) and not link.endswith(".output")} == set()


@pytest.mark.cve("CVE-2024-3154")
def test_cve_2024_3154_annotations_of_a_pod_do_not_change_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """Annotations that name systemd properties have no effect without the systemd driver."""
    bundle.spec["annotations"] = {"org.systemd.property.ExecStartPre": "['/bin/touch', '/tmp/corral-replay']"}
    result = runtime.run(bundle, "echo ran; test -e /tmp/corral-replay && echo reached", check=False)
    assert "reached" not in result.stdout
