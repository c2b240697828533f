"""The state JSON of a container, in pieces around its pid: for hooks, for ``state``, for the seccomp agent.

The pid exists only at run time, so plans carry what stands before and after it.
Source: runtime-spec runtime.md "State", config-linux.md "The Container Process State".
"""

from __future__ import annotations

from corral.oci.json import dumps

SPEC_VERSION = "1.3.0"


def around_pid(document: dict[str, object]) -> tuple[str, str]:
    """``document`` as JSON, cut where its (last) member ``pid`` has the value 0."""
    head, _, tail = dumps(document).rpartition('"pid":0')
    return head + '"pid":', tail


def hook_state(container_id: str, status: str, bundle: str, annotations: dict[str, str]) -> tuple[str, str]:
    """The state as a hook reads it."""
    return around_pid(_state(container_id, status, bundle, annotations))


def _state(container_id: str, status: str, bundle: str, annotations: dict[str, str]) -> dict[str, object]:
    document: dict[str, object] = {"ociVersion": SPEC_VERSION, "id": container_id, "status": status, "bundle": bundle}
    if annotations:
        document["annotations"] = annotations
    # Last, so that nothing in an annotation can be taken for it.
    document["pid"] = 0
    return document


def process_state(
    container_id: str, bundle: str, annotations: dict[str, str], *, metadata: str
) -> tuple[str, str, str]:
    """containerProcessState for a seccomp agent, around the pid of the state and that of the process: both init's."""
    document: dict[str, object] = {"ociVersion": SPEC_VERSION, "fds": ["seccompFd"], "metadata": metadata}
    document["state"] = _state(container_id, "creating", bundle, annotations)
    document["pid"] = 0
    text, tail = around_pid(document)
    head, _, mid = text.rpartition('"pid":0')
    return head + '"pid":', mid, tail


def exec_state(
    container_id: str, bundle: str, annotations: dict[str, str], *, metadata: str, pid: int
) -> tuple[str, str, str]:
    """The same for an exec'd process: the state's pid is the container's, known already; so the middle is empty."""
    document: dict[str, object] = {"ociVersion": SPEC_VERSION, "fds": ["seccompFd"], "metadata": metadata}
    document["state"] = {**_state(container_id, "running", bundle, annotations), "pid": pid}
    document["pid"] = 0
    head, tail = around_pid(document)
    return head, "", tail
