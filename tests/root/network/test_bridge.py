"""Bridges by real CNI plugins: traffic through published ports, between containers, names, and nothing left behind."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from native.driver import make_rootfs
from root.network.conftest import ADDRESS, Host

pytestmark = [pytest.mark.requires("root", "cni", "cc", "busybox"), pytest.mark.timeout(400)]

ENGINE = Path(__file__).resolve().parents[3] / "src" / "corral" / "engine"
POINTS = sorted(set(re.findall(r'failpoint\("(network\.[a-z_.]+)"\)', (ENGINE / "network.py").read_text())))


def test_published_ports_lead_into_the_container_until_it_is_gone(host: Host) -> None:
    """TCP and UDP, by loopback and by the host's address; `port` shows the number that was chosen."""
    made = host.serve("web", "--network", "bridge", "-p", "80", "-p", "8090:80/udp")
    chosen = int(host("port", "web", "80").stdout.rpartition(":")[2])
    assert host.ask("127.0.0.1", chosen) == "web"
    assert host.ask(ADDRESS, chosen) == "web"
    assert host.ask(ADDRESS, 8090, "udp") == "web"
    host("rm", "-f", "web")
    assert host.rests(made) == []


def test_containers_of_a_network_know_each_other_by_name(host: Host) -> None:
    """Names and aliases in /etc/hosts, which follow who comes and goes."""
    host.serve("web", "--network", "bridge", "--network-alias", "shop")
    host.serve("db", "--network", "bridge")
    assert host.ask_from("db", "shop") == "web"
    # It was there first, and learnt of the other.
    assert host.ask_from("web", "db") == "db"
    host("rm", "-f", "db")
    assert "db" not in host("exec", "web", "cat", "/etc/hosts").stdout.split()


def test_port_of_another_container_is_refused_with_its_name(host: Host) -> None:
    """And nothing is left of the container that did not start."""
    host.serve("web", "-p", "8091:80", "--network", "bridge")
    before = host.rests()
    done = host("run", "-d", "--rm", "-p", "127.0.0.1:8091:80", "--network", "bridge", "host", "true", code=125)
    assert "publish port 127.0.0.1:8091/tcp: container 'web' has it" in done.stderr
    assert host.rests() == before


def test_networks_can_be_joined_and_left_while_it_runs(host: Host) -> None:
    """An interface more, reached by name on the new network, and one less."""
    host("network", "create", "back", "--subnet", "10.77.0.0/24", "--label", "tier=back")
    host.serve("db", "--network", "back:ip=10.77.0.9,mac=02:00:00:00:77:09")
    assert host.address("db") == "10.77.0.9"
    assert host.network_of("db")["networks"][0]["mac"] == "02:00:00:00:77:09"
    host.serve("web", "--network", "bridge")
    assert host.ask_from("web", "10.77.0.9", code=None) == ""
    host("network", "connect", "--alias", "front", "back", "web")
    assert host.ask_from("web", "db") == "db"
    assert host.ask_from("db", "front") == "web"
    assert {row["name"] for row in json.loads(host("network", "inspect", "back").stdout)[0]["containers"]} == {
        "db",
        "web",
    }
    host("network", "disconnect", "back", "web")
    assert host.ask_from("web", "10.77.0.9", code=None) == ""
    assert "eth1" not in host("exec", "web", "cat", "/proc/net/dev").stdout


def test_container_without_network_can_be_given_one(host: Host) -> None:
    """While it runs; and it has it again when it starts anew. One with the host's cannot."""
    host.serve("web", "--network", "none")
    host("network", "connect", "corral", "web")
    host.serve("other", "--network", "bridge")
    assert host.ask_from("other", "web") == "web"
    host("restart", "-t", "0", "web")
    assert host.network_of("web")["networks"][0]["name"] == "corral"
    host("network", "disconnect", "corral", "web")
    assert host.network_of("web")["networks"] == []
    host("create", "--name", "open", "--network", "host", "host", "true")
    assert "its network is 'host'" in host("network", "connect", "corral", "open", code=None).stderr


