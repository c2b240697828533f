"""The state JSON of a container, in pieces around its pid: for hooks, for ``state``, for the seccomp agent.

The pid exists only at run time, so plans carry what stands before and after it.
Source: runtime-spec runtime.md "State", config-linux.md "The Container Process State".
"""

from __future__ import annotations

from corral.oci.json import dumps

SPEC_VERSION = "1.3.0"


def around_pid(document: dict[str, object]) -> tuple[str, str]:
    """``document`` as JSON, cut where its (last) member ``pid`` has the value 0."""
    head, found, tail = dumps(document).rpartition('"pid":0')
    assert found, "the document has no pid to fill in"
    return head + '"pid":', tail


def hook_state(container_id: str, status: str, bundle: str, annotations: dict[str, str]) -> tuple[str, str]:
    """The state as a hook reads it."""
    document: dict[str, object] = {"ociVersion": SPEC_VERSION, "id": container_id, "status": status}
    document["bundle"] = bundle
    if annotations:
        document["annotations"] = annotations
    # Last, so that nothing in an annotation can be taken for it.
    document["pid"] = 0
    return around_pid(document)


def process_state(container_id: str, bundle: str, annotations: dict[str, str], *, metadata: str) -> tuple[str, str]:
    """containerProcessState for a seccomp agent; the container is being created, its process is the init."""
    state: dict[str, object] = {
        "ociVersion": SPEC_VERSION,
        "id": container_id,
        "status": "creating",
        "bundle": bundle,
        "annotations": annotations,
    }
    document: dict[str, object] = {"ociVersion": SPEC_VERSION, "fds": ["seccompFd"], "metadata": metadata}
    document["state"] = state
    document["pid"] = 0
    return around_pid(document)
