"""A network without root: pasta or slirp4netns, a process beside the container that carries its packets.

The helper lives in the engine's own cgroup, is known by pid and start time, and is ended with the run. It joins the
container's user and network namespace by itself.

Source: pasta(1); slirp4netns(1), "API SOCKET".
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from corral.cgroup.layout import read_layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.engine import ledger
from corral.engine.failpoints import failpoint
from corral.engine.hostfiles import hosts_text, resolv_text, write_in_place
from corral.engine.parents import LEAF, default_parent
from corral.engine.places import is_rootless
from corral.errors import CorralError, InvalidArgument, NotFound, Timeout, Unavailable, Unsupported
from corral.linux.procfs import is_same_process, read_boot_id, read_stat
from corral.oci.json import dumps, loads

if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["attach_user", "end_helper", "find_stray"]

START_S = 20.0
_END_S = 5.0
_API_SOCKET = "slirp.sock"
_PACKAGES = {"pasta": "passt", "slirp4netns": "slirp4netns"}
# pasta answers for the host's resolvers here, wherever they listen.
_PASTA_DNS = "169.254.1.1"
_SLIRP_CIDR = "10.0.2.0/24"
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")


def attach_user(places: Places, definition: dict[str, Any], pid: int) -> None:
    """Start the helper for the network namespace of ``pid`` and publish the ports that are on record.

    Raises: NotFound with the package to install; Unavailable with the helper's own words; Timeout.
    """
    network = definition["network"]
    kind: str = network["mode"]
    if kind == "pasta" and not is_rootless():
        raise Unsupported(
            f"attach container {definition.get('name', '')!r}: pasta is for users other than root",
            hint="use --network bridge, or slirp4netns",
        )
    program = shutil.which(kind, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if program is None:
        raise NotFound(f"run {kind}: it is not installed", hint=f"install the package {_PACKAGES[kind]}")
    made = ledger.read(places, definition["id"])["network"]
    if kind == "pasta":
        helper, entry = _start_pasta(places, definition, pid, program, made["ports"])
    else:
        helper, entry = _start_slirp(places, definition, pid, program)
    failpoint("network.helper")
    _note(places, definition, helper, entry)
    _move(places, helper["pid"])
    if kind == "slirp4netns":
        for port in made["ports"]:
            _forward(places.container_run(definition["id"]), port)
    _write_files(places, definition, entry)


def _note(places: Places, definition: dict[str, Any], helper: dict[str, Any], entry: dict[str, Any]) -> None:
    with ledger.Update(places, definition["id"]) as state:
        state["network"]["helper"] = helper
        state["network"]["networks"] = [entry]


def _start_pasta(
    places: Places, definition: dict[str, Any], pid: int, program: str, ports: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """pasta goes into the background when all is set up; what it says before counts."""
    pid_file = f"{places.container_run(definition['id'])}/pasta.pid"
    given: list[str] = definition["network"].get("options", [])
    words = [program, "--config-net", "--quiet", "--pid", pid_file]
    # Without it the host's own loopback would be reached at the gateway's address.
    words += [] if "--map-gw" in given else ["--no-map-gw"]
    words += ["--dns-forward", _PASTA_DNS, *_port_words(ports), "-T", "none", "-U", "none"]
    words += [*(word for word in given if word != "--map-gw"), str(pid)]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_S, cwd="/", check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise Timeout(f"run pasta: it was not ready within {START_S:g} s") from exc
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refusal("pasta", said[-1] if said else f"it ended with code {done.returncode}")
    with open(pid_file) as file:
        helper_pid = int(file.read())
    helper = _identify("pasta", helper_pid)
    return helper, {"name": "pasta", "interface": "", "addresses": [], "gateways": [], "dns": [_PASTA_DNS]}


def _port_words(ports: list[dict[str, Any]]) -> list[str]:
    words = []
    for flag, protocol in (("-t", "tcp"), ("-u", "udp")):
        found = [port for port in ports if port["protocol"] == protocol]
        for port in found:
            address = f"{port['host_ip']}/" if port.get("host_ip") else ""
            words += [flag, f"{address}{port['host_port']}:{port['container_port']}"]
        if not found:
            words += [flag, "none"]
    if any(port["protocol"] == "sctp" for port in ports):
        raise Unsupported("publish a port of sctp: pasta and slirp4netns do not carry it", hint="use tcp or udp")
    return words


def _start_slirp(
    places: Places, definition: dict[str, Any], pid: int, program: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """slirp4netns tells by a descriptor when it is ready, and stays."""
    ready, theirs = os.pipe2(os.O_CLOEXEC)
    chosen, subnet, is_host_reached = slirp_words(definition["network"].get("options", []))
    words = [program, "--configure", *chosen, f"--ready-fd={theirs}"]
    # Relative: a socket's path has 107 letters at most, and ours may be longer.
    words += ["--api-socket", _API_SOCKET, "--netns-type=path"]
    if is_rootless() or definition.get("namespaces", {}).get("uid_map"):
        words += [f"--userns-path=/proc/{pid}/ns/user"]
    words += [f"/proc/{pid}/ns/net", "tap0"]
    log = os.open(f"{places.container_run(definition['id'])}/slirp.log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=places.container_run(definition["id"]),
            pass_fds=(theirs,),
            start_new_session=True,
        )
        os.close(theirs)
        theirs = -1
        helper = _identify("slirp4netns", process.pid)
        _wait_ready(ready, process, log)
    finally:
        os.close(log)
        os.close(ready)
        if theirs >= 0:
            os.close(theirs)
    # It outlives this process; whoever ends it only needs its pid and start time.
    process.returncode = 0
    entry = {
        "name": "slirp4netns",
        "interface": "tap0",
        "addresses": [f"{subnet[100]}/{subnet.prefixlen}"],
        "gateways": [str(subnet[2])],
        "dns": [str(subnet[3])],
        "host": str(subnet[2]) if is_host_reached else _host_address(),
    }
    return helper, entry


def slirp_words(options: list[str]) -> tuple[list[str], ipaddress.IPv4Network, bool]:
    """Its flags, its range, and whether the host's loopback is reached. Raises: InvalidArgument.

    Source: podman-run(1) "--network", slirp4netns[:OPTIONS].
    """
    values = {"mtu": "65520", "cidr": _SLIRP_CIDR, "allow_host_loopback": "false", "enable_ipv6": "false"}
    for option in options:
        key, _, value = option.partition("=")
        if key not in values or (key in ("allow_host_loopback", "enable_ipv6") and value not in _TRUE + _FALSE):
            raise InvalidArgument(
                f"use the network slirp4netns:{option}: unknown", hint="allow_host_loopback, cidr, enable_ipv6, mtu"
            )
        values[key] = value
    try:
        subnet = ipaddress.IPv4Network(values["cidr"])
    except ValueError as exc:
        raise InvalidArgument(f"use the network slirp4netns:cidr={values['cidr']}: {exc}") from exc
    if subnet.num_addresses < 128:
        raise InvalidArgument(f"use the network slirp4netns:cidr={subnet}: it has to be of /25 or more addresses")
    is_host_reached = values["allow_host_loopback"] in _TRUE
    words = [f"--mtu={values['mtu']}", f"--cidr={subnet}"]
    words += [] if is_host_reached else ["--disable-host-loopback"]
    words += ["--enable-ipv6"] if values["enable_ipv6"] in _TRUE else []
    return words, subnet, is_host_reached


def _host_address() -> str:
    """The address of this host on the way out, "" if there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _wait_ready(ready: int, process: subprocess.Popen[bytes], log: int) -> None:
    """The helper writes one byte when the interface is up, and closes the descriptor when it gives up."""
    import select

    poll = select.poll()
    poll.register(ready, select.POLLIN)
    if not poll.poll(START_S * 1000):
        process.kill()
        process.wait()
        raise Timeout(f"run slirp4netns: it was not ready within {START_S:g} s")
    # Our end of the writing side is closed by now, so that its death reads as the end.
    if os.read(ready, 1):
        return
    process.kill()
    process.wait()
    said = os.pread(log, 4096, 0).decode("utf-8", "replace").strip().splitlines()
    raise _refusal("slirp4netns", said[-1] if said else f"it ended with code {process.returncode}")


