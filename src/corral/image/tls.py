"""TLS contexts for registries: the system's authorities, and what administrators put into certs.d.

Source: containers-certs.d(5); Docker's "Verify repository client with certificates".
"""

from __future__ import annotations

import os
import ssl

from corral.errors import InvalidArgument


def certificate_folders(host: str) -> list[str]:
    """The directories that may hold certificates for ``host`` (``name`` or ``name:port``), the first counts most."""
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers/certs.d")
    return [f"{folder}/{host}" for folder in (own, "/etc/containers/certs.d", "/etc/docker/certs.d")]


def client_context(host: str, *, is_verified: bool = True) -> ssl.SSLContext:
    """What to connect to ``host`` with. Of the certs.d directories the first that exists counts.

    ``*.crt`` there are authorities, ``NAME.cert`` with ``NAME.key`` is what to identify oneself with.
    Raises: InvalidArgument, naming the file that cannot be used.
    """
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    folder = next((path for path in certificate_folders(host) if os.path.isdir(path)), "")
    for name in sorted(os.listdir(folder)) if folder else []:
        path = f"{folder}/{name}"
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                key = f"{path[: -len('.cert')]}.key"
                if not os.path.exists(key):
                    raise InvalidArgument(f"read {path}: its key {key} is missing", path=path)
                context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as exc:
            cause = "not a certificate in PEM form" if isinstance(exc, ssl.SSLError) else str(exc.strerror).lower()
            raise InvalidArgument(f"read {path}: {cause}", hint=f"correct or remove the file in {folder}") from exc
    return context
