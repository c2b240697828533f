"""The client of one registry host: manifests, blobs, uploads.

Each method is one thing to be had, with retries and the answers to challenges inside. Where a reference is to be had,
and what to fetch of it, is ``pull``'s part.

Source: OCI distribution-spec 1.1; distribution's HTTP API V2.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from corral.errors import InvalidArgument
from corral.image.auth import Authenticator
from corral.image.digests import digest_of, is_digest, split
from corral.image.http import (
    LONGEST_WAIT_S,
    Client,
    Patience,
    Request,
    Transient,
    Unreachable,
    connection_error,
    drop,
    origin,
    persist,
    read_all,
    status_error,
)
from corral.image.ingest import CHUNK
from corral.image.manifest import ACCEPTED, MAX_MANIFEST_BYTES
from corral.image.progress import Cancel
from corral.image.reference import DEFAULT_REGISTRY
from corral.image.registry_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from corral.image.credentials import Credentials
    from corral.image.http import Response
    from corral.image.ingest import Partial

    T = TypeVar("T")

_HUB_API = "registry-1.docker.io"
_READ_BYTES = 256 << 10
_WINDOW_S, _WINDOW_BYTES = 60.0, 60 << 10


class Fetched:
    """A manifest as it came: its bytes, their digest, and what the registry said they are."""

    __slots__ = ("data", "digest", "media_type")

    def __init__(self, data: bytes, media_type: str) -> None:
        self.data = data
        self.digest = ""
        self.media_type = media_type


class Registry:
    """One registry host, as one user. Safe for several threads. ``close`` at the end.

    ``is_insecure``: https without verification first, then plain http.
    """

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        is_insecure: bool = False,
        patience: Patience | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.host = host
        self.patience = patience or Patience()
        self.cancel = cancel or Cancel()
        self._client = Client(is_insecure=is_insecure)
        self.cancel.on_set(self._client.abort)
        self._auth = Authenticator(self._client, credentials)
        self._base = ""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def ping(self) -> None:
        """Ask whether it is there and takes our credentials. Raises: PermissionDenied, Unreachable, Unavailable."""
        self.expect(Request("GET", self.url("")), [], (200,), f"log in at {self.host}")

    def url(self, path: str) -> str:
        """The URL of ``path`` below the API's root."""
        with self._lock:
            if not self._base:
                self._base = self._find_base()
        return f"{self._base}/v2/{path}"

    def _find_base(self) -> str:
        host = _HUB_API if self.host == DEFAULT_REGISTRY else self.host
        if not self._client.is_insecure:
            return f"https://{host}"
        try:
            drop(self._client.send(Request("GET", f"https://{host}/v2/")))
        except (Unreachable, Transient):
            return f"http://{host}"
        return f"https://{host}"

    def send(self, request: Request, scopes: Sequence[str]) -> Response:
        """One request with our authorization; a challenge is answered once. The answer may have any status."""
        if self._base and origin(request.url) != origin(self._base):
            # Registries may take uploads elsewhere; who we are is no business of that place.
            return self._client.send(request)
        refused = self._auth.header(scopes)
        response = self._client.send(_with_authorization(request, refused))
        if response.status != 401:
            return response
        challenge = ", ".join(response.headers.getlist("WWW-Authenticate"))
        if not self._auth.answer(challenge, scopes, url=request.url, refused=refused):
            return response
        drop(response)
        return self._client.send(_with_authorization(request, self._auth.header(scopes)))

    def expect(self, request: Request, scopes: Sequence[str], statuses: Sequence[int], act: str) -> Response:
        """As ``send``, with patience, for an answer with one of these ``statuses``, whose body does not matter."""

        def attempt() -> Response:
            response = self.send(request, scopes)
            if response.status not in statuses:
                raise status_error(response, act, explain)
            drop(response)
            return response

        return self.persist(attempt, act)

    def persist(self, attempt: Callable[[], T], act: str) -> T:
        """Do ``attempt`` with this registry's patience."""
        return persist(attempt, self.patience, self.cancel, act)

    def manifest(self, repository: str, target: str) -> Fetched:
        """The manifest or index of a tag or a digest; of a digest, verified. Raises: NotFound, PermissionDenied ..."""
        act = f"get manifest of {self.host}/{repository}{'@' if is_digest(target) else ':'}{target}"
        request = Request("GET", self.manifest_url(repository, target), {"Accept": ", ".join(ACCEPTED)})

        def attempt() -> Fetched:
            response = self.send(request, pull_scope(repository))
            if response.status != 200:
                raise status_error(response, act, explain)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return Fetched(read_all(response, MAX_MANIFEST_BYTES, act), media_type)

        fetched = self.persist(attempt, act)
        fetched.digest = _checked_digest(fetched.data, target, act) if is_digest(target) else digest_of(fetched.data)
        return fetched

    def manifest_digest(self, repository: str, target: str) -> str:
        """The digest that a tag has now, as the registry says, or '' if it does not say. Raises: NotFound ..."""
        request = Request("HEAD", self.manifest_url(repository, target), {"Accept": ", ".join(ACCEPTED)})
        response = self.expect(request, pull_scope(repository), (200,), f"look for {self.host}/{repository}:{target}")
        digest = response.headers.get("Docker-Content-Digest", "")
        return digest if is_digest(digest) else ""

    def fetch_blob(self, repository: str, partial: Partial, on_bytes: Callable[[int], None]) -> None:
        """Bring the blob's missing bytes into ``partial``, check it and give it its place.

        Connections that break are taken up again, as long as each brings something.
        Raises: InvalidArgument for wrong content, NotFound, PermissionDenied, Unavailable, Cancelled.
        """
        has_leftovers = partial.offset > 0
        self._fetch_all(repository, partial, on_bytes)
        try:
            partial.commit()
        except InvalidArgument:
            if not has_leftovers:
                raise
            # What was left from before may be what is wrong: once more, from the beginning (it was rewound).
            self._fetch_all(repository, partial, on_bytes)
            partial.commit()

    def _fetch_all(self, repository: str, partial: Partial, on_bytes: Callable[[int], None]) -> None:
        act = f"get blob {partial.digest} of {self.host}/{repository}"
        best, tries = partial.offset, 0
        while partial.offset < partial.size:
            self.cancel.check(act)
            try:
                self._fetch_rest(repository, partial, on_bytes, act)
            except Transient as exc:
                # Only new ground counts as progress, or a server that always begins again would hold us for ever.
                tries = 0 if partial.offset >= best + CHUNK else tries + 1
                best = max(best, partial.offset)
                if tries >= self.patience.tries:
                    raise
                self.cancel.wait(max(self.patience.wait_s(tries), min(exc.wait_s, LONGEST_WAIT_S)), act)

    def _fetch_rest(self, repository: str, partial: Partial, on_bytes: Callable[[int], None], act: str) -> None:
        headers = {"Range": f"bytes={partial.offset}-"} if partial.offset else {}
        request = Request("GET", self.blob_url(repository, partial.digest), headers)
        response = self.send(request, pull_scope(repository))
        if response.status == 416 or (response.status == 206 and not _begins_at(response, partial.offset)):
            drop(response)
            partial.rewind()
            raise Transient(f"{act}: it does not go on at the byte that was asked for")
        if response.status not in (200, 206):
            raise status_error(response, act, explain)
        if response.status == 200 and partial.offset:
            partial.rewind()
        is_whole = False
        pace = _Pace(act)
        try:
            while data := response.read1(_READ_BYTES, decode_content=False):
                self.cancel.check(act)
                partial.write(data)
                pace.step(len(data))
                on_bytes(partial.offset)
            is_whole = True
        except (HTTPError, OSError) as exc:
            self.cancel.check(act)
            raise connection_error(act, exc) from exc
        finally:
            if is_whole:
                response.release_conn()
            else:
                response.close()
        if partial.offset < partial.size:
            raise Transient(f"{act}: it ended after {partial.offset} of {partial.size} bytes")

    def manifest_url(self, repository: str, target: str) -> str:
        """Where a manifest is."""
        return self.url(f"{quote(repository)}/manifests/{quote(target, safe=':')}")

    def blob_url(self, repository: str, digest: str) -> str:
        """Where a blob is."""
        return self.url(f"{quote(repository)}/blobs/{digest}")


