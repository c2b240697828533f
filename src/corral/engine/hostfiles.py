"""/etc/hosts, /etc/resolv.conf and /etc/hostname of a container: the engine's files, bind-mounted over the image's.

Written before the start, so that the mounts find them; what the network then makes of them is written in place.
"""

from __future__ import annotations

import posix

from corral.engine import files
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["prepare_files", "write_in_place"]

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
# systemd-resolved's stub is on a loopback address, which a network namespace of its own does not reach.
_UPSTREAM = "/run/systemd/resolve/resolv.conf"


def prepare_files(places: Places, definition: dict[str, Any]) -> dict[str, str]:
    """Write the three files; returns path inside -> path outside.

    Who shares another container's network shares its hosts and resolv.conf, unless something else was asked for.
    """
    directory = places.container(definition["id"])
    network = definition.get("network", {})
    shared = _shared_directory(places, definition)
    made = {}
    for name, text in (
        ("hosts", hosts_text(definition)),
        ("resolv.conf", resolv_text(network)),
        ("hostname", f"{definition.get('hostname') or definition['id'][:12]}\n"),
    ):
        if name == "hosts" and definition.get("no_hosts"):
            continue
        path = f"{directory}/{name}"
        if name in shared and paths.exists(f"{shared[name]}/{name}"):
            made[f"/etc/{name}"] = f"{shared[name]}/{name}"
            continue
        files.replace(path, text.encode("utf-8", "surrogateescape"), mode=0o644)
        # The umask must not take it from the container's users.
        posix.chmod(path, 0o644)
        made[f"/etc/{name}"] = path
    return made


def _shared_directory(places: Places, definition: dict[str, Any]) -> dict[str, str]:
    """File -> directory of the container whose file it is."""
    network = definition.get("network", {})
    owner = ""
    if network.get("mode") == "container":
        owner = network["container"]
    elif network.get("mode") == "pod" and definition.get("pod"):
        from corral.engine.podfiles import read_pod

        owner = read_pod(places, definition["pod"])["infra"]
    if not owner or owner == definition["id"]:
        return {}
    found = {}
    if not network.get("extra_hosts"):
        found["hosts"] = places.container(owner)
    if not any(network.get(key) for key in ("dns", "dns_search", "dns_options")):
        found["resolv.conf"] = places.container(owner)
    return found


def hosts_text(
    definition: dict[str, Any],
    addresses: list[str] | None = None,
    *,
    aliases: list[str] | None = None,
    gateway: str = "",
    others: list[str] | None = None,
) -> str:
    """/etc/hosts: the host's where its network is shared; else localhost, our ``addresses``, and what was asked for.

    ``gateway``: where the host is reached from inside. ``others``: lines for containers on the same networks.
    """
    network = definition.get("network", {})
    own = definition.get("hostname") or definition["id"][:12]
    text = _HOSTS
    if network.get("mode") == "host":
        text = (files.read_bytes_or_none("/etc/hosts", is_link_fine=True) or text.encode()).decode(
            "utf-8", "surrogateescape"
        )
        gateway = "127.0.0.1"
    lines = [text.rstrip("\n")]
    for item in network.get("extra_hosts", []):
        name, _, address = item.partition(":")
        # As in Docker: the word stands for the host.
        address = gateway if address == "host-gateway" else address
        if address:
            lines.append(f"{address}\t{name}")
    if gateway:
        lines.append(f"{gateway}\thost.containers.internal host.docker.internal")
    names = " ".join(name for name in dict.fromkeys([own, definition.get("name", ""), *(aliases or [])]) if name)
    if network.get("mode") != "host":
        lines += [f"{address}\t{names}" for address in addresses or ["127.0.1.1"]]
    return "\n".join([*lines, *(others or [])]) + "\n"


def resolv_text(network: dict[str, Any]) -> str:
    """/etc/resolv.conf: what was asked for over the host's, without servers that cannot be reached from inside."""
    if network.get("mode") == "none":
        base: list[str] = []
    else:
        source = "/etc/resolv.conf"
        if network.get("mode") != "host" and paths.exists(_UPSTREAM):
            source = _UPSTREAM
        base = (
            (files.read_bytes_or_none(source, is_link_fine=True) or b"").decode("utf-8", "surrogateescape").splitlines()
        )
    if network.get("mode") not in ("host", "none"):
        base = [line for line in base if not line.startswith(("nameserver 127.", "nameserver ::1"))]
    for key, word in (("dns", "nameserver"), ("dns_search", "search"), ("dns_options", "options")):
        asked = network.get(key, [])
        if not asked:
            continue
        base = [line for line in base if line.split()[:1] != [word]]
        base += [f"{word} {item}" for item in asked] if word == "nameserver" else [f"{word} {' '.join(asked)}"]
    return "".join(f"{line}\n" for line in base)


def write_in_place(path: str, text: str) -> None:
    """Rewrite a file that is bind-mounted: its inode has to stay the same.

    Raises: OSError; BlockingIOError where the container has a lease on the file, and would have us wait for it.
    """
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[posix.write(fd, data) :]
        posix.ftruncate(fd, posix.lseek(fd, 0, 1))
    finally:
        posix.close(fd)
