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
    """Write the three files; returns path inside -> path outside."""
    directory = places.container(definition["id"])
    network = definition.get("network", {})
    made = {}
    for name, text in (
        ("hosts", hosts_text(definition)),
        ("resolv.conf", resolv_text(network)),
        ("hostname", f"{definition.get('hostname') or definition['id'][:12]}\n"),
    ):
        path = f"{directory}/{name}"
        files.replace(path, text.encode("utf-8", "surrogateescape"), mode=0o644)
        # The umask must not take it from the container's users.
        posix.chmod(path, 0o644)
        made[f"/etc/{name}"] = path
    return made


def hosts_text(definition: dict[str, Any], addresses: list[str] | None = None) -> str:
    """/etc/hosts: the host's where its network is shared; else localhost, our ``addresses``, and what was asked for."""
    network = definition.get("network", {})
    own = definition.get("hostname") or definition["id"][:12]
    text = _HOSTS
    if network.get("mode") == "host":
        text = (files.read_bytes_or_none("/etc/hosts", is_link_fine=True) or text.encode()).decode(
            "utf-8", "surrogateescape"
        )
    lines = [text.rstrip("\n")]
    for item in network.get("extra_hosts", []):
        name, _, address = item.partition(":")
        lines.append(f"{address}\t{name}")
    names = " ".join(dict.fromkeys([own, definition.get("name", "")])).strip()
    if network.get("mode") != "host":
        lines += [f"{address}\t{names}" for address in addresses or ["127.0.1.1"]]
    return "\n".join(lines) + "\n"


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
    """Rewrite a file that is bind-mounted: its inode has to stay the same. Raises: OSError."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[posix.write(fd, data) :]
        posix.ftruncate(fd, posix.lseek(fd, 0, 1))
    finally:
        posix.close(fd)
