"""``make run``: one real container, from an OCI bundle to its exit code, with what it sees of itself on the terminal.

Drives any OCI runtime through its command line: ``tools/demo.py --runtime PATH``. Everything it makes lies below
build/demo and in one cgroup of its own, and is gone afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "build" / "demo"

MEMORY_BYTES = 64 * 1024 * 1024
PIDS = 32
CPU_QUOTA_US, CPU_PERIOD_US = 50_000, 100_000

SCRIPT = """
echo "hostname        $(hostname)"
echo "user            $(id)"
echo "uid map         $(tr -s ' ' </proc/self/uid_map)"
echo "interfaces      $(ls /sys/class/net 2>/dev/null | tr '\\n' ' ')"
for name in pid mnt net ipc uts; do echo "namespace       $(readlink /proc/self/ns/$name)"; done
show() { for file in "$@"; do [ -r "$file" ] && echo "limit           ${file#/sys/fs/cgroup/} = $(cat $file)"; done; }
cd /sys/fs/cgroup
show memory/memory.limit_in_bytes memory.max pids/pids.max pids.max cpu/cpu.cfs_quota_us cpu.max
echo "root filesystem $(touch /probe 2>&1 || true)"
echo "processes:"
ps -o pid,user,comm
"""


def make_rootfs(rootfs: Path) -> None:
    """Lay out a root filesystem of one static program and its names."""
    busybox = shutil.which("busybox") or "/bin/busybox"
    if not Path(busybox).exists():
        raise SystemExit("demo: busybox is not there: install the package busybox-static")
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy2(busybox, rootfs / "bin" / "busybox")
    for name in ("sh", "hostname", "id", "tr", "ls", "readlink", "cat", "touch", "ps"):
        (rootfs / "bin" / name).unlink(missing_ok=True)
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def adapt(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """Turn the runtime's own default config.json into the demo's."""
    spec["hostname"] = "corral-demo"
    spec["root"] = {"path": "rootfs", "readonly": True}
    spec["process"].update({"terminal": False, "args": ["/bin/sh", "-c", SCRIPT]})
    spec["linux"]["cgroupsPath"] = f"/{name}"
    spec["linux"].setdefault("resources", {}).update(
        {
            "memory": {"limit": MEMORY_BYTES},
            "pids": {"limit": PIDS},
            "cpu": {"quota": CPU_QUOTA_US, "period": CPU_PERIOD_US},
        }
    )
    if os.geteuid() != 0:
        # Without root and without a delegated cgroup there is no group to limit.
        del spec["linux"]["resources"], spec["linux"]["cgroupsPath"]
    return spec


def left_over_groups(name: str) -> list[str]:
    """Cgroups of the demo that still exist; there must be none."""
    hierarchies = (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*"))
    return [str(base / name) for base in hierarchies if (base / name / "cgroup.procs").exists()]


def run(runtime: str, timeout_s: float) -> int:
    """Make the bundle, run it, remove it, and return the container's exit code."""
    name = f"corral-demo-{uuid.uuid4().hex[:8]}"
    bundle, state = DEMO / name, DEMO / f"{name}.state"
    command = [runtime, "--root", str(state)]
    try:
        make_rootfs(bundle / "rootfs")
        kind = [] if os.geteuid() == 0 else ["--rootless"]
        subprocess.run([*command, "spec", "--bundle", str(bundle), *kind], check=True, timeout=timeout_s)
        config = bundle / "config.json"
        config.write_text(json.dumps(adapt(json.loads(config.read_text()), name), indent=2))
        print(f"$ {runtime} run --bundle {os.path.relpath(bundle)} {name}", flush=True)
        code = subprocess.run([*command, "run", "--bundle", str(bundle), name], timeout=timeout_s).returncode
        print(f"exit code       {code}")
    except subprocess.TimeoutExpired:
        subprocess.run([*command, "delete", "--force", name], timeout=timeout_s)
        raise SystemExit(f"demo: {runtime} did not finish within {timeout_s:.0f} s") from None
    finally:
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)
    leftover = left_over_groups(name)
    print(f"left behind     {', '.join(leftover) or 'nothing'}")
    return code or bool(leftover)


def main() -> int:
    """Command line: ``--runtime PATH``."""
    parser = argparse.ArgumentParser(description="run one demo container")
    parser.add_argument("--runtime", required=True, help="path of the OCI runtime to drive")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until the demo gives up")
    options = parser.parse_args()
    if shutil.which(options.runtime) is None:
        parser.error(f"{options.runtime}: no such program")
    return run(options.runtime, options.timeout)


if __name__ == "__main__":
    sys.exit(main())
