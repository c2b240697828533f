"""HTTP as registries need it: connections per host, redirects that leak nothing, bounded bodies, retries with patience.

Knows nothing of images. Credentials go to the host they are for, and never into a message: of a URL only scheme, host
and path are shown, since queries hold signatures.
"""

from __future__ import annotations

import random
import threading
import urllib.request
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError, NewConnectionError, SSLError

from corral import __version__
from corral.errors import CorralError, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unavailable
from corral.image.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from corral.image.ingest import Readable
    from corral.image.progress import Cancel

    T = TypeVar("T")

MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 << 10
_CONNECT_S, _READ_S = 15.0, 60.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 60.0
Response = urllib3.BaseHTTPResponse


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try, and how long to wait: ``first_wait_s``, doubled each time, with some chance in it."""

    tries: int = 6
    first_wait_s: float = 0.3

    def wait_s(self, attempt: int) -> float:
        """How long to wait after the ``attempt``-th try (from 0)."""
        return min(self.first_wait_s * float(1 << attempt) * random.uniform(0.75, 1.25), LONGEST_WAIT_S)


class Transient(Unavailable):
    """Another try may do: the connection broke, or the server is busy. ``wait_s``: what the server asked for."""

    def __init__(self, message: str, *, hint: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s


class Unreachable(Unavailable):
    """Nobody answers at this address; another address may do better, another try not."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``body`` is called for each try, so that it starts at its beginning."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], bytes | Readable] | None = None
    body_bytes: int = 0


