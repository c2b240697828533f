"""Bringing a store into line with the kernel: what crashes left behind is finished, undone or taken away.

Every engine start, ``corral serve`` (all the time) and ``corral gc`` do this. It changes nothing that a living process
is at work on, and no state depends on it having run: it only makes the waiting shorter.
"""

from __future__ import annotations

import posix
from functools import partial

from corral.engine import files, journal, leases, ledger, names, restart, status
from corral.engine.deadfiles import remove_dead
from corral.engine.failpoints import failpoint
from corral.engine.newfiles import remove_new
from corral.engine.removal import remove_container
from corral.engine.settle import settle, tell_again, tell_due
from corral.engine.starting import start_container, undo_start
from corral.engine.stopping import finish_stop
from corral.engine.teardown import delete_record, tear_down
from corral.engine.verbs.exited import due, is_restart_due
from corral.engine.verbs.pause import unpause
from corral.engine.verbs.restart import finish_restart
from corral.errors import AlreadyExists, CorralError, NotFound
from corral.runtime.record import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.engine.places import Places
    from corral.engine.status import Facts

    Report = list[dict[str, str]]

__all__ = ["reconcile"]

THAW_S = 60.0
SETTLE_S = 60.0


def reconcile(places: Places, *, starts: bool = False) -> Report:
    """Go through everything once; returns what was done: ``what``, ``id`` and, if it could not be done, ``why``.

    ``starts``: also start what the restart policies want running after the host was restarted.
    """
    places.prepare()
    report: Report = []
    held = _names_by_owner(places)
    for container_id in names.list_ids(places):
        _container(places, container_id, report, held=held.get(container_id, []), starts=starts)
    failpoint("reconcile.containers")
    _half_made(places, report)
    _pods(places, report)
    _void_names(places, report)
    _orphans(places, report)
    _half_made_records(places, report)
    _images(places, report)
    return report


def _do(report: Report, what: str, subject: str, action: Callable[[], object]) -> None:
    """Do one thing and put it down; one that does not work does not keep the rest from being done."""
    try:
        if action() is False:
            return
    except (NotFound, leases.Busy):
        # Gone, or somebody else has just begun what is to be done with it.
        return
    except (CorralError, OSError) as exc:
        report.append({"what": what, "id": subject, "why": str(exc)})
    else:
        report.append({"what": what, "id": subject})


def _names_by_owner(places: Places) -> dict[str, list[str]]:
    """Whom each name belongs to, the other way round: read once for all containers."""
    found: dict[str, list[str]] = {}
    for name in posix.listdir(places.names):
        if name.startswith("."):
            continue
        try:
            found.setdefault(posix.readlink(f"{places.names}/{name}"), []).append(name)
        except OSError:
            continue  # released while we looked
    return found


def _container(places: Places, container_id: str, report: Report, *, held: list[str], starts: bool) -> None:
    try:
        facts = status.look(places, container_id)
    except NotFound:
        if not _is_complete(places, container_id):
            _do(report, "remove a container without a definition", container_id, lambda: _bury(places, container_id))
        return
    except CorralError as exc:
        report.append({"what": "read", "id": container_id, "why": str(exc)})
        return
    if held == [facts.definition.get("name")] and _is_quiet(facts, starts=starts):
        return
    taken = facts.state.get("leases", {})
    starts = starts and status.is_before_boot(facts.state)
    if any(leases.is_owned(taken.get(name)) for name in ("start", "settle", "remove", "restart")):
        if starts:
            # Who is at work need not want it to run again, and nobody asks a second time.
            _do(report, "start after the host's restart", container_id, lambda: _start_at_boot(facts))
        return
    if "removing" in facts.state:
        _do(report, "finish removing", container_id, lambda: remove_container(places, container_id))
        return
    if "start" in taken:
        _finish_start(facts, report)
    if "commit" in taken:
        _do(report, "let go on after a commit", container_id, lambda: _thaw(facts))
    _do(report, "finish a stop", container_id, lambda: finish_stop(places, container_id))
    _do(report, "finish a restart", container_id, lambda: finish_restart(places, container_id))
    _settle(places, container_id, report)
    if starts:
        _do(report, "start after the host's restart", container_id, lambda: _start_at_boot(facts))
    _follow_up(places, container_id, report)
    if taken:
        _forget_finished(places, container_id)


def _finish_start(facts: Facts, report: Report) -> None:
    """Let go what was about to be; without a monitor nobody would hear of it, and its output is lost: undo that."""
    places, container_id = facts.places, facts.container_id
    if facts.status == status.MADE and facts.state.get("run", {}).get("started_ns"):
        from corral.engine.keeper import has_monitor

        if has_monitor(places.container_run(container_id)):
            # Its monitor may be about to do it already: to let it go is right in either case.
            _do(report, "finish an interrupted start", container_id, lambda: start_container(places, container_id))
            return
    _do(report, "undo an interrupted start", container_id, lambda: undo_start(places, container_id))


