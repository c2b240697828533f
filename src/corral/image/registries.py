"""registries.conf: short names, mirrors, blocked and insecure registries.

Owns the reading of the files and the answer to two questions: which references may a short name mean, and at which
places is a reference to be had, in which order.

Source: containers-registries.conf(5), containers-registries.conf.d(5).
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from typing import Literal

from corral.errors import InvalidArgument, PermissionDenied
from corral.image.reference import Reference, is_short_name, parse_reference

PullFrom = Literal["all", "digest-only", "tag-only"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to fetch from: a host, the repository's name there, and whether it may do without valid TLS."""

    host: str
    repository: str
    is_insecure: bool = False
    is_mirror: bool = False


@dataclass(frozen=True, slots=True)
class _Mirror:
    location: str
    is_insecure: bool
    pull_from: PullFrom


@dataclass(frozen=True, slots=True)
class _Registry:
    prefix: str
    location: str
    is_insecure: bool
    is_blocked: bool
    mirrors: tuple[_Mirror, ...]
    path: str

    def match_length(self, name: str) -> int:
        """How much of ``name`` the prefix covers; -1: none."""
        if self.prefix.startswith("*."):
            host, slash, _rest = name.partition("/")
            return len(self.prefix) if slash and host.endswith(self.prefix[1:]) else -1
        if name == self.prefix or name.startswith((f"{self.prefix}/", f"{self.prefix}:", f"{self.prefix}@")):
            return len(self.prefix)
        return -1

    def rewrite(self, name: str, location: str) -> str:
        """``name`` with the prefix replaced by ``location``."""
        if not location:
            return name
        if self.prefix.startswith("*."):
            return location + name[name.index("/") :]
        return location + name[len(self.prefix) :]


