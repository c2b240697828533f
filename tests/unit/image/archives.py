"""Archives and layouts of images, written here by hand: the tests' own idea of the formats."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from unit.image.fake_registry import MANIFEST, MadeImage, descriptor, digest_of


def tar_of(files: Mapping[str, bytes | str]) -> bytes:
    """A tar with these files; a ``str`` is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def docker_files(image: MadeImage, *tags: str) -> dict[str, bytes | str]:
    """The files of a docker-archive, manifest.json last, as `docker save` has it."""
    config = f"{digest_of(image.config)[7:]}.json"
    files: dict[str, bytes | str] = {f"{number}/layer.tar": data for number, data in enumerate(image.layers)}
    files[config] = image.config
    entry = {
        "Config": config,
        "RepoTags": list(tags) or None,
        "Layers": [f"{n}/layer.tar" for n in range(len(image.layers))],
    }
    files["manifest.json"] = json.dumps([entry]).encode()
    return files


def oci_files(image: MadeImage, **annotations: str) -> dict[str, bytes | str]:
    """The files of an OCI layout; annotations are spelled with _ for . in their names."""
    names = {name.replace("__", "."): value for name, value in annotations.items()}
    index = {"schemaVersion": 2, "manifests": [descriptor(MANIFEST, image.manifest, annotations=names)]}
    files: dict[str, bytes | str] = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
    }
    for data in (image.manifest, *image.blobs().values()):
        files[f"blobs/sha256/{digest_of(data)[7:]}"] = data
    return files


def write_folder(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """The files as a directory."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read_tar(data: bytes) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            content = archive.extractfile(member)
            found[member.name] = content.read() if content is not None else b""
        return found
