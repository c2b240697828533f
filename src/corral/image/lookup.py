"""From what a user writes to an image of the store: names, short names, digests, ids and their beginnings.

Pure, over the content of refs.json, except that registries.conf is asked where several repositories answer to one short
name. Cheap to import.
"""

from __future__ import annotations

from corral.errors import InvalidArgument, NotFound
from corral.image.digests import split
from corral.image.reference import id_prefix_or_none, is_short_name, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.image.reference import Reference
    from corral.image.refs import Refs

LOCAL_REGISTRY = "localhost"
"""Where images that were made here are, so that nobody takes them for Docker Hub's."""


class Found:
    """An image's id, and the name by which it was found ('' if it was by id or digest)."""

    __slots__ = ("image_id", "name")

    def __init__(self, image_id: str, name: str) -> None:
        self.image_id = image_id
        self.name = name


def find(refs: Refs, text: str) -> Found:
    """The image that ``text`` means. A name counts before an id. Raises: NotFound; InvalidArgument if several fit."""
    found = _by_name(refs, text)
    if found is None and (prefix := id_prefix_or_none(text)) is not None:
        found = _by_id(refs, text, prefix)
    if found is None:
        parse_id_or_name(text)
        raise NotFound(f"find image {text!r}: not in the store", hint=f"get it with: corral pull {text}")
    return found


def parse_id_or_name(text: str) -> None:
    """Raises: InvalidArgument if ``text`` can be neither an id nor a name."""
    if id_prefix_or_none(text) is None:
        parse_reference(text)


def local_name(text: str) -> str:
    """The complete name of something made here: a short one goes below ``localhost/``. Raises: InvalidArgument."""
    reference = parse_reference(f"{LOCAL_REGISTRY}/{text}" if is_short_name(text) else text)
    if reference.digest:
        raise InvalidArgument(f"name image {text!r}: a name has a tag, not a digest")
    return reference.tagged


def _by_name(refs: Refs, text: str) -> Found | None:
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        return None
    if reference.digest:
        return _by_repo_digest(refs, reference, is_short_name(text))
    candidates = [reference.tagged]
    if is_short_name(text):
        candidates.append(local_name(text))
    for name in candidates:
        if name in refs.names:
            return Found(refs.names[name], name)
    return _by_end_of_name(refs, text, reference.tag) if is_short_name(text) else None


def _by_end_of_name(refs: Refs, text: str, tag: str) -> Found | None:
    """A short name stands for any repository that ends with it, if there is but one."""
    ending = f"/{text.partition(':')[0]}:{tag}"
    names = [name for name in refs.names if name.endswith(ending)]
    if len({refs.names[name] for name in names}) > 1:
        names = _preferred(text, names)
    if not names:
        return None
    return Found(refs.names[names[0]], names[0])


def _preferred(text: str, names: list[str]) -> list[str]:
    from corral.image.registries import load_registries

    for candidate in load_registries().candidates(text):
        if candidate.tagged in names:
            return [candidate.tagged]
    raise InvalidArgument(
        f"find image {text!r}: several images have a name that ends so", hint=f"say which: {', '.join(sorted(names))}"
    )


def _by_repo_digest(refs: Refs, reference: Reference, is_short: bool) -> Found | None:
    wanted = {f"{reference.name}@{reference.digest}"}
    if is_short:
        repository = reference.repository.removeprefix("library/")
        ending = f"/{repository}@{reference.digest}"
    for image_id, record in refs.images.items():
        for digest in record.repo_digests:
            if digest in wanted or (is_short and digest.endswith(ending)):
                return Found(image_id, "")
        if reference.digest == record.manifest and any(
            name.startswith(f"{reference.name}:") for name in refs.names_of(image_id)
        ):
            return Found(image_id, "")
    return None


def _by_id(refs: Refs, text: str, prefix: str) -> Found | None:
    matches = [image_id for image_id in refs.images if split(image_id)[1].startswith(prefix)]
    if not matches and len(prefix) == 64:
        # The digest of a manifest means the image that it describes.
        matches = [image_id for image_id, record in refs.images.items() if split(record.manifest)[1] == prefix]
    if len(matches) > 1:
        raise InvalidArgument(
            f"find image {text!r}: {len(matches)} ids begin so",
            hint=f"write more of it: {', '.join(split(image_id)[1][:12] for image_id in sorted(matches)[:8])}",
        )
    return Found(matches[0], "") if matches else None
