"""A registry inside the test's process, on loopback, that does what it is told: also the wrong thing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    """``sha256:...``"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(files: dict[str, bytes]) -> bytes:
    """A layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class MadeImage:
    """An image as bytes: what a registry or an archive holds of it."""

    layers: list[bytes]
    diff_ids: list[str]
    config: bytes
    manifest: bytes

    @property
    def id(self) -> str:
        """The config's digest."""
        return digest_of(self.config)

    def blobs(self) -> dict[str, bytes]:
        """Config and layers by digest."""
        return {digest_of(data): data for data in (self.config, *self.layers)}


def descriptor(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    """What points to ``data``."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def make_image(
    *tars: bytes, architecture: str = "amd64", compress: Callable[[bytes], bytes] | None = None, **config: object
) -> MadeImage:
    """An image of these layers (default: one with one file), gzip unless told otherwise."""
    contents = list(tars) or [layer_tar({"hello": b"world"})]
    pack = compress or (lambda data: gzip.compress(data, mtime=0))
    layers = [pack(data) for data in contents]
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": "2024-02-03T04:05:06Z",
        "config": {"Cmd": ["/hello"], **config},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in contents]},
        "history": [{"created": "2024-02-03T04:05:06Z", "created_by": "COPY hello /"}],
    }
    config_bytes = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config_bytes),
        "layers": [descriptor(LAYER, data) for data in layers],
    }
    return MadeImage(layers, [digest_of(data) for data in contents], config_bytes, json.dumps(manifest).encode())


@dataclass
class Answer:
    """One answer in place of the right one. ``cut``: hang up after so many bytes of the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    length: int | None = None


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


class FakeRegistry:
    """Use as a ``with`` block. ``faults`` maps (method, path) to answers given first, one after the other."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, set[str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: dict[tuple[str, str], list[Answer]] = {}
        self.seen: list[Seen] = []
        self.password = ""
        self.scheme = ""
        self.token_answer: dict[str, Any] = {"token": "t0ken", "expires_in": 300}
        self.has_ranges = True
        self.hangs_after_short_answers = False
        self.lock = threading.Lock()
        self.came = threading.Condition(self.lock)
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.registry = self  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def wait_for(self, method: str, path: str) -> None:
        """Wait until such a request came."""
        with self.came:
            assert self.came.wait_for(lambda: self.requests(method, path), timeout=60)

    def add(self, repository: str, tag: str, image: MadeImage) -> None:
        """Have this image."""
        self.add_manifest(repository, tag, image.manifest, MANIFEST)
        for digest, data in image.blobs().items():
            self.blobs[digest] = data
            self.repositories.setdefault(repository, set()).add(digest)

    def add_manifest(self, repository: str, tag: str, data: bytes, media_type: str) -> None:
        """Have this manifest or index."""
        for target in (tag, digest_of(data)):
            self.manifests[repository, target] = (media_type, data)

    def add_index(self, repository: str, tag: str, images: dict[str, MadeImage]) -> bytes:
        """Have an index of images by ``os/arch[/variant]``; returns its bytes."""
        entries = []
        for platform, image in images.items():
            self.add(repository, digest_of(image.manifest), image)
            parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
            entries.append(descriptor(MANIFEST, image.manifest, platform=parts))
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        self.add_manifest(repository, tag, data, INDEX)
        return data

    def requests(self, method: str, ending: str = "") -> list[Seen]:
        """The requests with this method whose path ends so."""
        return [item for item in self.seen if item.method == method and item.path.endswith(ending)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> FakeRegistry:
        return self.server.registry  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        """Tests look at ``seen``."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        registry = self.registry
        with registry.lock:
            registry.seen.append(Seen(self.command, parts.path, query, dict(self.headers.items()), body))
            registry.came.notify_all()
            faults = registry.faults.get((self.command, parts.path), [])
            answer = faults.pop(0) if faults else None
            if answer is None:
                answer = self._refuse() or self._route(parts.path, query, body)
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {
            "Content-Length": str(len(answer.body) if answer.length is None else answer.length),
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
        if answer.cut is not None or answer.length is not None:
            self.close_connection = True
            if self.registry.hangs_after_short_answers:
                self.wfile.flush()
                self.registry.ended.wait()

    def _refuse(self) -> Answer | None:
        registry = self.registry
        given = self.headers.get("Authorization", "")
        if not registry.scheme or self.path.startswith("/token"):
            return None
        if registry.scheme == "basic":
            wanted = "Basic " + base64.b64encode(f"user:{registry.password}".encode()).decode()
            return None if given == wanted else Answer(401, {"WWW-Authenticate": 'Basic realm="fake"'})
        if given == f"Bearer {registry.token_answer.get('token')}":
            return None
        realm = f"http://{registry.host}/token"
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="fake",scope="repository:a:pull"'})

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
        if path == "/token":
            return self._token(body)
        if path == "/v2/":
            return Answer()
        repository, _, rest = path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            return self._manifest(repository, rest, body)
        repository, _, rest = path.removeprefix("/v2/").partition("/blobs/uploads/")
        if "/blobs/uploads/" in path:
            return self._upload(repository, rest, query, body)
        repository, _, rest = path.removeprefix("/v2/").rpartition("/blobs/")
        return self._blob(repository, rest)

    def _token(self, body: bytes) -> Answer:
        registry = self.registry
        basic = "Basic " + base64.b64encode(f"user:{registry.password}".encode()).decode()
        is_ours = self.headers.get("Authorization") == basic or b"refresh_token=" in body
        if registry.password and not is_ours:
            return Answer(401, {}, json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "who?"}]}).encode())
        return Answer(body=json.dumps(registry.token_answer).encode())

    def _manifest(self, repository: str, target: str, body: bytes) -> Answer:
        registry = self.registry
        if self.command == "PUT":
            registry.add_manifest(repository, target, body, self.headers["Content-Type"])
            return Answer(201, {"Docker-Content-Digest": digest_of(body)})
        found = registry.manifests.get((repository, target))
        if found is None:
            errors = [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]
            return Answer(404, {}, json.dumps({"errors": errors}).encode())
        return Answer(200, {"Content-Type": found[0], "Docker-Content-Digest": digest_of(found[1])}, found[1])

    def _blob(self, repository: str, digest: str) -> Answer:
        registry = self.registry
        data = registry.blobs.get(digest)
        if data is None or digest not in registry.repositories.get(repository, set()):
            return Answer(404)
        start = self.headers.get("Range", "")
        if start and registry.has_ranges:
            offset = int(start.removeprefix("bytes=").rstrip("-"))
            if offset >= len(data):
                return Answer(416)
            return Answer(206, {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}, data[offset:])
        return Answer(200, {}, data)

    def _upload(self, repository: str, name: str, query: dict[str, list[str]], body: bytes) -> Answer:
        registry = self.registry
        if self.command == "POST":
            source, digest = query.get("from", [""])[0], query.get("mount", [""])[0]
            if digest in registry.repositories.get(source, set()):
                registry.repositories.setdefault(repository, set()).add(digest)
                return Answer(201)
            name = f"up{len(registry.uploads)}"
            registry.uploads[name] = b""
            return Answer(202, {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=1"})
        location = {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=2"}
        if self.command == "GET":
            return Answer(204, {**location, "Range": f"0-{max(len(registry.uploads[name]) - 1, 0)}"})
        if self.command == "PATCH":
            if int(self.headers["Content-Range"].partition("-")[0]) != len(registry.uploads[name]):
                return Answer(416)
            registry.uploads[name] += body
            return Answer(202, location)
        if self.command == "DELETE":
            del registry.uploads[name]
            return Answer(204)
        data = registry.uploads.pop(name) + body
        digest = query["digest"][0]
        if digest_of(data) != digest:
            return Answer(400, {}, json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}).encode())
        registry.blobs[digest] = data
        registry.repositories.setdefault(repository, set()).add(digest)
        return Answer(201)
