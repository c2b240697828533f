"""Fetching an image for a command, by policy, with progress where people look."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.image.credentials import Credentials
    from corral.image.pull import Access
    from corral.image.store import Image


def ensure_image(line: Line, context: Context, name: str) -> None:
    """Have the image that a container is made of, fetched as ``--pull`` says.

    Raises: NotFound where the policy forbids fetching it, and what the registry says.
    """
    policy = line.text("pull", "missing")
    if policy in ("missing", "never") and not line.text("platform"):
        # Most runs end here: no registry, nothing of what talks to one is imported.
        from corral.errors import NotFound
        from corral.image.store import ImageStore

        try:
            ImageStore(context.places.images).resolve(name)
        except NotFound:
            if policy == "never":
                raise
        else:
            return
    fetch(line, context, name, policy)


def fetch(line: Line, context: Context, name: str, policy: str) -> Image:
    """Pull an image and show how it goes: bars on a terminal, nothing with --quiet."""
    from corral.cli.progress import Bars
    from corral.engine.option_values import parse_choice
    from corral.image.pull import POLICIES, pull
    from corral.image.store import ImageStore

    chosen = next(item for item in POLICIES if item == parse_choice("pull", policy, POLICIES))
    with Bars(f"pulling {name}", is_quiet=line.has("quiet")) as bars:
        return pull(
            ImageStore(context.places.images),
            name,
            policy=chosen,
            platform=line.text("platform"),
            access=access_of(line),
            on_progress=bars.update,
        )


def access_of(line: Line, credentials: Credentials | None = None) -> Access:
    """How to talk to registries: ``--tls-verify``, ``--authfile``, ``--creds``."""
    from corral.image.pull import Access

    verify = line.values.get("tls-verify")
    return Access(
        credentials=credentials or _credentials(line.text("creds")),
        authfile=line.text("authfile"),
        is_verified=verify if isinstance(verify, bool) else None,
    )


def _credentials(text: str) -> Credentials | None:
    if not text:
        return None
    from corral.errors import InvalidArgument
    from corral.image.credentials import Credentials

    user, colon, secret = text.partition(":")
    if not colon:
        raise InvalidArgument("--creds: not of the form USER:PASSWORD", hint="`corral login` asks for it instead")
    return Credentials(user, secret)
