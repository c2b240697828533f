"""Who we are to a registry: the files and helper programs that hold user names and passwords.

Secrets are shown nowhere: not by ``repr``, not in messages, not in arguments of programs.

Source: containers-auth.json(5); docker login, "Credential helpers".
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from corral.image.disk import write_atomically
from corral.image.manifest import as_object
from corral.oci.json import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

# Docker's files know Docker Hub by the address of its first version.
_HUB_KEYS = ("docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_HELPER_TIMEOUT_S = 30
_MAX_FILE_BYTES = 4 << 20
_TOKEN_USER = "<token>"
_HELPER_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or (without a name) an identity token to be exchanged."""

    username: str
    secret: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether the secret is a token for OAuth2 rather than a password."""
        return not self.username or self.username == _TOKEN_USER

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.secret}".encode()).decode()


def auth_files(path: str = "") -> list[str]:
    """Where credentials may be, the first counts most; ``path`` (``--authfile``) or the environment replaces them."""
    explicit = path or os.environ.get("REGISTRY_AUTH_FILE", "")
    if explicit:
        return [explicit]
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    return [writable_file(), f"{config}/containers/auth.json", f"{docker}/config.json"]


def writable_file(path: str = "") -> str:
    """Where `login` writes: for this login session, as Podman does."""
    if explicit := path or os.environ.get("REGISTRY_AUTH_FILE", ""):
        return explicit
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/containers/auth.json"
    return f"/run/containers/{os.geteuid()}/auth.json"


def find_credentials(
    host: str, repository: str, path: str = "", helpers: list[str] | None = None
) -> Credentials | None:
    """Credentials for ``host/repository``, or None if there are none. ``helpers`` are those of registries.conf.

    In one file, the most specific entry counts (``host/team/app`` before ``host``). Raises: InvalidArgument for a
    damaged file; Unavailable for a helper that does not do its work.
    """
    for file in auth_files(path):
        document = _read(file)
        if document is None:
            continue
        found = _from_document(document, host, repository, file)
        if found is not None:
            return found
    for helper in helpers or []:
        if helper == "containers-auth.json":
            continue
        if found := ask_helper(helper, host):
            return found
    return None


def _from_document(document: dict[str, object], host: str, repository: str, file: str) -> Credentials | None:
    per_host = as_object(document.get("credHelpers") or {}, file, "credHelpers")
    for key in _host_keys(host):
        if helper := per_host.get(key):
            return ask_helper(str(helper), key)
    auths = as_object(document.get("auths") or {}, file, "auths")
    for key in _keys(host, repository):
        for spelled in _spellings(key):
            if spelled in auths and (found := _entry(auths[spelled], file, spelled)):
                return found
    if store := document.get("credsStore"):
        for key in _host_keys(host):
            if found := ask_helper(str(store), key):
                return found
    return None


def _keys(host: str, repository: str) -> Iterator[str]:
    """``host/a/b``, ``host/a``, ``host``."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:count]])
    yield from _host_keys(host)


def _host_keys(host: str) -> tuple[str, ...]:
    return _HUB_KEYS if host in _HUB_KEYS else (host,)


def _spellings(key: str) -> tuple[str, ...]:
    # Docker once wrote keys as URLs.
    return key, f"https://{key}", f"https://{key}/v1/", f"https://{key}/v2/", f"http://{key}"


def _entry(value: object, file: str, key: str) -> Credentials | None:
    entry = as_object(value, file, f"auths[{key!r}]")
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials("", token)
    encoded = entry.get("auth")
    if not isinstance(encoded, str) or not encoded:
        return None
    try:
        username, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"read {file}: auths[{key!r}].auth: not base64", hint="log in again") from exc
    if not colon:
        raise InvalidArgument(f"read {file}: auths[{key!r}].auth: not name:password", hint="log in again")
    return Credentials(username, secret.rstrip("\0"))


def ask_helper(helper: str, host: str) -> Credentials | None:
    """What ``docker-credential-HELPER get`` says about ``host``; None if it knows nothing. Raises: Unavailable."""
    try:
        answer = _run_helper(helper, "get", host)
    except NotFound:
        return None
    name = f"answer of docker-credential-{helper}"
    value = as_object(loads(answer, name), name, "")
    username, secret = value.get("Username"), value.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise InvalidArgument(f"read {name}: Username or Secret is missing")
    return Credentials("" if username == _TOKEN_USER else username, secret) if secret else None


