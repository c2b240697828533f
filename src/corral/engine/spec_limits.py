"""``linux.resources`` and ``process.rlimits`` from a definition. Pure.

Source: runtime-spec config-linux.md "Control groups", config.md "Linux Process" (rlimits), getrlimit(2).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.definition import Definition, SpecPlace
    from corral.engine.definition import Resources as Asked
    from corral.oci.spec import BlockIO, Cpu, Memory, Resources, Rlimit

# As systemd gives services: select(2) breaks beyond 1024, and who can do with more raises its own soft limit.
_NOFILE_SOFT, _NOFILE_HARD = 1024, 524288

_THROTTLES = {
    "read_bps": "throttleReadBpsDevice",
    "write_bps": "throttleWriteBpsDevice",
    "read_iops": "throttleReadIOPSDevice",
    "write_iops": "throttleWriteIOPSDevice",
}
_UNLIMITED = 2**64 - 1


def compile_resources(definition: Definition, place: SpecPlace) -> Resources:
    """Limits and device rules. Absent in the definition means absent here, so that the kernel's default holds."""
    asked = definition.get("resources", {})
    found: Resources = {"devices": [{"allow": False, "access": "rwm"}]}
    if definition.get("security", {}).get("privileged"):
        found["devices"] = [{"allow": True, "access": "rwm"}]
    else:
        for item in place.get("devices", []):
            found["devices"].append(
                {
                    "allow": True,
                    "type": item["type"],
                    "major": item["major"],
                    "minor": item["minor"],
                    "access": item["access"],
                }
            )
        for rule in definition.get("device_rules", []):
            found["devices"].append(_device_rule(rule))  # type: ignore[arg-type]
    memory = _memory(asked, place)
    if memory:
        found["memory"] = memory
    cpu = _cpu(asked)
    if cpu:
        found["cpu"] = cpu
    if "pids" in asked:
        found["pids"] = {"limit": asked["pids"]}
    block = _block_io(asked)
    if block:
        found["blockIO"] = block
    if asked.get("unified"):
        found["unified"] = asked["unified"]
    return found


def _device_rule(rule: str) -> dict[str, object]:
    """``c 1:3 rwm``, ``*`` for all numbers; checked by ``engine/options.py``."""
    kind, numbers, access = rule.split()
    found: dict[str, object] = {"allow": True, "type": kind, "access": access}
    for name, text in zip(("major", "minor"), numbers.split(":"), strict=True):
        if text != "*":
            found[name] = int(text)
    return found


def _memory(asked: Asked, place: SpecPlace) -> Memory:
    memory: Memory = {}
    limit = asked.get("memory_bytes")
    swap = asked.get("memory_swap_bytes")
    if limit is not None:
        memory["limit"] = limit
        if swap is None and place.get("can_limit_swap"):
            # As Docker and Podman: as much swap again, where nothing was said.
            swap = 2 * limit
    if swap is not None:
        memory["swap"] = swap
    if "memory_reservation_bytes" in asked:
        memory["reservation"] = asked["memory_reservation_bytes"]
    if "memory_swappiness" in asked:
        memory["swappiness"] = asked["memory_swappiness"]
    if asked.get("oom_kill_disable"):
        memory["disableOOMKiller"] = True
    return memory


def _cpu(asked: Asked) -> Cpu:
    cpu: Cpu = {}
    if "cpu_quota_us" in asked:
        cpu["quota"] = asked["cpu_quota_us"]
    if "cpu_period_us" in asked:
        cpu["period"] = asked["cpu_period_us"]
    if "cpu_shares" in asked:
        cpu["shares"] = asked["cpu_shares"]
    if asked.get("cpuset_cpus"):
        cpu["cpus"] = asked["cpuset_cpus"]
    if asked.get("cpuset_mems"):
        cpu["mems"] = asked["cpuset_mems"]
    return cpu


def _block_io(asked: Asked) -> BlockIO:
    block: BlockIO = {}
    if "blkio_weight" in asked:
        block["weight"] = asked["blkio_weight"]
    for item in asked.get("device_limits", []):
        name = _THROTTLES[str(item["kind"])]
        entry = {"major": item["major"], "minor": item["minor"], "rate": item["rate"]}
        block.setdefault(name, []).append(entry)  # type: ignore[misc]
    return block


def compile_rlimits(ulimits: list[str], nofile_hard: int) -> list[Rlimit]:
    """``name=soft:hard`` lines, and a stated RLIMIT_NOFILE, so that it does not depend on who started the engine."""
    found: dict[str, Rlimit] = {}
    hard = min(_NOFILE_HARD, nofile_hard or _NOFILE_HARD)
    found["RLIMIT_NOFILE"] = {"type": "RLIMIT_NOFILE", "soft": min(_NOFILE_SOFT, hard), "hard": hard}
    for line in ulimits:
        name, _, values = line.partition("=")
        soft, _, top = values.partition(":")
        kind = f"RLIMIT_{name.upper()}"
        found[kind] = {"type": kind, "soft": _limit(soft), "hard": _limit(top or soft)}
    return list(found.values())


def _limit(text: str) -> int:
    return _UNLIMITED if text in ("-1", "unlimited") else int(text)