def test_network_in_use_stays_and_its_bridge_goes_with_the_last(host: Host) -> None:
    """`rm` names who has it; `prune` takes only what nobody has."""
    host("network", "create", "back")
    host("create", "--name", "c", "--network", "back", "host", "true")
    assert "container 'c' uses it" in host("network", "rm", "back", code=None).stderr
    assert host("network", "prune").stdout == ""
    host("rm", "c")
    host.serve("web", "--network", "back")
    device = json.loads(host("network", "inspect", "back").stdout)[0]["device"]
    assert device in host.inside("ip", "-o", "link").stdout
    host("rm", "-f", "web")
    assert device not in host.inside("ip", "-o", "link").stdout
    assert host("network", "prune").stdout == "back\n"


def test_internal_network_has_no_way_out(host: Host) -> None:
    """Neighbours are reached, the world is not, and ports cannot be published."""
    host("network", "create", "--internal", "inner")
    host.serve("a", "--network", "inner")
    host.serve("b", "--network", "inner")
    assert host.ask_from("a", "b") == "b"
    routes = host("exec", "a", "cat", "/proc/net/route").stdout.splitlines()[1:]
    assert [line for line in routes if line.split()[1] == "00000000"] == []
    done = host("run", "-d", "--network", "inner", "-p", "8092:80", "host", "true", code=125)
    assert "publish ports on network 'inner'" in done.stderr


def test_members_of_a_pod_share_its_address_and_ports(host: Host) -> None:
    """The pod publishes; loopback is common; others find each member by its name."""
    host("pod", "create", "--name", "p", "--network", "bridge", "-p", "8093:80")
    host.serve("inner", "--pod", "p")
    assert host.ask("127.0.0.1", 8093) == "inner"
    host.serve("other", "--network", "bridge")
    assert host.ask_from("other", "p") == "inner"
    host("rm", "-f", "inner", "other")
    host("pod", "rm", "-f", "p")
    assert host.rests() == []


def test_names_that_were_asked_for_are_in_the_files(host: Host) -> None:
    """--dns, --dns-search, --dns-option, --add-host with host-gateway, --hostname; the host has names of its own."""
    words = ["--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:2"]
    words += ["--add-host", "db:10.0.0.5", "--add-host", "me:host-gateway", "--hostname", "box"]
    done = host(
        "run", "--rm", "--network", "bridge", *words, "host", "cat", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"
    )
    gateway = json.loads(host("network", "inspect", "corral").stdout)[0]["gateways"][0]
    lines = done.stdout.splitlines()
    for line in ("nameserver 192.0.2.53", "search example.org", "options ndots:2", "10.0.0.5\tdb", "box"):
        assert line in lines
    assert f"{gateway}\tme" in lines
    assert f"{gateway}\thost.containers.internal host.docker.internal" in lines


def test_missing_plugins_are_named_with_the_package(host: Host) -> None:
    """Before anything was made."""
    done = host("run", "--network", "bridge", "host", "true", code=125, env={"CNI_PATH": "/nonexistent"})
    assert "containernetworking-plugins" in done.stderr
    assert host.rests() == []


def test_unknown_network_is_refused_at_once(host: Host) -> None:
    """No container is made for it."""
    done = host("run", "--network", "nowhere", "host", "true", code=125)
    assert "find network 'nowhere': no such network" in done.stderr
    assert host("ps", "-aq").stdout == ""


@pytest.mark.parametrize("point", POINTS)
def test_engine_killed_at_any_step_leaves_no_network_behind(host: Host, point: str) -> None:
    """Whoever comes next deletes what was on record: names, devices, rules, addresses."""
    command = ["run", "-d", "--name", "c", "--network", "bridge", "-p", "8094:80", "host", "sleep", "1000"]
    if point == "network.deleted":
        host(*command)
        host("rm", "-f", "c", code=None, env={"CORRAL_FAILPOINT": f"engine:{point}:kill"})
    else:
        assert host(*command, code=None, env={"CORRAL_FAILPOINT": f"engine:{point}:kill"}).returncode == -9
    host("gc")
    host("rm", "-f", "c", code=None)
    assert host.rests() == []
    host(*command)
    assert host("port", "c").stdout == "80/tcp -> 0.0.0.0:8094\n"


