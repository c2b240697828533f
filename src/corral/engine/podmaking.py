"""A pod's first container: it holds the namespaces that the others share, and does nothing else."""

from __future__ import annotations

from corral.engine import names
from corral.engine.ledger import is_container
from corral.engine.parents import usable_parent
from corral.engine.podfiles import read_pod
from corral.engine.programs import find_program
from corral.engine.spec_mounts import INIT_PATH
from corral.engine.verbs.create import create
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["ensure_infra", "pod_parent"]


def pod_parent(places: Places, pod: dict[str, Any]) -> str:
    """The cgroup of the pod, above those of its containers; "" where this user may not make any."""
    above = pod.get("cgroup_parent") or usable_parent(places)
    return f"{above}/pod-{pod['id']}" if above else ""


def ensure_infra(places: Places, pod_id: str) -> str:
    """The id of the pod's first container, which is made if it is not there. Raises: NotFound."""
    pod = read_pod(places, pod_id)
    infra: str = pod["infra"]
    if is_container(places, infra):
        return infra
    root = f"{places.pod(pod_id)}/rootfs"
    paths.make_directories(root, 0o755)
    request: dict[str, Any] = {
        "id": infra,
        "name": f"{pod['name'][: 200 - 6]}-infra",
        "root": {"kind": "rootfs", "path": root},
        "process": {"entrypoint": [INIT_PATH], "command": ["--pause"], "workdir": "/"},
        "network": pod.get("network", {"mode": "none"}),
        "mounts": [{"type": "bind", "source": find_program("corral-init"), "target": INIT_PATH, "options": ["ro"]}],
        "hostname": pod.get("hostname") or pod["name"][:63],
        "pod": pod_id,
        "is_infra": True,
        "cgroup_parent": pod_parent(places, pod),
        "log": {"driver": "none"},
    }
    create(places, request)
    return names.find_id(places, infra)
