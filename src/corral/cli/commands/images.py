"""``corral images``, ``rmi``, ``tag``, ``history`` and ``image prune``."""

from __future__ import annotations

from corral.cli.context import complain, write
from corral.cli.flags import ALL, FILTER, FORMAT, NO_HEADING, NO_TRUNC, QUIET, Command, switch
from corral.cli.render import print_list, short_id, size
from corral.errors import CorralError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Raw, Shown
    from corral.image.store import Image, ImageStore, Removal

COMMANDS = (
    Command(
        "images",
        "[NAME]",
        (ALL, FILTER, FORMAT, NO_HEADING, NO_TRUNC, QUIET, switch("digests", "show the manifests' digests")),
        most=1,
        operands="image",
        text="Filters: reference=NAME, label=NAME[=VALUE], dangling=true|false.",
        examples=(("images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "by a template"),),
    ),
    Command(
        "rmi",
        "IMAGE...",
        (
            switch("force", "all its names, and though a container was made of it", "f"),
            switch("all", "all images that no container was made of", "a"),
            switch("ignore", "an image that is not there is no error", "i"),
        ),
        operands="image",
    ),
    Command("tag", "IMAGE NAME...", least=2, operands="image"),
    Command("history", "IMAGE", (FORMAT, NO_TRUNC, QUIET), least=1, most=1, operands="image"),
    Command(
        "image prune",
        flags=(
            switch("all", "those with names too", "a"),
            switch("force", "kept for scripts: nothing is asked", "f"),
        ),
        most=0,
    ),
)
_COLUMNS = (
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
)
_DIGESTS = (*_COLUMNS[:2], ("DIGEST", "Digest"), *_COLUMNS[2:])
_HISTORY = (("CREATED", "CreatedSince"), ("CREATED BY", "CreatedBy"), ("COMMENT", "Comment"))
_CREATED_BY = 60

_BLANK: Shown = dict.fromkeys(
    ("ID", "Repository", "Tag", "Digest", "Created", "CreatedAt", "CreatedSince", "Size", "Names"), ""
)


def run(line: Line, context: Context) -> int:
    """Work on images."""
    from corral.engine.rootfs import collect_layers
    from corral.image.store import ImageStore

    store = ImageStore(context.places.images)
    if line.command == "images":
        return _list(line, store)
    if line.command == "rmi":
        code = _remove(line, store)
        collect_layers(context.places)
        return code
    if line.command == "history":
        return _history(line, store)
    if line.command == "tag":
        for name in line.args[1:]:
            store.tag(line.args[0], name)
        return 0
    _told(store.prune(everything=line.has("all")))
    collect_layers(context.places)
    return 0


def _list(line: Line, store: ImageStore) -> int:
    rows: list[tuple[Raw, Shown]] = []
    for image in store.list():
        if not _matches(image, line):
            continue
        names = [name for name in image.names or [""] if not line.args or _is_named(name, line.args[0])]
        rows.extend((image.to_json(), _shown(image, name, line)) for name in names)
    for problem in store.problems():
        complain(f"warning: {problem}\n")
    if line.has("quiet"):
        rows = list({str(row[1]["ID"]): row for row in rows}.values())
    if line.text("format") == "json":
        rows = list({str(row[0]["id"]): row for row in rows}.values())
    print_list(line, rows, _DIGESTS if line.has("digests") else _COLUMNS, blank=_BLANK)
    return 0


def _is_named(name: str, wanted: str) -> bool:
    repository = name.rpartition(":")[0]
    return wanted in (name, repository) or any(item.endswith(f"/{wanted}") for item in (name, repository))


def _matches(image: Image, line: Line) -> bool:
    for text in line.texts("filter"):
        key, _, value = text.partition("=")
        if key == "reference":
            found = any(_is_named(name, value) for name in image.names)
        elif key == "label":
            label, equals, content = value.partition("=")
            labels = image.config.get("labels", {})
            found = label in labels and (not equals or labels[label] == content)
        elif key == "dangling":
            found = bool(image.names) == (value == "false")
        else:
            raise InvalidArgument(f"--filter {text!r}: no such key", hint="one of reference, label, dangling")
        if not found:
            return False
    return True


def _shown(image: Image, name: str, line: Line) -> Shown:
    repository, _, tag = name.rpartition(":")
    return {
        "ID": short_id(image.id, line),
        "Repository": repository or "<none>",
        "Tag": tag if repository else "<none>",
        "Digest": image.digest,
        "Created": image.created,
        "CreatedAt": image.created,
        "CreatedSince": since(image.created),
        "Size": size(image.size_bytes),
        "Names": image.names,
    }


def since(moment: str) -> str:
    """``3 weeks ago`` for a time in RFC 3339; the text itself where it is none."""
    from corral.cli.render import ago
    from corral.engine.times import parse_time

    try:
        return ago(parse_time(moment)) if moment else ""
    except CorralError:
        return moment


def _remove(line: Line, store: ImageStore) -> int:
    from corral.cli.main import report
    from corral.errors import FailedPrecondition, NotFound

    if line.has("all"):
        names = [image.id for image in store.list()]
    elif line.args:
        names = list(line.args)
    else:
        raise InvalidArgument("rmi: no image named", hint="name images, or give --all")
    code = 0
    for name in names:
        try:
            _told(store.remove(name, force=line.has("force") or (line.has("all") and _is_free(store, name))))
        except NotFound as exc:
            if line.has("ignore") or line.has("force"):
                continue
            report(exc)
            code = code or 1
        except FailedPrecondition as exc:
            if not line.has("all"):
                report(exc)
                code = 2
    return code


def _is_free(store: ImageStore, name: str) -> bool:
    """No container was made of it, so that removing all of its names harms nobody."""
    return all(lease.image_id != name for lease in store.leases())


def _told(removal: Removal) -> None:
    for name in removal.untagged:
        write(f"untagged {name}\n")
    for image_id in removal.deleted:
        write(f"deleted {image_id}\n")
    if removal.freed_bytes:
        complain(f"{size(removal.freed_bytes)} freed\n")


def _history(line: Line, store: ImageStore) -> int:
    rows: list[tuple[Raw, Shown]] = []
    for step in reversed(store.history(line.args[0])):
        raw: dict[str, Any] = dict(step)
        made_by = str(raw.get("created_by", ""))
        if not line.has("no-trunc") and len(made_by) > _CREATED_BY:
            made_by = made_by[: _CREATED_BY - 1] + "…"
        shown = {"CreatedSince": since(str(raw.get("created", ""))), "CreatedBy": made_by, "ID": "<missing>"}
        rows.append((raw, {**shown, "Comment": raw.get("comment", "")}))
    print_list(line, rows, _HISTORY)
    return 0
