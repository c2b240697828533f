"""Image references: ``[registry/]repository[:tag][@digest]``.

Owns the grammar and the defaults (docker.io, library/, latest). What a short name may stand for besides docker.io is
``registries``' part. Cheap to import.

Source: github.com/distribution/reference (grammar); OCI distribution-spec "Pulling manifests".
"""

from __future__ import annotations

from corral.errors import InvalidArgument
from corral.image.digests import is_digest, is_hex, parse_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
# Other names that people and old files use for it.
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_MAX_NAME = 255
_MAX_TAG = 128
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_HOST = _WORD - {"_"} | frozenset("-.")
_HINT = "an image is named like alpine, docker.io/library/alpine:3.19, localhost:5000/my/app@sha256:..."


class Reference:
    """A complete reference: registry and repository, then a tag, a digest, or both (the digest counts)."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str = "", digest: str = "") -> None:
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """``docker.io/library/alpine``."""
        return f"{self.registry}/{self.repository}"

    @property
    def tagged(self) -> str:
        """``docker.io/library/alpine:3.19``, the name that the store knows; '' where there is no tag."""
        return f"{self.name}:{self.tag}" if self.tag else ""

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.digest else f"{self.name}{tag}"

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_reference(text: str) -> Reference:
    """The reference that ``text`` stands for, with Docker's defaults. Raises: InvalidArgument."""
    if is_hex(text) and len(text) == 64:
        raise _refuse(text, "64 hexadecimal digits are an image's id, not its name")
    head, at, digest = text.partition("@")
    if at:
        parse_digest(digest, f"image reference {text!r}")
    first, slash, rest = head.partition("/")
    if slash and _is_registry(first):
        registry = first
    else:
        registry, rest = DEFAULT_REGISTRY, head
    _check_registry(registry, text)
    repository, colon, tag = rest.partition(":")
    if colon and not is_tag(tag):
        raise _refuse(text, f"{tag!r} is not a tag", "a tag has up to 128 letters, digits, '_', '.' and '-'")
    if registry.lower() in _DOCKER_HUB:
        registry = DEFAULT_REGISTRY
        repository = repository if "/" in repository else f"library/{repository}"
    _check_repository(registry, repository, text)
    return Reference(registry, repository, tag or ("" if at else DEFAULT_TAG), digest)


def is_short_name(text: str) -> bool:
    """Whether the text names no registry, so that configuration may say which is meant."""
    first, slash, _rest = text.partition("@")[0].partition("/")
    return not (slash and _is_registry(first))


def is_tag(text: str) -> bool:
    """Whether this can be a tag."""
    return 0 < len(text) <= _MAX_TAG and text[0] in _WORD and all(c in _WORD or c in ".-" for c in text)


def id_prefix_or_none(text: str) -> str | None:
    """The digits, if the text can be the beginning of an image's id (with or without ``sha256:``)."""
    if is_digest(text):
        return text.partition(":")[2]
    digits = text.removeprefix("sha256:")
    return digits if is_hex(digits) and len(digits) <= 64 else None


def _is_registry(component: str) -> bool:
    # A first component with a dot, a colon or a capital is a host; so is localhost. All else is a path on Docker Hub.
    return "." in component or ":" in component or component == "localhost" or component != component.lower()


def _check_registry(registry: str, text: str) -> None:
    host, port = registry, ""
    if registry.startswith("["):
        host, _, rest = registry[1:].partition("]")
        port = rest.removeprefix(":")
        fine = bool(host) and all(c in "0123456789abcdefABCDEF:." for c in host) and (not rest or rest[0] == ":")
    else:
        host, colon, port = registry.partition(":")
        labels = host.split(".")
        fine = all(label and label[0] != "-" and label[-1] != "-" and _HOST.issuperset(label) for label in labels)
        fine = fine and (not colon or bool(port))
    if port:
        fine = fine and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not fine:
        raise _refuse(text, f"{registry!r} is not a registry's host name")


def _check_repository(registry: str, repository: str, text: str) -> None:
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise _refuse(text, f"its name is longer than {_MAX_NAME} characters")
    for component in repository.split("/"):
        if component != component.lower():
            raise _refuse(text, f"repository {repository!r} has capitals", f"try {text.lower()!r}")
        if not _is_component(component):
            raise _refuse(
                text,
                f"{component!r} cannot be part of a repository's name" if component else "a part of its name is empty",
            )


def _is_component(text: str) -> bool:
    # Words of small letters and digits, joined by one dot, one or two underscores, or any number of dashes.
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    joint = ""
    for character in text:
        if character in _LOWER:
            joint = ""
            continue
        joint += character
        if joint not in (".", "_", "__") and joint.strip("-"):
            return False
    return True


def _refuse(text: str, cause: str, hint: str = _HINT) -> InvalidArgument:
    shown = text if len(text) <= 300 else text[:297] + "..."
    return InvalidArgument(f"parse image reference {shown!r}: {cause}", hint=hint)
