"""Sending blobs and manifests to a registry.

Source: OCI distribution-spec "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob from another repository".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

from corral.errors import CorralError, InvalidArgument
from corral.image.digests import digest_of, is_digest
from corral.image.http import Request, Transient, drop, origin, shown, status_error
from corral.image.registry import Registry, pull_scope, push_scope
from corral.image.registry_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corral.image.manifest import Descriptor

# One piece of a blob where it has to be sent in pieces.
_PIECE_BYTES = 16 << 20


class Source(Protocol):
    """A blob to be sent."""

    def read(self, size: int, /) -> bytes:
        """The next bytes; none at the end."""

    def close(self) -> None:
        """Be done with it."""


class Upload:
    """Sending to one repository of a registry."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._registry = registry
        self._repository = repository
        self._scopes = push_scope(repository)
        self._name = f"{registry.host}/{repository}"

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has it already."""
        request = Request("HEAD", self._registry.blob_url(self._repository, digest))
        act = f"look for blob {digest} in {self._name}"
        return self._registry.expect(request, self._scopes, (200, 404), act).status == 200

    def mount_blob(self, digest: str, source: str) -> bool:
        """Ask the registry to take the blob over from its repository ``source``; False if it wants to be sent it."""
        url = (
            f"{self._registry.url(f'{self._repository}/blobs/uploads/')}?{urlencode({'mount': digest, 'from': source})}"
        )
        scopes = [*self._scopes, *pull_scope(source)]
        try:
            response = self._registry.send(Request("POST", url, body=bytes), scopes)
        except CorralError:
            return False  # sending the blob finds out whether the registry is there
        drop(response)
        location = response.headers.get("Location", "")
        if response.status == 202 and location:
            # It began an upload instead, which nobody will finish; registries also forget uploads by themselves.
            try:
                drop(self._registry.send(Request("DELETE", self._target(url, location)), scopes))
            except CorralError:
                pass
        return response.status == 201

    def send_blob(self, blob: Descriptor, source: Callable[[int], Source], on_bytes: Callable[[int], None]) -> None:
        """Send a blob; ``source(offset)`` opens it there. At first in one request; if that breaks, in pieces.

        Raises: PermissionDenied, InvalidArgument, Unavailable, Cancelled.
        """
        act = f"send blob {blob.digest} to {self._name}"
        sends = iter((self._send_whole,))

        def attempt() -> None:
            send = next(sends, self._send_pieces)
            location, smallest = self._begin(act)
            send(_Sending(blob, source, on_bytes, act, max(_PIECE_BYTES, smallest)), location)

        self._registry.persist(attempt, act)

    def put_manifest(self, target: str, data: bytes, media_type: str) -> str:
        """Store a manifest under a tag or its digest; returns the digest that it has there."""
        act = f"put manifest to {self._name}:{target}"
        url = self._registry.manifest_url(self._repository, target)
        request = Request("PUT", url, {"Content-Type": media_type}, lambda: data, len(data))
        response = self._registry.expect(request, self._scopes, (200, 201, 202), act)
        digest = response.headers.get("Docker-Content-Digest", "")
        return digest if is_digest(digest) else digest_of(data)

    def _begin(self, act: str) -> tuple[str, int]:
        """(where to send to, the smallest piece that the registry takes)."""
        url = self._registry.url(f"{self._repository}/blobs/uploads/")
        response = self._registry.send(Request("POST", url, body=bytes), self._scopes)
        if response.status != 202:
            raise status_error(response, act, explain)
        drop(response)
        smallest = response.headers.get("OCI-Chunk-Min-Length", "")
        location = self._target(url, response.headers.get("Location", ""))
        return location, int(smallest) if smallest.isascii() and smallest.isdigit() else 0

    def _send_whole(self, sending: _Sending, location: str) -> None:
        url = _with_query(location, {"digest": sending.blob.digest})
        headers = {"Content-Type": "application/octet-stream"}
        request = Request("PUT", url, headers, lambda: sending.open(0, sending.blob.size), sending.blob.size)
        response = self._registry.send(request, self._scopes)
        if response.status not in (201, 204):
            raise status_error(response, sending.act, explain)
        drop(response)

    def _send_pieces(self, sending: _Sending, location: str) -> None:
        offset, failures = 0, 0
        while offset < sending.blob.size:
            length = min(sending.piece_bytes, sending.blob.size - offset)
            try:
                location = self._send_piece(sending, location, offset, length)
                offset += length
                failures = 0
            except Transient:
                failures += 1
                if failures >= self._registry.patience.tries:
                    raise
                self._registry.cancel.wait(self._registry.patience.wait_s(failures), sending.act)
                location, offset = self._state(sending, location)
        url = _with_query(location, {"digest": sending.blob.digest})
        self._registry.expect(Request("PUT", url, body=bytes), self._scopes, (201, 204), sending.act)

    def _send_piece(self, sending: _Sending, location: str, offset: int, length: int) -> str:
        """Send one piece; returns where the next goes."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + length - 1}",
        }
        request = Request("PATCH", location, headers, lambda: sending.open(offset, length), length)
        response = self._registry.send(request, self._scopes)
        if response.status == 416:
            drop(response)
            raise Transient(f"{sending.act}: the registry has other pieces than were sent")
        if response.status not in (202, 204):
            raise status_error(response, sending.act, explain)
        drop(response)
        return self._target(location, response.headers.get("Location", "") or location)

    def _state(self, sending: _Sending, location: str) -> tuple[str, int]:
        """(where the next piece goes, how many bytes the registry has)."""
        response = self._registry.expect(Request("GET", location), self._scopes, (204,), sending.act)
        last = response.headers.get("Range", "").rpartition("-")[2]
        offset = int(last) + 1 if last.isascii() and last.isdigit() else 0
        # "0-0" says both one byte and none; beginning with nothing is right for the latter, and rare for the former.
        return self._target(location, response.headers.get("Location", "") or location), 0 if offset == 1 else offset

    def _target(self, url: str, location: str) -> str:
        if not location:
            raise InvalidArgument(f"send to {shown(url)}: the registry does not say where to")
        target = urljoin(url, location)
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            if origin(url)[1] != origin(target)[1]:
                raise InvalidArgument(f"send to {shown(url)}: it points to {shown(target)}, which is not https")
            # A registry behind a proxy that ends TLS often names itself by http: it means itself.
            target = urlsplit(target)._replace(scheme="https", netloc=urlsplit(url).netloc).geturl()
        return target


class _Sending:
    """One blob on its way."""

    def __init__(
        self,
        blob: Descriptor,
        source: Callable[[int], Source],
        on_bytes: Callable[[int], None],
        act: str,
        piece_bytes: int,
    ) -> None:
        self.blob = blob
        self.act = act
        self.piece_bytes = piece_bytes
        self._source = source
        self._on_bytes = on_bytes

    def open(self, offset: int, length: int) -> Source:
        """``length`` bytes of the blob from ``offset``, counted while they are read."""
        return _Piece(self._source(offset), offset, length, self._on_bytes)


class _Piece:
    __slots__ = ("_offset", "_on_bytes", "_rest", "_source")

    def __init__(self, source: Source, offset: int, length: int, on_bytes: Callable[[int], None]) -> None:
        self._source = source
        self._offset = offset
        self._rest = length
        self._on_bytes = on_bytes

    def read(self, size: int, /) -> bytes:
        data = self._source.read(min(size, self._rest) if size >= 0 else self._rest)
        self._rest -= len(data)
        self._offset += len(data)
        self._on_bytes(self._offset)
        return data

    def close(self) -> None:
        self._source.close()


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(fields)}"