@dataclass(slots=True)
class Registries:
    """What all the files together say."""

    search: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    credential_helpers: list[str] = field(default_factory=list)
    entries: dict[str, _Registry] = field(default_factory=dict)

    def candidates(self, text: str) -> list[Reference]:
        """The references that ``text`` may mean, the likeliest first; Docker Hub's where nothing is configured.

        Raises: InvalidArgument.
        """
        reference = parse_reference(text)
        if not is_short_name(text):
            return [reference]
        name, _, digest = text.partition("@")
        name, _, tag = name.partition(":")
        ending = (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        if alias := self.aliases.get(name):
            return [parse_reference(alias + ending)]
        if not self.search:
            return [reference]
        return [parse_reference(f"{registry}/{name}{ending}") for registry in self.search]

    def endpoints(self, reference: Reference) -> list[Endpoint]:
        """Where to fetch ``reference``: its mirrors in order, then its own place. Raises: PermissionDenied."""
        entry = self._entry_for(reference.name)
        if entry is None:
            return [_endpoint(reference.name, is_insecure=False, is_mirror=False)]
        if entry.is_blocked:
            raise PermissionDenied(
                f"pull {reference}: registry {entry.prefix} is blocked", hint=f"{entry.path} says so: blocked = true"
            )
        found = [
            _endpoint(entry.rewrite(reference.name, mirror.location), is_insecure=mirror.is_insecure, is_mirror=True)
            for mirror in entry.mirrors
            if mirror.pull_from == "all" or (mirror.pull_from == "digest-only") == bool(reference.digest)
        ]
        own = entry.rewrite(reference.name, entry.location)
        return [*found, _endpoint(own, is_insecure=entry.is_insecure, is_mirror=False)]

    def _entry_for(self, name: str) -> _Registry | None:
        ranked = [(entry.match_length(name), entry) for entry in self.entries.values()]
        length, best = max(ranked, key=lambda item: item[0], default=(-1, None))
        return best if length >= 0 else None


def load_registries() -> Registries:
    """Read the configuration that holds for this user now. No file at all is fine.

    Raises: InvalidArgument, naming the file, for one that cannot be understood.
    """
    registries = Registries()
    for path in registry_files():
        _merge(registries, path)
    return registries


def registry_files() -> list[str]:
    """The files to read, later ones count more."""
    override = os.environ.get("CONTAINERS_REGISTRIES_CONF") or os.environ.get("REGISTRIES_CONFIG_PATH")
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    is_root = os.geteuid() == 0
    files: list[str] = []
    if override:
        files.append(override)
    elif not is_root and os.path.exists(f"{own}/registries.conf"):
        files.append(f"{own}/registries.conf")
    elif os.path.exists("/etc/containers/registries.conf"):
        files.append("/etc/containers/registries.conf")
    if override:
        return files
    for folder in ["/etc/containers/registries.conf.d"] + ([] if is_root else [f"{own}/registries.conf.d"]):
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
        except OSError:
            continue
        files.extend(f"{folder}/{name}" for name in names)
    return files


def _merge(registries: Registries, path: str) -> None:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidArgument(
            f"read {path}: {exc}".lower(), hint="correct the file, see containers-registries.conf(5)"
        ) from exc
    if "registries" in table:
        raise InvalidArgument(
            f"read {path}: [registries.*] is version 1 of this format",
            hint="rewrite it as unqualified-search-registries and [[registry]], see containers-registries.conf(5)",
        )
    if "unqualified-search-registries" in table:
        registries.search = _strings(table["unqualified-search-registries"], path, "unqualified-search-registries")
    if "credential-helpers" in table:
        registries.credential_helpers = _strings(table["credential-helpers"], path, "credential-helpers")
    aliases = table.get("aliases", {})
    if not isinstance(aliases, dict):
        raise _wrong(path, "aliases", "not a table")
    for name, value in aliases.items():
        if not isinstance(value, str):
            raise _wrong(path, f"aliases.{name}", "not a string")
        registries.aliases[name] = value
    entries = table.get("registry", [])
    if not isinstance(entries, list):
        raise _wrong(path, "registry", "not an array of tables ([[registry]])")
    for number, value in enumerate(entries):
        entry = _registry(value, path, f"registry[{number}]")
        registries.entries[entry.prefix] = entry


def _registry(value: object, path: str, pointer: str) -> _Registry:
    table = _table(value, path, pointer)
    location = _text(table, "location", path, pointer)
    prefix = _text(table, "prefix", path, pointer) or location
    if not prefix:
        raise _wrong(path, pointer, "neither prefix nor location")
    raw = table.get("mirror", [])
    if not isinstance(raw, list):
        raise _wrong(path, f"{pointer}.mirror", "not an array of tables ([[registry.mirror]])")
    is_digest_only = _flag(table, "mirror-by-digest-only", path, pointer)
    mirrors = [_mirror(item, path, f"{pointer}.mirror[{i}]", is_digest_only) for i, item in enumerate(raw)]
    return _Registry(
        prefix.rstrip("/"),
        location.rstrip("/"),
        _flag(table, "insecure", path, pointer),
        _flag(table, "blocked", path, pointer),
        tuple(mirrors),
        path,
    )


def _mirror(value: object, path: str, pointer: str, is_digest_only: bool) -> _Mirror:
    table = _table(value, path, pointer)
    location = _text(table, "location", path, pointer)
    if not location:
        raise _wrong(path, f"{pointer}.location", "missing")
    words: dict[str, PullFrom] = {"": "all", "all": "all", "digest-only": "digest-only", "tag-only": "tag-only"}
    pull_from = words.get(_text(table, "pull-from-mirror", path, pointer))
    if pull_from is None:
        raise _wrong(path, f"{pointer}.pull-from-mirror", "neither all, digest-only nor tag-only")
    chosen: PullFrom = "digest-only" if is_digest_only else pull_from
    return _Mirror(location.rstrip("/"), _flag(table, "insecure", path, pointer), chosen)


def _endpoint(name: str, *, is_insecure: bool, is_mirror: bool) -> Endpoint:
    host, _, repository = name.partition("/")
    return Endpoint(host, repository, is_insecure, is_mirror)


def _table(value: object, path: str, pointer: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong(path, pointer, "not a table")
    return value


def _text(table: dict[str, object], key: str, path: str, pointer: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise _wrong(path, f"{pointer}.{key}", "not a string")
    return value


def _flag(table: dict[str, object], key: str, path: str, pointer: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(path, f"{pointer}.{key}", "neither true nor false")
    return value


def _strings(value: object, path: str, pointer: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(path, pointer, "not an array of strings")
    return list(value)


def _wrong(path: str, pointer: str, cause: str) -> InvalidArgument:
    return InvalidArgument(f"read {path}: {pointer}: {cause}", hint="see containers-registries.conf(5)")
