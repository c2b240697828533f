"""Debian's docker-registry on loopback: plain, or with TLS by an authority of its own and a password."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "someone", "p4ss:word"
_DEADLINE_S = 60


@dataclass(frozen=True)
class PeerRegistry:
    """One running registry. ``certificates``: the authority's folder, as for certs.d; None without TLS."""

    host: str
    certificates: Path | None
    log: Path

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self.certificates else "http"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(*command: str, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_DEADLINE_S, check=True)
    return result.stdout


def _make_certificates(folder: Path) -> None:
    """An authority, and a certificate by it for 127.0.0.1."""
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _run(
        "openssl",
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-subj",
        "/CN=ca",
        "-days",
        "2",
        cwd=folder,
    )
    _run("openssl", "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry", cwd=folder)
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    _run(*sign, "-days", "2", "-extfile", "extensions", "-out", "server.crt", cwd=folder)


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.02)
    raise AssertionError(f"docker-registry does not listen: {log.read_text()}")


@contextlib.contextmanager
def running_registry(folder: Path, *, is_secure: bool) -> Iterator[PeerRegistry]:
    """A registry with its files below ``folder``; ``is_secure``: with TLS and USER's password."""
    folder.mkdir()
    port = _free_port()
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    certificates = None
    if is_secure:
        _make_certificates(folder / "tls")
        certificates = folder / "authority"
        certificates.mkdir()
        (certificates / "ca.crt").write_bytes((folder / "tls/ca.crt").read_bytes())
        (folder / "htpasswd").write_text(_run("htpasswd", "-nbB", USER, PASSWORD, cwd=folder))
        tls = {"certificate": str(folder / "tls/server.crt"), "key": str(folder / "tls/server.key")}
        config["http"] = {"addr": f"127.0.0.1:{port}", "tls": tls}
        config["auth"] = {"htpasswd": {"realm": "peers", "path": str(folder / "htpasswd")}}
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    log = folder / "log"
    with open(log, "wb") as output:
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_up(port, process, log)
        yield PeerRegistry(f"127.0.0.1:{port}", certificates, log)
    finally:
        process.kill()
        process.wait()


def manifest_type(registry: PeerRegistry, repository: str, tag: str) -> str:
    """The media type under which a plain registry has the manifest."""
    connection = http.client.HTTPConnection(registry.host, timeout=_DEADLINE_S)
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": accept})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.getheader("Content-Type", "")
