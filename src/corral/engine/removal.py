"""Removing a container: what its runs left, its files, its name. Each step can be repeated; what cannot be done stays
on record, and the name is free as soon as the container is not to be seen any more (S4.12, S4.14).
"""

from __future__ import annotations

import posix
import time

from corral.engine import groups, journal, leases, ledger, names, status
from corral.engine.deadfiles import remove_dead
from corral.engine.failpoints import failpoint
from corral.engine.images import release_image
from corral.engine.locks import FileLock
from corral.engine.teardown import delete_record, remove_run_directory, tear_down
from corral.errors import CorralError, FailedPrecondition, NotFound, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["bury_container", "make_room", "remove_container"]

LEASE_S = 120.0
KILL_S = 10.0
# Written anew before each start.
_OWN_FILES = ("hosts", "resolv.conf", "hostname")


def remove_container(
    places: Places, container_id: str, *, with_volumes: bool = False, wait_s: float = 30.0
) -> list[str]:
    """Remove a container that does not live; returns what of its files could not be removed (gc tries again).

    Raises: NotFound; FailedPrecondition if it lives; Unavailable when something that it ran in cannot be removed now:
    the container is then ``dead``, with the reason, and it is tried again.
    """
    with leases.acquire(places, container_id, "remove", deadline_s=LEASE_S, wait_s=wait_s):
        facts = status.look(places, container_id)
        if facts.is_live:
            raise FailedPrecondition(
                f"remove container {facts.definition.get('name', container_id)!r}: it is {facts.status}",
                hint="stop it first, or remove it with --force",
            )
        failpoint("rm.begin")
        _intend(places, container_id, with_volumes=with_volumes)
        failpoint("rm.intended")
        stays = tear_down(facts)
        if stays:
            raise Unavailable(
                f"remove container {facts.definition.get('name', container_id)!r}: {stays[0]['why']}",
                hint="it is marked dead and tried again; `corral gc` tries at once",
            )
        failpoint("rm.torn_down")
        return _remove_files(facts)


def _intend(places: Places, container_id: str, *, with_volumes: bool) -> None:
    try:
        with ledger.Update(places, container_id) as state:
            wanted = with_volumes or state.get("removing", {}).get("volumes", False)
            state["removing"] = {"since_ns": time.time_ns(), "volumes": wanted}
            state.pop("restart", None)
    except ResourceExhausted:
        # Removing is what frees space, so it must not need any.
        return


def _remove_files(facts: Facts) -> list[str]:
    places, container_id = facts.places, facts.container_id
    problems: list[str] = []
    if facts.definition.get("pid_file"):
        _unlink_quietly(facts.definition["pid_file"])
    problems += remove_run_directory(places, container_id)
    failpoint("rm.run_directory")
    if _has_volumes(facts):
        problems += _remove_volumes(facts)
    if facts.definition.get("root", {}).get("kind") == "image":
        release_image(places, container_id)
    dead = f"{places.containers}/.dead-{container_id}-{posix.urandom(4).hex()}"
    with FileLock(f"{places.container(container_id)}/lock"):
        posix.rename(places.container(container_id), dead)
    failpoint("rm.renamed")
    names.release(places, facts.definition.get("name", ""), container_id)
    failpoint("rm.released")
    journal.emit(
        places,
        "container",
        "remove",
        container_id,
        name=facts.definition.get("name", ""),
        attributes={"labels": facts.definition.get("labels", {})},
    )
    failpoint("rm.told")
    return problems + remove_dead(dead)


def bury_container(places: Places, container_id: str) -> list[str]:
    """Remove a container whose definition cannot be read: its processes and groups by the runtime's record, its files.

    Its name is free then, since what it leads to is gone. Returns what of its files could not be removed.
    Raises: NotFound; Unavailable with what stays.
    """
    with leases.acquire(places, container_id, "remove", deadline_s=LEASE_S):
        delete_record(places, container_id)
        problems = remove_run_directory(places, container_id)
        dead = f"{places.containers}/.dead-{container_id}-{posix.urandom(4).hex()}"
        posix.rename(places.container(container_id), dead)
        journal.emit(places, "container", "remove", container_id)
    return problems + remove_dead(dead)


def make_room(places: Places, container_id: str) -> None:
    """Give up what a container that is to be removed holds of a full store: its processes, who may be what fills it,
    then its output. The little that removing has to write finds its place then. Raises: NotFound.
    """
    facts = status.look(places, container_id)
    if facts.is_live and facts.record is not None:
        groups.kill_everything(facts.record, deadline_s=KILL_S)
    directory = places.container(container_id)
    try:
        for name in posix.listdir(directory):
            if name == "log" or name.startswith("log."):
                # Its monitor may still have it open: what is cut off takes no room, what is only unlinked does.
                posix.truncate(f"{directory}/{name}", 0)
            elif name in _OWN_FILES:
                posix.unlink(f"{directory}/{name}")
    except FileNotFoundError:
        return  # somebody else is removing it, or its log was rotated: there is room


def _has_volumes(facts: Facts) -> bool:
    return any(item.get("type") == "volume" for item in facts.definition.get("mounts", []))


def _remove_volumes(facts: Facts) -> list[str]:
    """Anonymous volumes go with the container if that was asked for, or if it was made to go with its run."""
    state = ledger.read(facts.places, facts.container_id)
    if not state.get("removing", {}).get("volumes") and not facts.definition.get("auto_remove"):
        return []
    from corral.engine.volumes import remove_volume

    problems = []
    for item in facts.definition.get("mounts", []):
        if item.get("type") == "volume" and item.get("is_anonymous"):
            try:
                remove_volume(facts.places, item["source"])
            except NotFound:
                continue
            except CorralError as exc:
                problems.append(str(exc))
    return problems


def _unlink_quietly(path: str) -> None:
    try:
        posix.unlink(path)
    except OSError:
        return  # whoever asked for the file may have taken it away