class _Pace:
    """Notices a server that keeps a transfer alive and brings next to nothing."""

    __slots__ = ("_act", "_bytes", "_since_s")

    def __init__(self, act: str) -> None:
        self._act = act
        self._bytes = 0
        self._since_s = time.monotonic()

    def step(self, size: int) -> None:
        """So many bytes came. Raises: Transient for less than a kilobyte a second over a minute."""
        self._bytes += size
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s >= _WINDOW_S:
            if self._bytes < _WINDOW_BYTES:
                raise Transient(f"{self._act}: {self._bytes} bytes in {elapsed_s:.0f} s")
            self._bytes, self._since_s = 0, time.monotonic()


def pull_scope(repository: str) -> list[str]:
    """What a token for reading is asked for."""
    return [f"repository:{repository}:pull"]


def push_scope(repository: str) -> list[str]:
    """What a token for writing is asked for."""
    return [f"repository:{repository}:pull,push"]


def _checked_digest(data: bytes, wanted: str, act: str) -> str:
    algorithm = split(wanted)[0]
    found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if found != wanted:
        raise InvalidArgument(
            f"{act}: its content is {found}",
            hint="the registry sends other content than it was asked for: do not trust it",
        )
    return wanted


def _with_authorization(request: Request, value: str) -> Request:
    return replace(request, headers={**request.headers, "Authorization": value}) if value else request


def _begins_at(response: Response, offset: int) -> bool:
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    return unit.lower() == "bytes" and rest.partition("-")[0].strip() == str(offset)
