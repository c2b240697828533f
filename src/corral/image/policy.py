"""policy.json: which images may be taken, as Podman, Skopeo and CRI-O are told by the same file.

Owns the reading of the file and the one question. Signatures cannot be verified: where one is wanted the image is
refused, not taken. Without a file everything is taken, as Docker does.

Source: containers-policy.json(5).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from corral.errors import InvalidArgument, PermissionDenied, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.image.reference import Reference

__all__ = ["Policy", "load_policy"]

_SYSTEM = "/etc/containers/policy.json"
_ACCEPT, _REJECT = "insecureAcceptAnything", "reject"
_SIGNED = ("signedBy", "sigstoreSigned", "signedBaseLayer")


class Policy:
    """What one file says. ``path``: of the file, "" without one, when everything is taken."""

    def __init__(self, path: str = "", content: object = None) -> None:
        """Raises: InvalidArgument for what is no policy."""
        self.path = path
        self._default: list[str] = [_ACCEPT]
        self._transports: dict[str, dict[str, list[str]]] = {}
        if not path:
            return
        if not isinstance(content, dict) or "default" not in content:
            raise self._wrong("it has no member default")
        unknown = sorted(set(content) - {"default", "transports"})
        if unknown:
            raise self._wrong(f"unknown member {unknown[0]!r}")
        self._default = self._requirements(content["default"], "default")
        transports = content.get("transports", {})
        if not isinstance(transports, dict):
            raise self._wrong("transports is no object")
        for name, scopes in transports.items():
            if not isinstance(scopes, dict):
                raise self._wrong(f"transports.{name} is no object")
            self._transports[name] = {
                scope: self._requirements(value, f"transports.{name}[{scope!r}]") for scope, value in scopes.items()
            }

    @property
    def wants_signatures(self) -> bool:
        """Whether some image has to be signed."""
        lists = [self._default, *(value for scopes in self._transports.values() for value in scopes.values())]
        return any(kind in _SIGNED for kinds in lists for kind in kinds)

    @property
    def shown_default(self) -> str:
        """What holds where nothing else is said."""
        return ", ".join(self._default)

    def check_pull(self, reference: Reference) -> None:
        """Whether an image may be taken from a registry. Raises: PermissionDenied, Unsupported."""
        self._check("docker", list(_scopes(reference)), f"pull {reference}")

    def check_load(self, transport: str, path: str) -> None:
        """Whether an archive or layout may be taken; ``path`` "" for a stream. Raises: PermissionDenied, Unsupported.

        ``transport``: ``docker-archive``, ``oci-archive``, ``oci``.
        """
        scopes = []
        if path and transport != "docker-archive":
            scope = os.path.realpath(path)
            while scope != "/":
                scopes.append(scope)
                scope = os.path.dirname(scope)
        self._check(transport, scopes, f"load {path or 'the archive'}")

    def _check(self, transport: str, scopes: list[str], act: str) -> None:
        known = self._transports.get(transport, {})
        scope = next((item for item in (*scopes, "") if item in known), None)
        kinds = self._default if scope is None else known[scope]
        where = "default" if scope is None else f"transports.{transport}[{scope!r}]"
        # All of them have to be met.
        if _REJECT in kinds:
            raise PermissionDenied(f"{act}: the image policy rejects it", hint=f"{self.path}: {where}", path=self.path)
        if any(kind in _SIGNED for kind in kinds):
            raise Unsupported(
                f"{act}: the image policy wants a signature, and signatures cannot be verified",
                hint=f"{self.path}: {where}; verify it with skopeo, or accept it there with {_ACCEPT}",
                path=self.path,
            )

    def _requirements(self, value: object, where: str) -> list[str]:
        if not isinstance(value, list) or not value:
            raise self._wrong(f"{where} is no list of requirements")
        kinds = []
        for item in value:
            kind: Any = item.get("type") if isinstance(item, dict) else None
            if kind not in (_ACCEPT, _REJECT, *_SIGNED):
                raise self._wrong(f"{where} has a requirement of unknown type {kind!r}")
            kinds.append(str(kind))
        return kinds

    def _wrong(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"read {self.path}: {why}", hint="see containers-policy.json(5)", path=self.path)


def load_policy() -> Policy:
    """The policy that holds for this user now: its own file, else the system's. Raises: InvalidArgument."""
    own = os.path.join(os.path.expanduser("~"), ".config/containers/policy.json")
    for path in (own, _SYSTEM):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            continue
        except OSError as exc:
            # One that is there and cannot be read must not count as none.
            cause = (exc.strerror or "").lower()
            raise InvalidArgument(f"read {path}: {cause}", hint="it says which images may be taken", path=path) from exc
        try:
            return Policy(path, json.loads(data))
        except (ValueError, RecursionError) as exc:
            raise InvalidArgument(f"read {path}: {exc}", hint="see containers-policy.json(5)", path=path) from exc
    return Policy()


def _scopes(reference: Reference) -> Iterator[str]:
    """From the most to the least specific: with tag or digest, the repository, what is above it, hosts of a domain."""
    yield f"{reference.name}@{reference.digest}" if reference.digest else reference.tagged
    name = reference.name
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    host = name.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