def _run_helper(helper: str, verb: str, text: str) -> bytes:
    """Run a helper program of the user's PATH. Raises: NotFound if it does not know the host; Unavailable."""
    if not helper or not _HELPER_NAME.issuperset(helper):
        raise InvalidArgument(f"run credential helper {helper!r}: not the name of one")
    program = f"docker-credential-{helper}"
    try:
        result = subprocess.run(
            [program, verb], input=text.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError as exc:
        raise Unavailable(
            f"run {program}: not on PATH",
            hint="install it, or take it out of credHelpers and credsStore in the auth file",
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"run {program} {verb}: no answer within {_HELPER_TIMEOUT_S} s") from exc
    except OSError as exc:
        raise Unavailable(f"run {program} {verb}: {str(exc.strerror).lower()}") from exc
    if result.returncode != 0:
        # The words of the protocol, which helpers print on stdout. Nothing of the output is shown: it may hold secrets.
        if b"credentials not found" in result.stdout:
            raise NotFound(f"run {program} {verb}: it has no credentials for this registry")
        raise Unavailable(
            f"run {program} {verb}: exit status {result.returncode}", hint=f"try it by hand: {program} list"
        )
    return result.stdout[:_MAX_FILE_BYTES]


def store_credentials(host: str, credentials: Credentials, path: str = "") -> str:
    """Remember them for ``host``; returns where: a file or a helper's name. Raises: PermissionDenied, Unavailable."""
    file = writable_file(path)
    with _held(file):
        document = _read(file) or {}
        if helper := _helper_for(document, host):
            entry = {"ServerURL": _host_keys(host)[0], "Username": credentials.username, "Secret": credentials.secret}
            _run_helper(helper, "store", dumps(entry))
            return f"docker-credential-{helper}"
        auths = as_object(document.setdefault("auths", {}), file, "auths")
        encoded = base64.b64encode(f"{credentials.username}:{credentials.secret}".encode()).decode()
        auths[host] = {"auth": encoded}
        _write(file, document)
    return file


def remove_credentials(host: str, path: str = "") -> str:
    """Forget those for ``host``; returns where they were. Raises: NotFound."""
    file = writable_file(path)
    with _held(file):
        document = _read(file) or {}
        if helper := _helper_for(document, host):
            _run_helper(helper, "erase", _host_keys(host)[0])
            return f"docker-credential-{helper}"
        auths = as_object(document.get("auths") or {}, file, "auths")
        keys = [key for name in _host_keys(host) for key in _spellings(name) if key in auths]
        if keys:
            for key in keys:
                del auths[key]
            _write(file, document)
            return file
    others = [item for item in auth_files(path)[1:] if (found := _read(item)) and _from_document(found, host, "", item)]
    hint = f"they come from {others[0]}, which other programs wrote" if others else "see `corral login`"
    raise NotFound(f"log out of {host}: not logged in by {file}", hint=hint)


def logged_in_hosts(path: str = "") -> list[str]:
    """The hosts for which `login` remembered credentials in its own file."""
    file = writable_file(path)
    return sorted(as_object((_read(file) or {}).get("auths") or {}, file, "auths"))


def _helper_for(document: dict[str, object], host: str) -> str:
    per_host = document.get("credHelpers")
    if isinstance(per_host, dict):
        for key in _host_keys(host):
            if isinstance(found := per_host.get(key), str):
                return found
    store = document.get("credsStore")
    return store if isinstance(store, str) else ""


def _read(path: str) -> dict[str, object] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as exc:
        raise PermissionDenied(
            f"read {path}: permission denied", hint="the file is somebody else's", path=path
        ) from exc
    except OSError as exc:
        raise FailedPrecondition(f"read {path}: {str(exc.strerror).lower()}", path=path) from exc
    if not data.strip():
        return {}
    try:
        return as_object(loads(data, path), path, "")
    except CorralError as exc:
        # A parser's message may quote what it stumbled over.
        raise InvalidArgument(
            f"read {path}: not a JSON object", hint="correct the file, or log in again", path=path
        ) from exc


def _write(path: str, document: dict[str, object]) -> None:
    write_atomically(path, dumps(document, indent=2).encode() + b"\n", mode=0o600)


@contextmanager
def _held(path: str) -> Iterator[None]:
    """Hold the file's neighbour ``.lock``, so that two logins at once both stay."""
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise PermissionDenied(f"write {path}: {str(exc.strerror).lower()}", path=path) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
