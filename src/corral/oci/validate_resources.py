"""What may stand in ``linux.resources``, and in update's document.

Only what no host would take is refused here. Whether *this* host has the controller is the cgroup layer's to say.

Source: runtime-spec config-linux.md "Control groups"; cgroup-v1/ and cgroup-v2.rst of the kernel's documentation.
"""

from __future__ import annotations

from corral.oci.shape import (
    BOOLEAN,
    INT64,
    INT64_MAX,
    LINE,
    STRING,
    UINT32,
    UINT64,
    Problem,
    conform_object,
    integer,
    list_of,
    map_of,
    member_of,
    object_of,
    quote,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Shape
    from corral.oci.spec import BlockIO, Cpu, DeviceRule, HugepageLimit, Memory, Resources

# -1 stands for "unlimited" wherever a limit is signed, and for "any" in a device number.
_LIMIT = integer(-1, INT64_MAX)
_WEIGHT = integer(0, 1000)
_MAJOR_MINOR: Shape = {"major": UINT32, "minor": UINT32}
_THROTTLE = list_of(object_of({**_MAJOR_MINOR, "rate": UINT64}, required=("major", "minor", "rate")))
# Periods and quotas of the CFS bandwidth controller, in microseconds: kernel/sched/core.c tg_set_bandwidth
_CFS_MIN_US = 1000
_CFS_MAX_PERIOD_US = 1000000

RESOURCES_SHAPE: Shape = {
    "devices": list_of(
        object_of(
            {"allow": BOOLEAN, "type": word(("a", "b", "c", "")), "major": _LIMIT, "minor": _LIMIT, "access": STRING},
            required=("allow",),
        )
    ),
    "memory": object_of(
        {
            "limit": _LIMIT,
            "reservation": _LIMIT,
            "swap": _LIMIT,
            "kernel": _LIMIT,
            "kernelTCP": _LIMIT,
            "swappiness": integer(0, 100),
            "disableOOMKiller": BOOLEAN,
            "useHierarchy": BOOLEAN,
            "checkBeforeUpdate": BOOLEAN,
        }
    ),
    "cpu": object_of(
        {
            "shares": UINT64,
            "quota": INT64,
            "burst": UINT64,
            "period": UINT64,
            "realtimeRuntime": _LIMIT,
            "realtimePeriod": UINT64,
            "cpus": LINE,
            "mems": LINE,
            "idle": integer(0, 1),
        }
    ),
    "pids": object_of({"limit": _LIMIT}),
    "blockIO": object_of(
        {
            "weight": _WEIGHT,
            "leafWeight": _WEIGHT,
            "weightDevice": list_of(
                object_of({**_MAJOR_MINOR, "weight": _WEIGHT, "leafWeight": _WEIGHT}, required=("major", "minor"))
            ),
            "throttleReadBpsDevice": _THROTTLE,
            "throttleWriteBpsDevice": _THROTTLE,
            "throttleReadIOPSDevice": _THROTTLE,
            "throttleWriteIOPSDevice": _THROTTLE,
        }
    ),
    "hugepageLimits": list_of(object_of({"pageSize": LINE, "limit": UINT64}, required=("pageSize", "limit"))),
    "network": object_of(
        {
            "classID": UINT32,
            "priorities": list_of(object_of({"name": LINE, "priority": UINT32}, required=("name", "priority"))),
        }
    ),
    "rdma": map_of(object_of({"hcaHandles": UINT32, "hcaObjects": UINT32})),
    "unified": map_of(STRING),
}


def validate_resources(resources: object, pointer: str = "linux.resources") -> list[Problem]:
    """All problems of a resources object, in the order of the document. Never raises."""
    out: list[Problem] = []
    clean: Resources = conform_object(resources, RESOURCES_SHAPE, (), pointer, out)  # type: ignore[assignment]
    check_resources(clean, pointer, out)
    return out


def check_resources(resources: Resources, pointer: str, out: list[Problem]) -> None:
    """Add the problems of meaning of ``resources`` whose types conform."""
    prefix = pointer + "." if pointer else ""
    _check_devices(resources.get("devices", []), f"{prefix}devices", out)
    if "memory" in resources:
        _check_memory(resources["memory"], f"{prefix}memory", out)
    if "cpu" in resources:
        _check_cpu(resources["cpu"], f"{prefix}cpu", out)
    if "blockIO" in resources:
        _check_block_io(resources["blockIO"], f"{prefix}blockIO", out)
    _check_hugepages(resources.get("hugepageLimits", []), f"{prefix}hugepageLimits", out)
    for name, limits in resources.get("rdma", {}).items():
        if not limits:
            out.append(Problem(member_of(f"{prefix}rdma", name), "neither hcaHandles nor hcaObjects is given"))
    for name in resources.get("unified", {}):
        if "/" in name or "." not in name.strip("."):
            message = f"{quote(name)} is not the name of a cgroup v2 file"
            pointer = member_of(f"{prefix}unified", name)
            out.append(Problem(pointer, message, "name it as controller.file, such as memory.high"))


def _check_devices(rules: list[DeviceRule], pointer: str, out: list[Problem]) -> None:
    for index, rule in enumerate(rules):
        access = rule.get("access", "")
        if access.strip("rwm"):
            message = f"{quote(access)} has other letters than r, w and m"
            out.append(Problem(f"{pointer}[{index}].access", message))


def _check_memory(memory: Memory, pointer: str, out: list[Problem]) -> None:
    limit = memory.get("limit", 0)
    swap = memory.get("swap", 0)
    if swap > 0 and limit == -1:
        out.append(Problem(f"{pointer}.swap", f"{swap} is below memory.limit, which is unlimited"))
    elif 0 < swap < limit:
        message = f"{swap} is below memory.limit {limit}"
        out.append(Problem(f"{pointer}.swap", message, "swap limits memory and swap together"))
    reservation = memory.get("reservation", 0)
    if 0 < limit < reservation:
        message = f"{reservation} is above memory.limit {limit} and has no effect"
        out.append(Problem(f"{pointer}.reservation", message, is_warning=True))
    if "kernel" in memory:
        message = "kernel memory limits are ignored: the kernel dropped them in 5.16"
        out.append(Problem(f"{pointer}.kernel", message, is_warning=True))


def _check_cpu(cpu: Cpu, pointer: str, out: list[Problem]) -> None:
    quota = cpu.get("quota", 0)
    period = cpu.get("period", 0)
    if quota < -1 or 0 < quota < _CFS_MIN_US:
        message = f"{quota} is neither -1 (unlimited), nor 0 (unset), nor at least {_CFS_MIN_US} microseconds"
        out.append(Problem(f"{pointer}.quota", message))
    if period and not _CFS_MIN_US <= period <= _CFS_MAX_PERIOD_US:
        message = f"{period} is not between {_CFS_MIN_US} and {_CFS_MAX_PERIOD_US} microseconds"
        out.append(Problem(f"{pointer}.period", message))
    burst = cpu.get("burst", 0)
    if 0 < quota < burst:
        out.append(Problem(f"{pointer}.burst", f"{burst} is above cpu.quota {quota}"))
    for name, text in (("cpus", cpu.get("cpus", "")), ("mems", cpu.get("mems", ""))):
        # The kernel's list format knows strides and more (lib/bitmap.c), so only its alphabet is held here.
        if text.strip("0123456789,-:/ "):
            message = f"{quote(text)} is not a list such as 0-3,7"
            out.append(Problem(f"{pointer}.{name}", message))


def _check_block_io(block_io: BlockIO, pointer: str, out: list[Problem]) -> None:
    _check_weights(block_io.get("weight", 0), block_io.get("leafWeight", 0), pointer, out)
    for index, device in enumerate(block_io.get("weightDevice", [])):
        at = f"{pointer}.weightDevice[{index}]"
        _check_weights(device.get("weight", 0), device.get("leafWeight", 0), at, out)


def _check_weights(weight: int, leaf_weight: int, pointer: str, out: list[Problem]) -> None:
    for name, value in (("weight", weight), ("leafWeight", leaf_weight)):
        if 0 < value < 10:
            out.append(Problem(f"{pointer}.{name}", f"{value} is neither 0 (unset) nor between 10 and 1000"))


def _check_hugepages(limits: list[HugepageLimit], pointer: str, out: list[Problem]) -> None:
    for index, limit in enumerate(limits):
        if "pageSize" in limit:
            size = limit["pageSize"]
            digits = size[:-2]
            if size[-2:] not in ("KB", "MB", "GB") or not (digits.isascii() and digits.isdigit()) or digits[0] == "0":
                message = f"{quote(size)} is not a page size"
                out.append(Problem(f"{pointer}[{index}].pageSize", message, "write it as 64KB, 2MB or 1GB"))