def _refusal(kind: str, words: str) -> Unavailable:
    """What the helper said, with the one thing that most often is in the way."""
    hint = ""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        hint = "this user cannot use /dev/net/tun: have root run modprobe tun and chmod 666 /dev/net/tun"
    elif "interface not usable" in words.lower():
        hint = "this host has no route to the outside, which pasta copies: --network slirp4netns, host or none"
    return Unavailable(f"run {kind}: {words}", hint=hint)


def _forward(directory: str, port: dict[str, Any]) -> None:
    """Publish one port through the helper's socket. Raises: AlreadyExists or Unavailable with its words."""
    if port["protocol"] == "sctp":
        raise Unsupported("publish a port of sctp: slirp4netns does not carry it", hint="use tcp or udp")
    if ":" in port.get("host_ip", ""):
        raise InvalidArgument(f"publish port [{port['host_ip']}]:{port['host_port']}: slirp4netns has no IPv6 ports")
    asked = {
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port["protocol"],
            "host_addr": port.get("host_ip") or "0.0.0.0",
            "host_port": port["host_port"],
            "guest_port": port["container_port"],
        },
    }
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(START_S)
            link.connect(f"/proc/self/fd/{folder}/{_API_SOCKET}")
            link.sendall(dumps(asked).encode())
            link.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: link.recv(4096), b""))
    finally:
        os.close(folder)
    found = loads(answer, "slirp4netns")
    if not isinstance(found, dict) or "error" in found:
        said = found["error"].get("desc", "") if isinstance(found, dict) else ""
        raise Unavailable(f"publish port {port['host_port']}/{port['protocol']}: slirp4netns: {said}")