def _thaw(facts: Facts) -> bool:
    """A container that was frozen to be committed, by who died at it."""
    arguments = facts.state["leases"]["commit"].get("arguments", {})
    if arguments.get("thaws") != facts.run or facts.status != status.PAUSED_:
        return False
    with leases.acquire(facts.places, facts.container_id, "commit", deadline_s=THAW_S):
        unpause(facts.places, facts.container_id)
    return True


def _forget_finished(places: Places, container_id: str) -> None:
    """Entries of who died at what is done by now, or had nothing to be finished."""
    try:
        facts = status.look(places, container_id)
        with ledger.Update(places, container_id) as state:
            for name in ("settle", "remove", "commit") + (("start",) if facts.status != status.MADE else ()):
                leases.forget_dead(state, name)
    except CorralError:
        return  # gone, or no room: they exclude nobody


def _is_quiet(facts: Facts, *, starts: bool) -> bool:
    """Whether nothing of what follows concerns it, as with most containers of most stores: told by this one look."""
    state = facts.state
    if any(state.get(key) for key in ("leases", "removing", "pending", "untold")):
        return False
    if any(state.get(key, {}).get("due_ns") for key in ("restart", "health")):
        return False
    if _has_strays(facts):
        return False
    if facts.is_live:
        stop = state.get("stop", {})
        is_stopped = stop.get("run") == facts.run and stop.get("until_ns")
        return not is_stopped and is_locked(f"{facts.places.container_run(facts.container_id)}/monitor.spec") is True
    is_settled = facts.status != status.EXITED or state.get("settled") == facts.run
    return is_settled and not (starts and status.is_before_boot(state))


def _has_strays(facts: Facts) -> bool:
    """Whether it lives on a network that it is not to be on: a connect or a disconnect broke off."""
    network = facts.definition.get("network", {})
    rows = facts.state.get("network", {}).get("attachments", [])
    wanted = [item.get("name") for item in network.get("attachments", [])] if network.get("mode") == "bridge" else []
    return facts.is_live and any(row["name"] not in wanted for row in rows)


def _settle(places: Places, container_id: str, report: Report) -> None:
    try:
        facts = status.look(places, container_id)
    except NotFound:
        return
    if facts.status == status.EXITED and facts.state.get("settled") != facts.run:
        _do(report, "settle", container_id, lambda: settle(places, container_id))


def _start_at_boot(before: Facts) -> bool:
    """Follow its end up, whoever is at that, and start it if its policy wants that; whether it was."""
    settle(before.places, before.container_id, wait_s=SETTLE_S)
    facts = status.look(before.places, before.container_id)
    if facts.run != before.run or not restart.wants_start_at_boot(facts.definition, facts.state):
        return False
    start_container(facts.places, facts.container_id)
    return True


def _follow_up(places: Places, container_id: str, report: Report) -> None:
    """What is due, with the timers of a keeper that died; a monitor for an init that lost both."""
    try:
        facts = status.look(places, container_id)
    except NotFound:
        return
    if facts.state.get("pending") and not facts.is_live:
        _do(report, "clean up", container_id, lambda: tear_down(facts))
    if facts.state.get("untold"):
        _do(report, "tell of the end of", container_id, lambda: tell_again(places, container_id))
    if is_restart_due(facts):
        _do(report, "restart", container_id, lambda: due(places, container_id))
    elif facts.state.get("restart", {}).get("due_ns") or facts.state.get("health", {}).get("due_ns"):
        tell_due(places, container_id)
    if facts.is_live:
        _do(report, "give a monitor to", container_id, lambda: _adopt(facts))
        if _has_strays(facts):
            from corral.engine.verbs.networks import finish_connecting

            _do(report, "finish connecting", container_id, lambda: finish_connecting(places, container_id))
    _do(report, "release an old name of", container_id, lambda: _release_old_names(facts))


def _adopt(facts: Facts) -> bool:
    from corral.engine.keeper import Keeper, has_monitor

    run_directory = facts.places.container_run(facts.container_id)
    if is_locked(f"{run_directory}/monitor.spec") and has_monitor(run_directory):
        return False
    with Keeper.open(facts.places) as keeper:
        if has_monitor(run_directory):
            # The keeper that was just started has found it, or made it a new one.
            return True
        try:
            keeper.spawn(_spec_of(run_directory))
        except AlreadyExists:
            return False  # the keeper was about to do the same
    return True


def _spec_of(run_directory: str) -> dict[str, str]:
    """What the last monitor of a run directory was told. Raises: NotFound."""
    data = files.read_bytes_or_none(f"{run_directory}/monitor.spec")
    if data is None:
        raise NotFound(f"read {run_directory}/monitor.spec: no such file or directory")
    spec: dict[str, str] = {}
    for item in data.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, _, value = item.partition("=")
        # A key that comes again: the items of a spec are separated by NULs.
        spec[key] = f"{spec[key]}\0{key}={value}" if key in spec else value
    return spec


