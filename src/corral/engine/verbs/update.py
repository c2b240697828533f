"""``update``: other limits, another restart policy, for a container that may run."""

from __future__ import annotations

from corral.engine import journal, ledger, names, status
from corral.engine.failpoints import failpoint
from corral.engine.files import remove_tree, write_object
from corral.engine.programs import find_program, run
from corral.engine.shape import check_shape
from corral.errors import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["update"]

_UPDATE_S = 60.0
_MEMBERS = ("resources", "restart", "health")


def update(places: Places, reference: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Change ``resources`` (member by member), ``restart`` or ``health`` (as a whole) of a container.

    A running one has the limits at once, all of them or none; read back. Raises: NotFound; InvalidArgument for others,
    and for limits that there are not; FailedPrecondition with the kernel's reason, and nothing is changed then.
    """
    container_id = names.find_id(places, reference)
    unknown = [key for key in changes if key not in _MEMBERS]
    if unknown:
        raise InvalidArgument(
            f"update container {reference!r}: {unknown[0]!r} cannot be changed", hint="make a new one"
        )
    check_shape(changes, f"update container {reference!r}")
    facts = status.look(places, container_id)
    definition = dict(facts.definition)
    if "resources" in changes:
        definition["resources"] = {**definition.get("resources", {}), **changes["resources"]}
    definition.update({key: changes[key] for key in ("restart", "health") if key in changes})
    failpoint("update.begin")
    if facts.is_live and changes.get("resources"):
        _apply(facts, definition)
    failpoint("update.applied")
    with ledger.Update(places, container_id):
        now = ledger.read_definition(places, container_id)
        ledger.write_definition(places, container_id, {**now, **{k: definition[k] for k in changes}})
    journal.emit(places, "container", "update", container_id, name=definition.get("name", ""))
    return {"id": container_id}


def _apply(facts: Facts, definition: dict[str, Any]) -> None:
    """Have the runtime write the limits: it knows the old ones, their order, and how to take back a half."""
    from corral.engine.arrange import arrange
    from corral.engine.spec_limits import compile_resources

    place = arrange(facts.places, facts.definition).place
    wanted = compile_resources(definition, place)  # type: ignore[arg-type]
    before = compile_resources(facts.definition, place)  # type: ignore[arg-type]
    changed = {key: value for key, value in wanted.items() if value != before.get(key) and key != "devices"}
    if not changed:
        return
    directory = facts.places.container_run(facts.container_id)
    path = f"{directory}/update.json"
    write_object(path, changed)
    words = [find_program("corral-runtime"), "--root", facts.places.runtime_root, "update", "--resources", path]
    result = run([*words, facts.container_id], timeout_s=_UPDATE_S)
    remove_tree(path)
    if result.code:
        said = " ".join(result.output.split()) or f"exit code {result.code}"
        raise FailedPrecondition(f"update container {facts.definition.get('name', '')!r}: {said[:2000]}")
