"""Pods: containers that share a network, and more, and come and go together."""

from __future__ import annotations

import posix
import time

from corral.engine import files, journal, names, status
from corral.engine.definition import SCHEMA
from corral.engine.failpoints import failpoint
from corral.engine.newfiles import make_locked_or_none
from corral.engine.podfiles import find_pod, list_pods, members_of, read_pod
from corral.engine.podmaking import ensure_infra, pod_parent
from corral.engine.removal import remove_container
from corral.engine.settle import settle
from corral.engine.shape import POD, check_members
from corral.engine.starting import start_container
from corral.engine.stopping import stop_container
from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["pod_create", "pod_inspect", "pod_ps", "pod_rm", "pod_start", "pod_stop"]

_SHARES = ("net", "ipc", "uts", "pid", "user", "cgroup")


def pod_create(places: Places, request: dict[str, Any]) -> dict[str, Any]:
    """Make a pod of ``name``, ``share`` (net, ipc, uts, pid), ``network``, ``labels``, ``hostname``, ``cgroup_parent``.

    Returns ``id`` and ``name``. Nothing runs yet. Raises: AlreadyExists, InvalidArgument.
    """
    check_members("create pod", request, POD)
    places.prepare()
    share = request.get("share", ["net", "ipc", "uts"])
    wrong = [word for word in share if word not in _SHARES[:4]]
    if wrong:
        raise InvalidArgument(f"create pod: {wrong[0]!r} cannot be shared", hint=f"of {', '.join(_SHARES[:4])}")
    pod_id = names.make_id()
    pod = {
        "network": {"mode": "none"},
        **request,
        "schema": SCHEMA,
        "id": pod_id,
        "name": request.get("name") or f"pod_{names.make_name()}",
        "created_ns": time.time_ns(),
        "share": share,
        "infra": names.make_id(),
    }
    fresh = f"{places.pods}/.new-{pod_id}"
    lock = make_locked_or_none(places.pods, pod_id)
    assert lock is not None  # nobody else has this id
    try:
        names.reserve(places, pod["name"], f"{names.POD}{pod_id}")
        failpoint("pod.named")
        files.write_object(f"{fresh}/definition.json", pod, is_synced=True)
        posix.rename(fresh, places.pod(pod_id))
        failpoint("pod.written")
        ensure_infra(places, pod_id)
    except BaseException:
        files.remove_tree(fresh)
        files.remove_tree(places.pod(pod_id))
        names.release(places, pod["name"], f"{names.POD}{pod_id}")
        raise
    finally:
        posix.close(lock)
    journal.emit(places, "pod", "create", pod_id, name=pod["name"], attributes={"labels": pod.get("labels", {})})
    return {"id": pod_id, "name": pod["name"]}


def pod_ps(places: Places) -> list[dict[str, Any]]:
    """One row per pod, newest first: its status, and its containers' names and statuses."""
    places.prepare()
    rows = []
    for pod_id in list_pods(places):
        try:
            rows.append(_row(places, pod_id))
        except NotFound:
            continue
    rows.sort(key=lambda row: int(row["created_ns"]), reverse=True)
    return rows


def _row(places: Places, pod_id: str) -> dict[str, Any]:
    pod = read_pod(places, pod_id)
    containers = []
    for container_id in members_of(places, pod_id):
        try:
            facts = status.look(places, container_id)
        except CorralError:
            continue
        containers.append(
            {
                "id": container_id,
                "name": facts.definition.get("name", ""),
                "status": facts.status,
                "is_infra": bool(facts.definition.get("is_infra")),
            }
        )
    return {**pod, "status": _status_of([str(row["status"]) for row in containers]), "containers": containers}


def _status_of(found: list[str]) -> str:
    """running when all run, degraded when some do, exited when none does any more, created before any did."""
    live = [word for word in found if word in status.LIVE]
    if not live:
        return "exited" if status.EXITED in found else "created"
    return "running" if len(live) == len(found) else "degraded"


def pod_inspect(places: Places, reference: str) -> dict[str, Any]:
    """A pod's definition, status, containers and cgroup. Raises: NotFound."""
    pod_id = find_pod(places, reference)
    row = _row(places, pod_id)
    return {**row, "cgroup": pod_parent(places, row)}


def pod_start(places: Places, reference: str) -> dict[str, Any]:
    """Start all containers of a pod, the one that holds its namespaces first. Raises: as ``start``."""
    pod_id = find_pod(places, reference)
    infra = ensure_infra(places, pod_id)
    start_container(places, infra)
    for container_id in members_of(places, pod_id):
        if container_id != infra:
            start_container(places, container_id)
    journal.emit(places, "pod", "start", pod_id, name=read_pod(places, pod_id)["name"])
    return {"id": pod_id}


def pod_stop(places: Places, reference: str, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Stop all containers of a pod, the one that holds its namespaces last. Raises: NotFound, Timeout."""
    pod_id = find_pod(places, reference)
    problems: list[CorralError] = []
    for container_id in members_of(places, pod_id):
        try:
            stop_container(places, container_id, grace_s=timeout_s)
        except NotFound:
            continue
        except CorralError as exc:
            problems.append(exc)
    if problems:
        raise problems[0]
    journal.emit(places, "pod", "stop", pod_id, name=read_pod(places, pod_id)["name"])
    return {"id": pod_id}


def pod_rm(places: Places, reference: str, *, force: bool = False) -> dict[str, Any]:
    """Remove a pod; with ``force`` also its containers, running or not. Interrupted, gc goes on with it.

    Raises: NotFound; FailedPrecondition for a pod with containers; what stopping and removing them raise.
    """
    pod_id = find_pod(places, reference)
    pod = read_pod(places, pod_id)
    others = [item for item in members_of(places, pod_id) if item != pod["infra"]]
    if others and not (force or pod.get("removing")):
        raise FailedPrecondition(
            f"remove pod {pod['name']!r}: it has {len(others)} container(s)", hint="remove them first, or use --force"
        )
    files.write_object(f"{places.pod(pod_id)}/definition.json", {**pod, "removing": True})
    failpoint("pod.removing")
    for container_id in members_of(places, pod_id):
        try:
            stop_container(places, container_id, grace_s=0.0)
            settle(places, container_id)
            remove_container(places, container_id)
        except NotFound:
            continue
    failpoint("pod.emptied")
    remove_pod_files(places, pod)
    return {"id": pod_id}


def remove_pod_files(places: Places, pod: dict[str, Any]) -> None:
    """The rest of a pod without containers: its name and its directories."""
    dead = f"{places.pods}/.dead-{pod['id']}"
    files.remove_tree(f"{places.run}/pods/{pod['id']}")
    try:
        posix.rename(places.pod(pod["id"]), dead)
    except FileNotFoundError:
        return  # somebody else is removing it
    names.release(places, pod["name"], f"{names.POD}{pod['id']}")
    journal.emit(places, "pod", "remove", pod["id"], name=pod["name"])
    files.remove_tree(dead)
