"""``--volume``, ``--mount``, ``--tmpfs`` and ``--publish`` to values.

Source: podman-run(1) and docker-run(1) "--volume", "--mount", "--tmpfs", "--publish".
"""

from __future__ import annotations

import posix

from corral.engine.option_values import is_digits, parse_bool, parse_size, refuse, texts
from corral.errors import NotFound
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from corral.engine.definition import Mount, Port

_VOLUME_HINT = "as in -v /host/dir:/inside, -v name:/inside:ro, or -v /inside for a nameless one"
_MOUNT_HINT = "as in --mount type=bind,source=/host,target=/inside,readonly"
_PORT_HINT = "as in -p 8080:80, -p 127.0.0.1:8080:80/tcp or -p 8000-8010:80-90"
_KINDS: tuple[Literal["bind", "volume", "tmpfs", "image"], ...] = ("bind", "volume", "tmpfs", "image")
_NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_CHARS = frozenset(_NAME_START + "_.-")
# What a volume may be given besides the kernel's words: for the engine to act on, or of no meaning on Linux.
_VOLUME_WORDS = frozenset(("U", "z", "Z", "copy", "nocopy", "consistent", "cached", "delegated"))
_PROPAGATIONS = tuple(f"{r}{word}" for r in ("", "r") for word in ("private", "shared", "slave", "unbindable"))
_FROM_READ_ONLY = ("/run", "/tmp", "/var/tmp")
_MAX_PORT = 65535


def parse_mounts(options: Mapping[str, object], cwd: str) -> list[Mount]:
    """All mounts of a command line; relative host paths (``./x``, ``../x``) are taken from ``cwd``.

    Raises: InvalidArgument, NotFound naming flag and value; also if two have the same target.
    """
    found = [_volume(item, cwd) for item in texts(options, "volume")]
    found += [_mount(item, cwd) for item in texts(options, "mount")]
    found += [_tmpfs(item) for item in texts(options, "tmpfs")]
    taken: dict[str, Mount] = {}
    for item in found:
        target = item["target"]
        if target in taken:
            raise refuse("volume", target, "mounted twice", "give each target of a mount once")
        taken[target] = item
    if options.get("read-only") and options.get("read-only-tmpfs") is not False:
        for target in _FROM_READ_ONLY:
            if target not in taken:
                mode = "mode=1777" if target != "/run" else "mode=755"
                found.append({"type": "tmpfs", "target": target, "options": ["rw", "exec", mode]})
    return found


def is_name(name: str) -> bool:
    """Whether it can be the name of a container, pod, volume or network."""
    return bool(name) and name[0] in _NAME_START and _NAME_CHARS.issuperset(name) and len(name) <= 255


def _target(flag: str, value: str, target: str) -> str:
    if not target.startswith("/"):
        raise refuse(flag, value, f"the path inside, {target!r}, is not absolute", _VOLUME_HINT)
    clean = paths.normpath(target)
    if clean == "/":
        raise refuse(flag, value, "/ is the container's root", "mount on a directory below it")
    return clean


def _volume(value: str, cwd: str) -> Mount:
    parts = value.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise refuse("volume", value, "not of the form SOURCE:TARGET[:OPTIONS]", _VOLUME_HINT)
    if len(parts) == 1:
        return {"type": "volume", "source": "", "target": _target("volume", value, parts[0]), "is_anonymous": True}
    source, target = parts[0], _target("volume", value, parts[1])
    words = [word for word in parts[2].split(",") if word] if len(parts) == 3 else []
    for word in words:
        _check_word(value, word)
    if source.startswith(("/", ".")):
        return _options(_bind("volume", value, source, cwd), target, words)
    if not is_name(source):
        hint = "a volume's name has letters, digits and _.-; a host path begins with / or ./"
        raise refuse("volume", value, f"{source!r} is neither a volume's name nor a host path", hint)
    return _options({"type": "volume", "source": source, "target": target}, target, words)


def _check_word(value: str, word: str) -> None:
    """No option is passed over: somebody who wrote ``r0`` has not asked for a writable mount."""
    from corral.oci.mount_options import MOUNT_OPTIONS

    if word == "O":
        raise refuse("volume", value, "O, an overlay above it, is not supported", "ro keeps it as it is")
    if word not in _VOLUME_WORDS and word.partition("=")[0] not in MOUNT_OPTIONS:
        raise refuse("volume", value, f"{word!r} is no option of a mount", "as in ro, rw, z, U, nocopy, rslave, noexec")


def _bind(flag: str, value: str, source: str, cwd: str) -> Mount:
    path = paths.normpath(paths.join(cwd, source))
    try:
        posix.stat(path)
    except OSError as exc:
        raise NotFound(
            f"--{flag} {value!r}: {path}: {posix.strerror(exc.errno or 0).lower()}",
            hint="a bind mount needs an existing source; make it first",
        ) from exc
    return {"type": "bind", "source": path, "target": ""}


def _options(mount: Mount, target: str, words: list[str]) -> Mount:
    mount["target"] = target
    if "nocopy" in words:
        mount["copy_up"] = False
        words = [word for word in words if word != "nocopy"]
    if words:
        mount["options"] = words
    return mount