def _move(places: Places, pid: int) -> None:
    """Into the leaf of the engine's own processes: the session in which somebody started it may end."""
    try:
        layout = read_layout()
        placement = place(CgroupfsLocation(f"{default_parent(places)}/{LEAF}"), layout)
    except (CorralError, OSError):
        return
    for directory in placement.directories:
        if directory is None or not os.path.isdir(directory):
            continue
        try:
            with open(f"{directory}/cgroup.procs", "w") as file:
                file.write(str(pid))
        except OSError:
            continue  # a group that this user may not change: it stays where it began


def _write_files(places: Places, definition: dict[str, Any], entry: dict[str, Any]) -> None:
    directory = places.container(definition["id"])
    network = definition["network"]
    if not network.get("dns"):
        write_in_place(f"{directory}/resolv.conf", resolv_text({**network, "dns": entry["dns"]}))
    if not definition.get("no_hosts"):
        addresses = [str(ipaddress.ip_interface(text).ip) for text in entry["addresses"]]
        write_in_place(f"{directory}/hosts", hosts_text(definition, addresses, gateway=entry.get("host", "")))


def find_stray(places: Places, container_id: str) -> dict[str, Any] | None:
    """A helper that was started by somebody who was ended before it was on record.

    Known by where it works, or by the files that its command line names.
    """
    folder = places.container_run(container_id)
    mark = f"{folder}/".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if os.path.basename(words[0]).decode() not in _PACKAGES:
                continue
            if any(word.startswith(mark) for word in words) or os.readlink(f"/proc/{name}/cwd") == folder:
                return _identify("stray", int(name))
        except (OSError, ValueError):
            continue
    return None


def _identify(program: str, pid: int) -> dict[str, Any]:
    """What tells the helper from whoever has its pid later, also after the host's restart."""
    return {"program": program, "pid": pid, "start": read_stat(pid).start_time_ticks, "boot": read_boot_id()}


def end_helper(helper: dict[str, Any]) -> None:
    """End the helper if it still lives and is the one that was started. Raises: Timeout. Idempotent."""
    pid, start = helper["pid"], helper["start"]
    if helper.get("boot") != read_boot_id():
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not is_same_process(pid, start):
            return
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not _has_ended(pidfd, pid):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if not _has_ended(pidfd, pid):
                raise Timeout(f"end {helper['program']} (process {pid}): it does not end")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int, pid: int) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_END_S * 1000):
        return False
    try:
        os.waitpid(pid, os.WNOHANG)  # when it was this process that started it
    except ChildProcessError:
        return True
    return True
