"""``update``: new limits for a running container, all of them or none.

What is asked for is merged with what the container has; the kernel's answer is read back; a refusal rolls back what
was written; then the record keeps the new resources, so that the next update starts from them.

Source: runc-update(8); runtime-spec config-linux.md "Control groups".
"""

from __future__ import annotations

import os
import sys

from corral.cgroup.layout import read_layout
from corral.errors import FailedPrecondition, InvalidArgument, NotFound, Unsupported
from corral.oci.json import loads
from corral.oci.validate import drop_nulls, to_error, validate_resources
from corral.runtime.commands.update_apply import Change, apply_change
from corral.runtime.containers import open_container, open_container_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.runtime.options import CommandLine
    from corral.runtime.record import Record

    Resources = dict[str, Any]

RESCTRL = "/sys/fs/resctrl"

# flag -> section and member; those of _SIZES take sizes as text.
_NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
}
# Of everything else, zero and the empty text mean "leave it as it is": that is what callers send for "not given".
_ZERO_IS_A_VALUE = frozenset({("cpu", "idle"), ("cpu", "burst"), ("pids", "limit"), ("memory", "swappiness")})
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_POINTER = "linux.resources"


def run(line: CommandLine) -> int:
    """Apply the flags, over the file of ``--resources``, to the container."""
    record = open_container(line)
    asked = requested(line)
    schemas = [line.text("l3-cache-schema"), line.text("mem-bw-schema")]
    if not record.is_running:
        raise FailedPrecondition(
            f"update container {record.container_id!r}: container not running",
            hint="limits of a stopped container have nothing to act on",
        )
    with _Lock(record.path):
        if asked:
            # Read anew under the lock, lest another update's change be lost.
            _update(open_container(line), asked)
        _write_schemata(record, [schema for schema in schemas if schema])
    return 0


def _update(record: Record, asked: Resources) -> None:
    config = record.read_config()
    current: Resources = record.state.get("resources") or config.get("linux", {}).get("resources") or {}
    wanted = merge(current, asked)
    error = to_error(validate_resources(wanted, _POINTER), "update limits")
    if error is not None:
        raise error
    if asked.get("devices") and os.geteuid() != 0:
        raise Unsupported(
            "update limits: device rules are for root to change", pointer=f"{_POINTER}.devices", phase="cgroup"
        )
    old_spec = str(config.get("ociVersion", "")).startswith(("1.0", "1.1", "1.2"))
    change = Change(current, wanted, given_pointers(asked), read_layout(), pids_zero_is_limit=not old_spec)
    with open_container_group(record) as group:
        apply_change(group, change)
    record.state["resources"] = wanted
    record.save_state()
    if record.state.get("scope"):
        from corral.runtime.scopes import update_scope

        update_scope(record.state["scope"], wanted, change.layout, dict(os.environ))


def requested(line: CommandLine) -> Resources:
    """What the command line asks for, without what means "unset". Raises: CorralError for odd files and flags."""
    asked: Resources = {}
    path = line.text("resources")
    if path:
        document = _read_document(path)
        error = to_error(validate_resources(document, _POINTER), "update limits")
        if error is not None:
            raise error
        asked = strip_unset(document)
    for flag, (section, member) in {**_NUMBERS, **_TEXTS, **_SIZES}.items():
        if flag not in line.values:
            continue
        value: object = line.values[flag]
        if flag in _SIZES:
            value = parse_size(flag, line.text(flag))
        # Zero as a flag is "not given" for pids, too: runc's default of the flag.
        if value or flag in ("cpu-idle", "cpu-burst"):
            asked.setdefault(section, {})[member] = value
    return asked


def _read_document(path: str) -> dict[str, object]:
    if path == "-":
        data = sys.stdin.buffer.read()
    else:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as exc:
            cause = (exc.strerror or str(exc)).lower()
            raise NotFound(
                f"read {path}: {cause}", hint="--resources names a file with a resources object, or is -", path=path
            ) from exc
    document = drop_nulls(loads(data, "standard input" if path == "-" else path))
    if not isinstance(document, dict):
        raise InvalidArgument(f"read {'standard input' if path == '-' else path}: want an object at the top")
    return document


def strip_unset(document: dict[str, object]) -> Resources:
    """Without the members whose value says "leave it as it is", and without sections that are empty then."""
    kept: Resources = {}
    for section, content in document.items():
        if isinstance(content, dict):
            content = {
                member: value for member, value in content.items() if value or (section, member) in _ZERO_IS_A_VALUE
            }
        if content:
            kept[section] = content
    return kept


def parse_size(flag: str, text: str) -> int:
    """Bytes of ``64M``, ``1.5g``, ``4096`` or ``-1``; units are powers of 1024. Raises: InvalidArgument."""
    if text == "-1":
        return -1
    number = text.strip().lower()
    number = number.removesuffix("ib") if number.endswith("ib") else number.removesuffix("b")
    unit = number[-1:] if number[-1:].isalpha() else ""
    number = number.removesuffix(unit).rstrip()
    if unit in _UNITS and number.replace(".", "", 1).isdecimal() and number.isascii():
        return int(float(number) * (1 << _UNITS[unit])) if "." in number else int(number) << _UNITS[unit]
    raise InvalidArgument(
        f"update: invalid value for {flag}: invalid size: {text!r}", hint="write it as 64M, 1g, a number of bytes or -1"
    )


def merge(current: Resources, asked: Resources) -> Resources:
    """``current`` with ``asked`` over it: members of sections one by one, lists as a whole."""
    merged = dict(current)
    for section, content in asked.items():
        old = current.get(section)
        merged[section] = {**old, **content} if isinstance(old, dict) and isinstance(content, dict) else content
    memory = asked.get("memory", {})
    if memory.get("limit") == -1 and "swap" not in memory:
        # Unlimited memory with nothing said of swap means both, and an old sum of both would forbid it.
        merged["memory"]["swap"] = -1
    return merged


def given_pointers(asked: Resources) -> frozenset[str]:
    """The places of ``asked`` in a config: what they lead to is written even if it should be so already."""
    places: set[str] = set()
    for section, content in asked.items():
        if isinstance(content, dict) and section != "rdma":
            places.update(f"{_POINTER}.{section}.{member}" for member in content if section != "unified")
        if section in ("rdma", "unified", "hugepageLimits"):
            places.add(f"{_POINTER}.{section}")
    return frozenset(places)


def _write_schemata(record: Record, schemas: list[str]) -> None:
    if not schemas:
        return
    rdt = record.read_config().get("linux", {}).get("intelRdt") or {}
    path = f"{RESCTRL}/{rdt.get('closID') or record.container_id}/schemata"
    if not rdt or not os.path.exists(path):
        why = "resctrl is not mounted on this host" if rdt else "the container was made without intelRdt"
        raise Unsupported(
            f"update the resctrl group of container {record.container_id!r}: {why}",
            hint="give linux.intelRdt in config.json, on a processor that has it",
        )
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{schema}\n" for schema in schemas))
    except (OSError, UnicodeEncodeError) as exc:
        cause = (getattr(exc, "strerror", "") or str(exc)).lower()
        raise InvalidArgument(f"write {schemas!r} to {path!r}: {cause}", path=path) from exc


class _Lock:
    """Holds the record's directory locked: two updates at once would lose one's resources."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> None:
        import fcntl

        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