def shown(url: str) -> str:
    """The URL for messages: without user, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class Client:
    """Connections to the hosts that one operation talks to. Safe for several threads; ``close`` at the end.

    ``is_insecure``: certificates are not verified, and redirects to plain http are followed.
    """

    def __init__(self, *, is_insecure: bool = False, connections: int = 8, read_timeout_s: float = _READ_S) -> None:
        self.is_insecure = is_insecure
        if is_insecure:
            # Whoever configured it so need not be told at each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._connections = connections
        self._timeout = urllib3.Timeout(connect=_CONNECT_S, read=read_timeout_s)
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str, int], urllib3.PoolManager] = {}
        self._open: weakref.WeakSet[Response] = weakref.WeakSet()

    def send(self, request: Request) -> Response:
        """One request and its answer, whose body is yet to be read; redirects of GET and HEAD are followed.

        Raises: Transient, Unreachable, Unavailable, InvalidArgument (redirects that go in circles or to http).
        """
        headers = {"User-Agent": f"corral/{__version__}", "Accept-Encoding": "identity", **request.headers}
        url = request.url
        for _redirect in range(MAX_REDIRECTS + 1):
            response = self._send_once(request, url, headers)
            location = response.headers.get("Location")
            if (
                request.method not in ("GET", "HEAD")
                or response.status not in (301, 302, 303, 307, 308)
                or not location
            ):
                return response
            drop(response)
            target = urljoin(url, location)
            self._check_redirect(url, target)
            if origin(target) != origin(url):
                headers.pop("Authorization", None)
            url = target
        raise InvalidArgument(f"get {shown(request.url)}: more than {MAX_REDIRECTS} redirects")

    def _check_redirect(self, url: str, target: str) -> None:
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https"):
            raise InvalidArgument(f"get {shown(url)}: it redirects to {scheme!r}, which is not http")
        if urlsplit(url).scheme == "https" and scheme == "http" and not self.is_insecure:
            raise InvalidArgument(
                f"get {shown(url)}: it redirects to plain http at {shown(target)}",
                hint="only for a registry that is configured as insecure this would be followed",
            )

    def _send_once(self, request: Request, url: str, headers: dict[str, str]) -> Response:
        body = request.body() if request.body is not None else None
        if body is not None:
            headers = {**headers, "Content-Length": str(request.body_bytes)}
        try:
            manager = self._manager(url)
            response = manager.request(
                request.method,
                url,
                headers=headers,
                body=body,  # type: ignore[arg-type]  # any object with read() will do
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
            with self._lock:
                self._open.add(response)
            return response
        except (HTTPError, OSError, ValueError) as exc:
            raise connection_error(f"{request.method.lower()} {shown(url)}", exc) from exc
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _manager(self, url: str) -> urllib3.PoolManager:
        key = origin(url)
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                manager = self._managers[key] = self._make_manager(url)
        return manager

    def _make_manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        options: dict[str, object] = {"maxsize": self._connections, "block": False, "blocksize": 256 << 10}
        if parts.scheme == "https":
            host = parts.netloc.rpartition("@")[2]
            options["ssl_context"] = client_context(host, is_verified=not self.is_insecure)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)  # type: ignore[arg-type]
        return urllib3.PoolManager(**options)  # type: ignore[arg-type]

    def abort(self) -> None:
        """End the answers that other threads are reading: they see their end at once."""
        with self._lock:
            answers = list(self._open)
        for response in answers:
            try:
                response.shutdown()
            except (HTTPError, OSError, ValueError, RuntimeError):
                pass  # read to its end already

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()
            self._managers.clear()


def connection_error(act: str, exc: Exception) -> CorralError:
    """What an exception of the HTTP library comes to."""
    cause: BaseException = exc
    while isinstance(cause, MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    if isinstance(cause, SSLError):
        return Unreachable(
            f"{act}: tls: {cause}",
            hint="put the registry's authority into /etc/containers/certs.d/HOST:PORT/ca.crt; "
            "for a registry without TLS set `insecure = true` in registries.conf or use --tls-verify=false",
        )
    if isinstance(cause, NameResolutionError):
        return Unreachable(f"{act}: the name cannot be resolved", hint="check the name, and the DNS of this machine")
    if isinstance(cause, NewConnectionError):
        return Unreachable(f"{act}: no connection: {cause.__cause__ or cause}".lower())
    return Transient(f"{act}: {cause}")


def drop(response: Response) -> None:
    """Be done with an answer whose body does not matter: read it if it is short, so that the connection lives on."""
    try:
        response.read(MAX_ERROR_BYTES, decode_content=False)
        if response.length_remaining in (0, None):
            response.release_conn()
            return
    except (HTTPError, OSError):
        pass  # the connection is of no more use
    response.close()


def read_all(response: Response, limit_bytes: int, act: str) -> bytes:
    """The body, which must not be larger than that. Raises: InvalidArgument; Transient if it breaks off."""
    parts: list[bytes] = []
    size = 0
    try:
        while data := response.read(64 << 10, decode_content=False):
            size += len(data)
            if size > limit_bytes:
                response.close()
                raise InvalidArgument(f"{act}: the answer is larger than {limit_bytes} bytes")
            parts.append(data)
    except (HTTPError, OSError) as exc:
        response.close()
        raise connection_error(act, exc) from exc
    response.release_conn()
    return b"".join(parts)


def status_error(response: Response, act: str, explain: Callable[[bytes], str]) -> CorralError:
    """What an answer with an error's status comes to; ``explain`` finds the server's own words in the body."""
    try:
        words = explain(response.read(MAX_ERROR_BYTES, decode_content=False))
    except (HTTPError, OSError):
        words = ""
    response.close()
    status = response.status
    cause = f"{act}: {words or (response.reason or 'no reason given').lower()} (http {status})"
    if status in (401, 403):
        return PermissionDenied(
            cause, hint="log in with `corral login`; a private image, or a name mistyped, looks like this"
        )
    if status == 404:
        return NotFound(cause, hint="check the image's name and tag")
    if status in _BUSY:
        return Transient(cause, wait_s=_retry_after(response.headers.get("Retry-After", "")))
    if status in (413, 507):
        return ResourceExhausted(cause)
    if 400 <= status < 500:
        return InvalidArgument(cause)
    return Unavailable(cause)


def persist(act: Callable[[], T], patience: Patience, cancel: Cancel, what: str) -> T:
    """Do ``act`` until it works; Transient errors are waited out. Raises: the last of them; Cancelled."""
    for attempt in range(patience.tries - 1):
        cancel.check(what)
        try:
            return act()
        except Transient as exc:
            cancel.wait(max(patience.wait_s(attempt), min(exc.wait_s, LONGEST_WAIT_S)), what)
    cancel.check(what)
    return act()


def _retry_after(text: str) -> float:
    # The other form, a date, would need this machine's clock to be right: the usual wait does.
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