def _tmpfs(value: str) -> Mount:
    path, _, words = value.partition(":")
    found: Mount = {"type": "tmpfs", "target": _target("tmpfs", value, path)}
    options = [word for word in words.split(",") if word]
    for word in options:
        if word.startswith("size=") and not word.endswith("%"):
            parse_size("tmpfs", word[len("size=") :])
    if options:
        found["options"] = options
    return found


class _Mount:
    """The words of one ``--mount`` while they are read."""

    __slots__ = ("copy_up", "kind", "options", "source", "target", "value")

    def __init__(self, value: str) -> None:
        self.value = value
        self.kind = ""
        self.source = ""
        self.target = ""
        self.options: list[str] = []
        self.copy_up = True

    def take(self, name: str, content: str, has_value: bool) -> None:
        """Understand one word. Raises: InvalidArgument."""
        if name == "type":
            self.kind = content
        elif name in ("source", "src"):
            self.source = content
        elif name in ("target", "destination", "dst"):
            self.target = content
        elif name in ("readonly", "ro", "rw", "readwrite"):
            wants = not has_value or parse_bool("mount", content)
            self.options.append("ro" if wants == (name in ("readonly", "ro")) else "rw")
        elif name in ("bind-propagation", "propagation"):
            if content not in _PROPAGATIONS:
                raise refuse(
                    "mount", self.value, f"{content!r} is no propagation", f"one of {', '.join(_PROPAGATIONS)}"
                )
            self.options.append(content)
        elif name == "bind-nonrecursive":
            self.options.append("bind" if not has_value or parse_bool("mount", content) else "rbind")
        elif name in ("relabel", "consistency"):
            self.options += {"private": ["Z"], "shared": ["z"]}.get(content, [])
        elif name in ("U", "chown"):
            self.options += ["U"] if not has_value or parse_bool("mount", content) else []
        elif name == "tmpfs-size":
            self.options.append(f"size={parse_size('mount', content)}")
        elif name == "tmpfs-mode":
            self.options.append(f"mode={content}")
        elif name in ("volume-nocopy", "notmpcopyup"):
            self.copy_up = has_value and not parse_bool("mount", content)
        elif name in ("size", "mode", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "idmap", "tmpcopyup"):
            self.options.append(f"{name}={content}" if has_value else name)
        else:
            raise refuse("mount", self.value, f"unknown word {name!r}", _MOUNT_HINT)


def _mount(value: str, cwd: str) -> Mount:
    words = _Mount(value)
    for part in value.split(","):
        name, equals, content = part.partition("=")
        words.take(name, content, bool(equals))
    kind = next((item for item in _KINDS if item == (words.kind or "volume")), None)
    if kind is None:
        raise refuse("mount", value, f"type {words.kind!r} is unknown", f"one of {', '.join(_KINDS)}")
    target = _target("mount", value, words.target)
    found: Mount = {"type": kind, "target": target}
    if kind == "bind":
        if not words.source:
            raise refuse("mount", value, "a bind mount without a source", _MOUNT_HINT)
        found = _bind("mount", value, words.source, cwd)
    elif kind == "volume":
        if words.source and not is_name(words.source):
            raise refuse("mount", value, f"{words.source!r} is no volume's name", _MOUNT_HINT)
        found["source"] = words.source
        if not words.source:
            found["is_anonymous"] = True
    elif kind == "image":
        found["source"] = words.source
    if not words.copy_up:
        words.options.append("notmpcopyup" if kind == "tmpfs" else "nocopy")
    return _options(found, target, words.options)


def parse_ports(values: Iterable[str]) -> list[Port]:
    """``[IP:][HOST]:CONTAINER[/PROTOCOL]`` with ranges on both sides; host port 0: any free one."""
    found: list[Port] = []
    for value in values:
        rest, _, protocol = value.partition("/")
        protocols = ("tcp", "udp", "sctp")
        kind = next((item for item in protocols if item == (protocol or "tcp")), None)
        if kind is None:
            raise refuse("publish", value, f"protocol {protocol!r} is unknown", f"one of {', '.join(protocols)}")
        address = ""
        if rest.startswith("["):
            address, bracket, rest = rest[1:].partition("]:")
            if not bracket:
                raise refuse("publish", value, "the bracket of an IPv6 address is not closed", _PORT_HINT)
        elif rest.count(":") == 2:
            address, _, rest = rest.partition(":")
        host, colon, inside = rest.rpartition(":")
        first, last = _range(value, inside)
        start, end = _range(value, host) if colon and host else (0, 0)
        if start and end - start != last - first:
            raise refuse("publish", value, "the two ranges have different lengths", _PORT_HINT)
        for offset in range(last - first + 1):
            port = start + offset if start else 0
            found.append(
                {"host_ip": address, "host_port": port, "container_port": first + offset, "protocol": kind}  # type: ignore[typeddict-item]
            )
    return found


def _range(value: str, text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    ends = [low, high] if dash else [low, low]
    if not all(is_digits(end) and len(end) <= 5 and 0 < int(end) <= _MAX_PORT for end in ends):
        raise refuse("publish", value, f"{text!r} is no port", _PORT_HINT)
    first, last = int(ends[0]), int(ends[1])
    if last < first:
        raise refuse("publish", value, f"the range {text!r} runs backwards", _PORT_HINT)
    return first, last
