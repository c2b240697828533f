"""Names: a link ``STORE/names/NAME`` whose text is the id of whom it belongs to (``pod:ID`` for a pod).

A name is taken as long as its owner exists or is just being made by a process that lives. What a crash left behind is
void: the next who wants the name gets it, and nobody has to clean up first (S4.14).
"""

from __future__ import annotations

import posix

from corral.engine.locks import FileLock
from corral.errors import AlreadyExists, InvalidArgument, NotFound
from corral.linux import paths
from corral.runtime.record import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["check_name", "find_id", "make_id", "make_name", "owner_or_none", "release", "reserve"]

POD = "pod:"
SHORT = 12
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HEX = frozenset("0123456789abcdef")
_ID_DIGITS = 64

_FIRST = (
    "agile amber bold brave bright brisk calm clever cosy crisp eager early easy fair fleet fond free fresh gentle "
    "glad golden grand happy hardy honest jolly keen kind lively loyal lucky mellow merry mild neat nimble noble "
    "patient placid plucky polite proud quick quiet ready rosy sage serene sharp shiny silent silver smooth snug sober "
    "spry steady sturdy sunny sure swift tidy trusty warm wise"
).split()
_SECOND = (
    "alpaca appaloosa badger bay bison brumby buckskin burro camel chestnut clydesdale colt criollo dapple donkey dun "
    "elk falabella filly foal fox friesian gazelle gelding goat grey hackney hanoverian hare haflinger heifer heron "
    "highland ibex icelander kid konik lamb lark lipizzan llama lynx mare mule mustang otter ox palomino paso "
    "percheron piebald pinto pony ram roan robin shetland shire skewbald sorrel stallion stork trotter vole wren yak "
    "yearling zebra"
).split()


def make_id() -> str:
    """A fresh id: 64 hexadecimal digits, of which people see the first twelve."""
    return posix.urandom(32).hex()


def is_id(text: str) -> bool:
    """Whether it has the form of an id: of a container, a pod or an exec."""
    return len(text) == _ID_DIGITS and _HEX.issuperset(text)


def make_name() -> str:
    """A name for a container whose maker gave none. It may be taken: ask again then."""
    number = int.from_bytes(posix.urandom(4), "little")
    return f"{_FIRST[number % len(_FIRST)]}_{_SECOND[(number >> 12) % len(_SECOND)]}"


def check_name(name: str) -> None:
    """Raises: InvalidArgument unless it is a name as Docker and Podman allow it, of at most 200 letters."""
    if len(name) > 200 or name[:1] not in _LETTERS or any(c not in _LETTERS and c not in "_.-" for c in name):
        raise InvalidArgument(
            f"use the name {name!r}: it is not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]*",
            hint="letters, digits, '_', '.' and '-', with a letter or digit first",
        )


def reserve(places: Places, name: str, owner: str) -> None:
    """Take ``name`` for ``owner`` (an id, or ``pod:ID``), who may have it already. Raises: AlreadyExists."""
    check_name(name)
    path = f"{places.names}/{name}"
    with FileLock(f"{places.names}/.lock"):
        holder = _read(path)
        if holder == owner:
            return
        if holder and _exists(places, holder):
            kind = "pod" if holder.startswith(POD) else "container"
            raise AlreadyExists(
                f"use the name {name!r}: {kind} {holder.removeprefix(POD)[:SHORT]} has it",
                hint=f"remove that {kind}, rename it, or choose another name",
            )
        if holder:
            posix.unlink(path)
        posix.symlink(owner, path)


def release(places: Places, name: str, owner: str) -> None:
    """Give the name up if ``owner`` has it. Idempotent."""
    if not name:
        return
    path = f"{places.names}/{name}"
    with FileLock(f"{places.names}/.lock"):
        if _read(path) == owner:
            posix.unlink(path)


def owner_or_none(places: Places, name: str) -> str | None:
    """Who has the name; None if nobody that exists does."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        return None
    holder = _read(f"{places.names}/{name}")
    return holder if holder and _exists(places, holder) else None


def list_void(places: Places) -> list[str]:
    """Names whose owner does not exist (any more)."""
    found = sorted(name for name in posix.listdir(places.names) if not name.startswith("."))
    return [name for name in found if owner_or_none(places, name) is None]


def release_void(places: Places, name: str) -> bool:
    """Remove a name if it is void now; whether it was."""
    path = f"{places.names}/{name}"
    with FileLock(f"{places.names}/.lock"):
        holder = _read(path)
        if not holder or _exists(places, holder):
            return False
        posix.unlink(path)
    return True


def find_id(places: Places, reference: str) -> str:
    """The id of the container called ``reference``: an id, a name, or the beginning of only one id.

    Raises: NotFound, InvalidArgument (several begin like that).
    """
    if is_id(reference) and paths.isdir(places.container(reference)):
        # Before the names: whoever has an id means that container, whatever another was called.
        return reference
    holder = owner_or_none(places, reference)
    if holder and not holder.startswith(POD):
        return holder
    if reference and len(reference) < _ID_DIGITS and _HEX.issuperset(reference):
        return _find_prefix(places, reference)
    raise _not_found(reference)


def _find_prefix(places: Places, prefix: str) -> str:
    found = [name for name in list_ids(places) if name.startswith(prefix)]
    if len(found) > 1:
        raise InvalidArgument(
            f"find container {prefix!r}: {len(found)} ids begin so", hint="give more digits of the id, or the name"
        )
    if not found:
        raise _not_found(prefix)
    return found[0]


def list_ids(places: Places) -> list[str]:
    """Ids of all containers of the store, sorted. Those being made or removed are not among them."""
    try:
        found = posix.listdir(places.containers)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if not name.startswith("."))


def _not_found(reference: str) -> NotFound:
    return NotFound(f"find container {reference!r}: no such container", hint="`corral ps -a` shows all containers")


def _read(path: str) -> str:
    try:
        return posix.readlink(path)
    except (FileNotFoundError, OSError):
        return ""


def _exists(places: Places, holder: str) -> bool:
    if holder.startswith(POD):
        directory, name = places.pods, holder.removeprefix(POD)
    else:
        directory, name = places.containers, holder
    if not name or "/" in name or name.startswith("."):
        return False
    # In this order: it goes from the one place to the other, so who looked at them the other way round could miss it.
    return is_locked(f"{directory}/.new-{name}/lock") is True or paths.isdir(f"{directory}/{name}")
