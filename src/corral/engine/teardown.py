"""Taking apart what a run leaves: network, the runtime's record with the cgroups, the run directory.

Goes on past what refuses, keeps on record what stays and why, and plans the next try (S4.12). Idempotent.
"""

from __future__ import annotations

import os
import time

from corral.engine import files, journal, ledger
from corral.engine.exits import runtime_record_or_none
from corral.engine.failpoints import failpoint
from corral.engine.programs import find_program, run
from corral.errors import CorralError
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["LAST_TRY_S", "delete_record", "note_pending", "tear_down"]

DELETE_S = 60.0
_FIRST_TRY_S = 1.0
LAST_TRY_S = 60.0


def tear_down(facts: Facts) -> list[dict[str, str]]:
    """Take apart what the last run had; returns what stays, which is on record by then."""
    places, container_id = facts.places, facts.container_id
    stays: list[dict[str, str]] = []
    if facts.state.get("network"):
        stays += _attempt("network", _detach_network, facts)
    failpoint("teardown.network")
    stays += _attempt("cgroup", _delete_runtime_record, facts)
    failpoint("teardown.record")
    if stays or facts.state.get("pending"):
        note_pending(places, container_id, stays, name=facts.definition.get("name", ""))
    return stays


def _attempt(what: str, action: Any, facts: Facts) -> list[dict[str, str]]:  # noqa: ANN401 -- any callable
    try:
        action(facts)
    except (CorralError, OSError) as exc:
        return [{"what": what, "why": str(exc)}]
    return []


def _detach_network(facts: Facts) -> None:
    from corral.engine.network import detach

    detach(facts.places, facts.definition, facts.state)
    with ledger.Update(facts.places, facts.container_id) as state:
        state.pop("network", None)


def _delete_runtime_record(facts: Facts) -> None:
    delete_record(facts.places, facts.container_id)


def delete_record(places: Places, container_id: str) -> None:
    """Delete the runtime's record, and with it the cgroups that were made; a record that is gone already is fine.

    Raises: CorralError with the runtime's own words about what stays.
    """
    if not paths.exists(places.record(container_id)):
        return
    record = runtime_record_or_none(places, container_id)
    words = [find_program("corral-runtime"), "--root", places.runtime_root, "delete", "--force", container_id]
    result = run(words, timeout_s=DELETE_S)
    if result.code:
        from corral.errors import Unavailable

        said = " ".join(result.output.split()) or f"exit code {result.code}"
        raise Unavailable(f"remove what container {container_id[:12]} ran in: {said[:2000]}")
    scope: dict[str, Any] | None = record.state.get("scope") if record is not None else None
    if scope is not None:
        _end_scope(scope)


def _end_scope(scope: dict[str, Any]) -> None:
    from corral.runtime.scopes import end_scope

    try:
        end_scope(scope, os.environ)
    except CorralError:
        pass  # Its groups are gone. A systemd that does not answer finds that out when it is loaded anew.


def note_pending(places: Places, container_id: str, stays: list[dict[str, str]], *, name: str = "") -> None:
    """Put down what stays, with the time of the next try; an empty list clears it."""
    with ledger.Update(places, container_id) as state:
        before = {row["what"]: row for row in state.get("pending", [])}
        rows = []
        for item in stays:
            old = before.get(item["what"], {})
            tries = old.get("tries", 0) + 1
            pause = min(LAST_TRY_S, _FIRST_TRY_S * 2 ** min(tries - 1, 10))
            rows.append(
                {
                    **item,
                    "since_ns": old.get("since_ns", time.time_ns()),
                    "tries": tries,
                    "due_ns": ledger.boot_ns() + int(pause * 1e9),
                }
            )
        if rows:
            state["pending"] = rows
        else:
            state.pop("pending", None)
    for item in stays:
        if item["what"] not in before:
            journal.emit(places, "container", "cleanup-pending", container_id, name=name, attributes=dict(item))
    if before and not stays:
        journal.emit(places, "container", "cleanup", container_id, name=name)


def remove_run_directory(places: Places, container_id: str) -> list[str]:
    """Remove RUN/containers/ID; returns what stays."""
    return files.remove_tree(places.container_run(container_id))