def test_name_of_one_that_broke_off_leaves_the_others_hosts_files(host: Host) -> None:
    """Killed between the last plugin and the files: whoever finishes the removal writes them."""
    host.serve("web", "--network", "bridge")
    host.serve("db", "--network", "bridge")
    assert "db" in host("exec", "web", "cat", "/etc/hosts").stdout.split()
    host("rm", "-f", "db", code=None, env={"CORRAL_FAILPOINT": "engine:network.deleted:kill"})
    host("gc")
    host("rm", "-f", "db", code=None)
    assert "db" not in host("exec", "web", "cat", "/etc/hosts").stdout.split()


def test_plugins_of_another_directory_take_back_what_they_made(host: Host, tmp_path: Path) -> None:
    """The keeper follows the end up, whose environment has no CNI_PATH."""
    for plugin in Path("/usr/lib/cni").iterdir():
        # Under a name of its own, which only that directory has.
        (tmp_path / ("bridged" if plugin.name == "bridge" else plugin.name)).symlink_to(plugin)
    host("network", "create", "odd")
    conflist = host.store / "networks" / "odd.conflist"
    conflist.write_text(conflist.read_text().replace('"type":"bridge"', '"type":"bridged"'))
    assert "bridged" in conflist.read_text()
    words = ["run", "-d", "--name", "c", "--network", "odd", "host", "sleep", "1000"]
    made = host(*words, env={"CNI_PATH": str(tmp_path)}).stdout.strip()
    host("rm", "-f", "c")
    assert host.rests(made) == []


def test_next_run_has_the_network_again(host: Host) -> None:
    """After its own end, and after a stop."""
    host.serve("web", "--network", "bridge", "-p", "8095:80")
    host("restart", "-t", "0", "web")
    assert host.inside("sh", "-c", "iptables-save | grep -c 'dport 8095 -j DNAT'").stdout == "1\n"
    host("stop", "-t", "0", "web")
    assert host.rests() == []


def test_many_start_at_once_on_a_network_that_is_not_there_yet(host: Host) -> None:
    """One of them makes it; each gets an address of its own and a port of its own."""
    words = ["run", "-d", "--network", "bridge", "-p", "80", "host", "sleep", "1000"]
    with ThreadPoolExecutor(6) as pool:
        made = [done.stdout.strip() for done in pool.map(lambda _: host(*words), range(6))]
    assert len({host.address(container) for container in made}) == 6
    assert len({host.network_of(container)["ports"][0]["host_port"] for container in made}) == 6
    known = host("exec", made[0], "cat", "/etc/hosts").stdout
    assert [container for container in made if container[:12] not in known] == []


def test_shared_network_has_one_address_and_one_hosts_file(host: Host) -> None:
    """--network container:NAME: loopback is common, and what is known by name as well."""
    host.serve("web", "--network", "bridge")
    shown = host("run", "--rm", "--network", "container:web", "host", "cat", "/etc/hosts").stdout
    assert f"{host.address('web')}\t" in shown
    asked = host("run", "-d", "--network", "container:web", "--name", "side", "host", "sleep", "1000").stdout.strip()
    assert host.ask_from(asked, "127.0.0.1") == "web"


def test_network_that_somebody_took_apart_does_not_keep_a_container(host: Host) -> None:
    """No namespace of the name, no rules, no network any more: deleting goes on what is on record."""
    host("network", "create", "back")
    made = host.serve("web", "--network", "back", "-p", "8098:80")
    host.inside("sh", "-c", "umount -l /run/netns/corral-*; iptables -t nat -F; iptables -F")
    (host.store / "networks" / "back.conflist").unlink()
    host("rm", "-f", "web")
    assert host.rests(made) == []


def test_ports_of_an_image_are_published_when_asked_for(host: Host, tmp_path: Path) -> None:
    """-P: those that it exposes, each on a free port; `ps` shows which."""
    root = make_rootfs(tmp_path / "base")
    archive = tmp_path / "base.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    host("import", "--change", "EXPOSE 80", "--change", "EXPOSE 53/udp", str(archive), "base")
    host("run", "-d", "--name", "c", "-P", "--network", "bridge", "base", "busybox", "sleep", "1000")
    ports = {
        f"{item['container_port']}/{item['protocol']}": item["host_port"] for item in host.network_of("c")["ports"]
    }
    assert sorted(ports) == ["53/udp", "80/tcp"]
    assert f"0.0.0.0:{ports['80/tcp']}->80/tcp" in host("ps").stdout
