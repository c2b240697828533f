"""Login and logout: credentials are tried at the registry before they are remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.errors import InvalidArgument, PermissionDenied
from corral.image.credentials import find_credentials, remove_credentials, store_credentials
from corral.image.progress import Cancel
from corral.image.pull import Access
from corral.image.reference import DEFAULT_REGISTRY, is_short_name, parse_reference
from corral.image.registries import Endpoint, load_registries

if TYPE_CHECKING:
    from corral.image.credentials import Credentials


def login(host: str, credentials: Credentials, *, access: Access | None = None) -> str:
    """Try the credentials at the registry, and remember them; returns where (a file, or a helper's name).

    Raises: PermissionDenied if the registry does not take them, Unavailable.
    """
    host = registry_host(host)
    chosen = access or Access()
    registries = load_registries()
    endpoint = registries.endpoints(parse_reference(f"{host}/any"))[-1]
    trial = Access(credentials, chosen.authfile, chosen.is_verified, chosen.patience)
    registry = trial.open(Endpoint(endpoint.host, "", endpoint.is_insecure), registries, Cancel())
    try:
        registry.ping()
    except PermissionDenied as exc:
        raise PermissionDenied(f"log in at {host}: user name or password is wrong", hint="try again") from exc
    finally:
        registry.close()
    return store_credentials(host, credentials, chosen.authfile)


def logout(host: str, *, authfile: str = "") -> str:
    """Forget the credentials for the registry; returns where they were. Raises: NotFound."""
    return remove_credentials(registry_host(host), authfile)


def logged_in_user(host: str, *, authfile: str = "") -> str:
    """Who one is logged in as at the registry; '' if not."""
    found = find_credentials(registry_host(host), "", authfile)
    return found.username if found is not None else ""


def registry_host(text: str) -> str:
    """``host[:port]`` of what a user calls a registry (also a URL); Docker Hub's for ''. Raises: InvalidArgument."""
    host = text.removeprefix("https://").removeprefix("http://").rstrip("/") or DEFAULT_REGISTRY
    if "/" in host or is_short_name(f"{host}/any"):
        raise InvalidArgument(
            f"log in at {text!r}: not a registry's host name", hint="for example registry.example.org"
        )
    return parse_reference(f"{host}/any").registry
