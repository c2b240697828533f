"""Pods on file: ``STORE/pods/ID/definition.json``, and which containers belong to one."""

from __future__ import annotations

import posix

from corral.engine import files, ledger, names
from corral.errors import CorralError, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["find_pod", "list_pods", "members_of", "read_pod", "shm_of"]


def find_pod(places: Places, reference: str) -> str:
    """The id of the pod called ``reference``: a name, an id, or the beginning of only one id. Raises: NotFound."""
    holder = names.owner_or_none(places, reference)
    if holder and holder.startswith(names.POD):
        return holder.removeprefix(names.POD)
    found = [name for name in list_pods(places) if reference and name.startswith(reference)]
    if len(found) > 1:
        raise InvalidArgument(
            f"find pod {reference!r}: {len(found)} ids begin so", hint="give more digits, or the name"
        )
    if not found:
        raise NotFound(f"find pod {reference!r}: no such pod", hint="`corral pod ps` shows all pods")
    return found[0]


def list_pods(places: Places) -> list[str]:
    """Ids of all pods, sorted."""
    return sorted(name for name in posix.listdir(places.pods) if not name.startswith("."))


def read_pod(places: Places, pod_id: str) -> dict[str, Any]:
    """A pod's definition. Raises: NotFound."""
    found = files.read_object_or_none(f"{places.pod(pod_id)}/definition.json") if pod_id else None
    if found is None:
        raise NotFound(f"find pod {pod_id[:12]!r}: no such pod")
    return found


def members_of(places: Places, pod_id: str) -> list[str]:
    """Ids of the pod's containers, the one that holds its namespaces last."""
    found: list[str] = []
    infra: list[str] = []
    for container_id in names.list_ids(places):
        try:
            definition = ledger.read_definition(places, container_id)
        except CorralError:
            continue
        if definition.get("pod") == pod_id:
            (infra if definition.get("is_infra") else found).append(container_id)
    return found + infra


def shm_of(places: Places, pod_id: str) -> str:
    """The directory that is /dev/shm for all of the pod; made if need be, open to its users as /dev/shm is."""
    from corral.linux import paths

    path = f"{places.run}/pods/{pod_id}/shm"
    if not paths.isdir(path):
        paths.make_directories(path, 0o711)
        posix.chmod(path, 0o1777)
    return path
