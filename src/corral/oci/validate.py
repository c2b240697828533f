"""Is this config.json one that a runtime can carry out? All that is wrong with it, not only the first thing.

Owns the document as a whole; its parts are in ``validate_process``, ``validate_mounts``, ``validate_linux``,
``validate_resources`` and ``validate_seccomp``. Looks at nothing but the document: what this host lacks is found later.

Where callers are known to be loose, so is this module: null stands for absent, unknown properties are ignored, empty
strings and empty lists stand for absent members, a missing ``linux`` section is an empty one.

Source: runtime-spec config.md, config-linux.md.
"""

from __future__ import annotations

from corral.errors import InvalidArgument
from corral.oci.shape import BOOLEAN, LINE, STRING, TEXT, Problem, conform_object, map_of, object_of, quote
from corral.oci.validate_linux import LINUX_RULE, check_linux
from corral.oci.validate_mounts import HOOKS_RULE, MOUNTS_RULE, check_hooks, check_mounts
from corral.oci.validate_process import PROCESS_REQUIRED, PROCESS_SHAPE, check_process, validate_process
from corral.oci.validate_resources import validate_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Shape
    from corral.oci.spec import IDMapping, Linux, Spec

__all__ = [
    "Problem",
    "drop_nulls",
    "normalize",
    "to_error",
    "validate",
    "validate_process",
    "validate_resources",
]

# __NEW_UTS_LEN, include/uapi/linux/utsname.h
_MAX_HOST_NAME = 64

_SPEC_SHAPE: Shape = {
    "ociVersion": STRING,
    "process": object_of(PROCESS_SHAPE, PROCESS_REQUIRED),
    "root": object_of({"path": STRING, "readonly": BOOLEAN}, required=("path",)),
    "hostname": LINE,
    "domainname": LINE,
    "mounts": MOUNTS_RULE,
    "hooks": HOOKS_RULE,
    "annotations": map_of(TEXT),
    "linux": LINUX_RULE,
}


def validate(spec: object) -> list[Problem]:
    """All problems of a config.json, errors and warnings, section by section. Never raises; changes nothing.

    ``process`` may be absent, as the specification allows until ``start``.
    """
    out: list[Problem] = []
    clean: Spec = conform_object(spec, _SPEC_SHAPE, ("ociVersion", "root"), "", out)  # type: ignore[assignment]
    if type(spec) is not dict:
        return out[:1]  # what else is missing says nothing any more
    if "ociVersion" in clean:
        _check_version(clean["ociVersion"], out)
    if "root" in clean and clean["root"].get("path", "missing") == "":
        out.append(Problem("root.path", "empty"))
    linux: Linux = clean.get("linux", {})
    namespaces = [namespace.get("type", "") for namespace in linux.get("namespaces", [])]
    for name, text in (("hostname", clean.get("hostname", "")), ("domainname", clean.get("domainname", ""))):
        _check_host_name(name, text, namespaces, out)
    if "process" in clean:
        check_process(clean["process"], "process", out)
        _check_ids_mapped(clean, linux, out)
    check_mounts(clean.get("mounts", []), "user" in namespaces, out)
    if "hooks" in clean:
        check_hooks(clean["hooks"], out)
    if "" in clean.get("annotations", {}):
        out.append(Problem('annotations[""]', "empty name", is_warning=True))
    check_linux(linux, out)
    return out


def normalize(spec: object) -> Spec:
    """``spec`` without its null members, at any depth. Changes nothing, shares what had none.

    Meant for a document that ``validate`` finds no errors in; the result then fits the types of ``corral.oci.spec``.

    Raises: InvalidArgument if it is no object, or nests deeper than the stack.
    """
    clean = drop_nulls(spec)
    if type(clean) is not dict:
        raise InvalidArgument("read config: want an object at the top")
    return clean  # type: ignore[return-value]


def drop_nulls(value: object) -> object:
    """``value`` without the null members of its objects, at any depth. Nulls in arrays stay: they hold an index."""
    try:
        return _drop_nulls(value)
    except RecursionError as exc:
        raise InvalidArgument("read config: nested too deeply", hint="no OCI document nests this deeply") from exc


def _drop_nulls(value: object) -> object:
    if type(value) is dict:
        clean = {}
        for key, member in value.items():
            kind = type(member)
            if kind is dict or kind is list:
                clean[key] = _drop_nulls(member)
            elif member is not None:
                clean[key] = member
        return clean
    # Arrays hold scalars, or objects only: the first item tells which, and names come by the hundred.
    if type(value) is list and value and type(value[0]) is not str:
        return [_drop_nulls(item) for item in value]
    return value


def to_error(problems: list[Problem], operation: str = "validate config.json") -> InvalidArgument | None:
    """The first error among ``problems`` as an exception to raise, with the number of the others. None if none is."""
    errors = [problem for problem in problems if not problem.is_warning]
    if not errors:
        return None
    first = errors[0]
    more = len(errors) - 1
    hint = first.hint
    if more:
        hint = f"{hint}; " if hint else ""
        hint += f"{more} more {'problem' if more == 1 else 'problems'}: corral-runtime check lists all"
    return InvalidArgument(f"{operation}: {first.message}", pointer=first.pointer, hint=hint, phase="config")


def _check_version(version: str, out: list[Problem]) -> None:
    core, _, _ = version.replace("+", "-").partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        out.append(Problem("ociVersion", f"{quote(version)} is not a version such as 1.3.0"))
    elif numbers[0] != "1":
        out.append(Problem("ociVersion", f"{quote(version)} is not a version 1", "this runtime knows 1.0.0 to 1.3.0"))


def _check_host_name(name: str, text: str, namespaces: list[str], out: list[Problem]) -> None:
    if text and "uts" not in namespaces:
        hint = 'add {"type": "uts"} to linux.namespaces'
        out.append(Problem(name, "set without a uts namespace: it would rename the host", hint))
    if len(text.encode("utf-8", "surrogateescape")) > _MAX_HOST_NAME:
        out.append(Problem(name, f"{quote(text)} is longer than {_MAX_HOST_NAME} bytes"))


def _check_ids_mapped(spec: Spec, linux: Linux, out: list[Problem]) -> None:
    """The ids of the process must exist in the user namespace, or setuid(2) and its kin answer EINVAL."""
    user = spec["process"].get("user", {})
    uid_mappings = linux.get("uidMappings", [])
    gid_mappings = linux.get("gidMappings", [])
    if uid_mappings and not _is_mapped(user.get("uid", 0), uid_mappings):
        out.append(Problem("process.user.uid", f"{user.get('uid', 0)} is not among linux.uidMappings"))
    if gid_mappings:
        gids = [("gid", user.get("gid", 0))]
        gids += [(f"additionalGids[{index}]", gid) for index, gid in enumerate(user.get("additionalGids", []))]
        for name, gid in gids:
            if not _is_mapped(gid, gid_mappings):
                out.append(Problem(f"process.user.{name}", f"{gid} is not among linux.gidMappings"))


def _is_mapped(number: int, mappings: list[IDMapping]) -> bool:
    for mapping in mappings:
        if not ("containerID" in mapping and "size" in mapping):
            return True  # half a mapping is reported on its own
        if 0 <= number - mapping["containerID"] < mapping["size"]:
            return True
    return False
