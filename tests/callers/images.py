"""Images made on the spot from Debian's static busybox: no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
REFERENCE = "localhost/corral-callers:1"
APPLETS = (
    "[ cat chmod cp cut date dd df echo env false grep head hostname id ifconfig ip kill ln ls mkdir mount "
    "mv nc ping printf ps pwd readlink rm sed seq sh sleep sort stat stty tail test touch true tty umount uname "
    "wc wget httpd"
).split()
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
    "etc/group": "root:x:0:\nuser:x:1000:\n",
    "etc/resolv.conf": "",
    "data/readme": "made from busybox\n",
}
DIRECTORIES = ("bin", "data", "dev", "etc", "home", "home/user", "proc", "root", "run", "sys", "tmp", "var")


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    archive.addfile(info)


def write_rootfs(path: Path) -> Path:
    """Write a root filesystem of about 2 MB as a tar file."""
    with tarfile.open(path, "w") as archive:
        for name in DIRECTORIES:
            _add_directory(archive, name, 0o1777 if name == "tmp" else 0o755)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
        for name, text in FILES.items():
            _add(archive, name, text.encode())
    return path


def _config(layer: bytes) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "busybox"}],
        }
    ).encode()


def write_docker_archive(path: Path, rootfs: Path) -> Path:
    """Write what `docker load` reads (the format of `docker save`)."""
    layer = rootfs.read_bytes()
    config = _config(layer)
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [REFERENCE], "Layers": ["layer/layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add_directory(archive, "layer", 0o755)
        _add(archive, "layer/layer.tar", layer)
        _add(archive, config_name, config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def write_oci_archive(path: Path, rootfs: Path) -> Path:
    """Write what `ctr image import` reads (an OCI image layout in a tar file)."""
    layer = rootfs.read_bytes()
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(_config(layer), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": REFERENCE, "org.opencontainers.image.ref.name": REFERENCE}
    index = {"schemaVersion": 2, "manifests": [entry]}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", data)
    return path