def _release_old_names(facts: Facts) -> bool:
    """A rename that broke off leaves two names."""
    places, container_id = facts.places, facts.container_id
    held = [name for name in posix.listdir(places.names) if not name.startswith(".")]
    held = [name for name in held if names.owner_or_none(places, name) == container_id]
    if held == [facts.definition.get("name")]:
        return False
    found = False
    # Its lock is who renames it; what it is called may have changed since it was looked at.
    with ledger.Update(places, container_id):
        called = ledger.read_definition(places, container_id).get("name")
        for name in held:
            if name != called:
                names.release(places, name, container_id)
                found = True
    return found


def _is_complete(places: Places, container_id: str) -> bool:
    return ledger.is_container(places, container_id)


def _bury(places: Places, container_id: str) -> None:
    """A directory of a container that nobody can make sense of: its definition is gone."""
    delete_record(places, container_id)
    dead = f"{places.containers}/.dead-{container_id}-{posix.urandom(4).hex()}"
    posix.rename(places.container(container_id), dead)
    journal.emit(places, "container", "remove", container_id)


def _half_made(places: Places, report: Report) -> None:
    """Directories of creations and removals that broke off."""
    for name in sorted(posix.listdir(places.containers)):
        path = f"{places.containers}/{name}"
        if name.startswith(".dead-"):
            _do(report, "finish removing files of", name.split("-")[1], lambda path=path: _remove_dead(path))  # type: ignore[misc]
        elif name.startswith(".new-"):
            _do(report, "undo an interrupted create", name[5:], partial(remove_new, places.containers, name[5:]))


def _remove_dead(path: str) -> None:
    stays = remove_dead(path)
    if stays:
        raise OSError(39, f"{stays[0]} (and {len(stays) - 1} more)")


def _pods(places: Places, report: Report) -> None:
    """Pods that were just being made or removed."""
    from corral.engine.podfiles import list_pods, members_of, read_pod
    from corral.engine.verbs.pods import pod_rm, remove_pod_files

    for name in posix.listdir(places.pods):
        if name.startswith(".dead-"):
            path = f"{places.pods}/{name}"
            _do(report, "remove what was left of pod", name[6:], lambda path=path: _remove_dead(path))  # type: ignore[misc]
        elif name.startswith(".new-"):
            _do(report, "undo an interrupted create of pod", name[5:], partial(remove_new, places.pods, name[5:]))
    for pod_id in list_pods(places):
        # Asked before anything else: who has let go of it by then has made all of it.
        if is_locked(f"{places.pod(pod_id)}/lock"):
            continue
        try:
            pod = read_pod(places, pod_id)
        except NotFound:
            continue
        if pod.get("removing"):
            _do(report, "finish removing pod", pod_id, lambda pod_id=pod_id: pod_rm(places, pod_id))  # type: ignore[misc]
        elif not members_of(places, pod_id):
            # Its maker died before its first container was made: nobody has its id.
            _do(report, "undo an interrupted create of pod", pod_id, lambda pod=pod: remove_pod_files(places, pod))  # type: ignore[misc]


def _void_names(places: Places, report: Report) -> None:
    for name in names.list_void(places):
        _do(report, "release the name", name, lambda name=name: names.release_void(places, name))  # type: ignore[misc]


def _orphans(places: Places, report: Report) -> None:
    """Records and run directories of containers that are no more."""
    known = set(names.list_ids(places))
    for folder, action in ((places.runtime_root, delete_record), (f"{places.run}/containers", _remove_run)):
        for name in sorted(posix.listdir(folder)):
            if name.startswith(".") or name in known or ledger.is_container(places, name):
                continue
            _do(report, "remove what was left of", name, lambda name=name, action=action: action(places, name))  # type: ignore[misc]


def _half_made_records(places: Places, report: Report) -> None:
    """Records whose maker or remover died at it. Who makes one has the container's ``start`` lease meanwhile."""
    for name in sorted(posix.listdir(places.runtime_root)):
        kind, _, rest = name.partition("-")
        container_id = rest.rpartition("-")[0]
        if kind == ".dead" or (kind == ".new" and not _is_starting(places, container_id)):
            path = f"{places.runtime_root}/{name}"
            _do(report, "remove a half-made record of", container_id, lambda path=path: _remove_dead(path))  # type: ignore[misc]


def _is_starting(places: Places, container_id: str) -> bool:
    if not ledger.is_container(places, container_id):
        return False
    return leases.is_owned(ledger.read(places, container_id).get("leases", {}).get("start"))


def _remove_run(places: Places, container_id: str) -> None:
    stays = files.remove_tree(places.container_run(container_id))
    if stays:
        raise OSError(39, stays[0])


def _images(places: Places, report: Report) -> None:
    """Leases of images by containers that are no more."""
    try:
        found = posix.listdir(f"{places.images}/leases")
    except FileNotFoundError:
        return
    for name in found:
        owner = name.removesuffix(".json")
        container_id = owner.removeprefix("container-")
        # In this order: one that is being made is there already when its maker lets go.
        if owner == container_id or is_locked(f"{places.containers}/.new-{container_id}/lock"):
            continue
        if ledger.is_container(places, container_id):
            continue
        from corral.engine.images import release_image

        _do(report, "release the image of", container_id, lambda cid=container_id: release_image(places, cid))  # type: ignore[misc]
