"""Broken configurations given to the real program: `check` and `create`, within bounds of time.

`create` runs as root of a user namespace whose owner has nothing: whatever a broken config asks for, it can only hit
what belongs to the test.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from conformance import spec as specs
from corral.oci.json import dumps
from fuzz.mutations import break_bytes, break_members
from sweep.world import World
from unit.oci.documents import full_spec

SECONDS = float(os.environ.get("CORRAL_FUZZ_SECONDS", "5")) * 4
NOBODY = 64321
HANG_S = 30
BANNED = ("Traceback", "internal error", "unable to", "failed")

# Everything in one shell, which is pid 1 of a pid namespace: with its end, all that the config made is gone.
SCRIPT = """
cd "$1"; shift
"$@" create --bundle . fuzzed </dev/null >out 2>err; echo "create=$?"
"$@" state fuzzed >state 2>&1; echo "state=$?"
"$@" delete --force fuzzed >deleted 2>&1; echo "delete=$?"
for stat in /proc/[0-9]*/stat; do
    read -r pid comm status rest <"$stat" 2>/dev/null || continue
    [ "$status" = Z ] || [ "$pid" = 1 ] || echo "process=$pid $comm $status"
done
for name in root/* root/.[!.]*; do
    [ ! -e "$name" ] || [ "$name" = root/.seccomp ] || echo "left=$name"
done
"""


def small_spec() -> specs.Spec:
    """A config that root of a user namespace can run."""
    spec = specs.base_spec()
    spec["linux"].pop("resources")
    spec["hooks"] = {"prestart": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true", "timeout": 2}]}
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]
    spec["linux"] |= {
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        },
    }
    spec["annotations"] = {"a": "b"}
    return spec


def seed() -> int:
    """From CORRAL_FUZZ_SEED, or a new one."""
    return int(os.environ.get("CORRAL_FUZZ_SEED", random.SystemRandom().randrange(2**32)))


def check_words(code: int, err: str, what: str) -> None:
    """One line of error, a hint at most, no traceback."""
    lines = [line for line in err.splitlines() if not line.startswith(("hint: ", "warning: "))]
    assert len(lines) == (1 if code else 0), f"{what}: {err}"
    assert not [word for word in BANNED if word in err], f"{what}: {err}"


@pytest.mark.requires("root", "busybox")
@pytest.mark.timeout(max(180, SECONDS * 3))
@pytest.mark.parametrize("mutate", [break_members, break_bytes], ids=["members", "bytes"])
def test_check_answers_any_bytes(world: World, mutate: Any) -> None:
    """`check --json`: exit code 0 or 1, a list of problems with message, kind of severity, and place; makes nothing."""
    bundle = world.make_bundle("bundle")
    number = seed()
    count = 0
    end = time.monotonic() + SECONDS / 4
    while time.monotonic() < end:
        data = mutate(random.Random(f"{number}-{count}"), full_spec())
        what = f"CORRAL_FUZZ_SEED={number}, document {count}"
        (bundle / "config.json").write_bytes(data)
        result = world.run("check", "--json", str(bundle))
        assert result.code in (0, 1), f"{what}: {result}"
        check_words(0, result.err, what)
        told = json.loads(result.out)
        assert told["ok"] == (result.code == 0), what
        for problem in told["problems"]:
            assert problem["message"], what
        count += 1
    assert world.state_names() == set()
    print(f"CORRAL_FUZZ_SEED={number}: {count} documents")


def _owned(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)
    for directory, names, files in os.walk(path):
        for name in [*names, *files]:
            if name not in ("busybox", "probe"):
                os.lchown(os.path.join(directory, name), NOBODY, NOBODY)


def create(world: World, bundle: Path, data: bytes) -> tuple[dict[str, str], str]:
    """One document through create, state and delete: their exit codes, what was left, and the words of create."""
    (bundle / "config.json").write_bytes(data)
    inside = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside += ["--net", "--uts", "--ipc", "--cgroup", "sh", "-c", SCRIPT, "sh", str(bundle)]
    done = subprocess.run(
        [*inside, str(world.runtime), "--root", str(bundle / "root")],
        capture_output=True,
        timeout=HANG_S,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd=bundle,
        env={"PATH": os.environ.get("PATH", "")},
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert "delete" in facts, (done, said)
    return facts, (bundle / "err").read_text(errors="replace")


@pytest.mark.requires("root", "userns", "busybox")
@pytest.mark.timeout(max(180, SECONDS * 3))
def test_create_makes_all_or_nothing_of_any_config(world: World) -> None:
    """Never a traceback, a hang, or half a container: it is there and can be deleted, or nothing is there."""
    bundle = world.make_bundle("bundle")
    (bundle / "root").mkdir()
    _owned(bundle)
    number = seed()
    counts = {"0": 0, "1": 0}
    facts, err = create(world, bundle, dumps(small_spec()).encode())
    assert facts == {"create": "0", "state": "0", "delete": "0"}, err
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        document = sum(counts.values())
        data = break_members(random.Random(f"{number}-{document}"), small_spec())
        what = f"CORRAL_FUZZ_SEED={number}, document {document}: {data[:1500]!r}"
        facts, err = create(world, bundle, data)
        check_words(int(facts["create"]), err, what)
        assert facts == {"create": facts["create"], "state": facts["create"], "delete": "0"}, f"{what}\n{facts}\n{err}"
        counts[facts["create"]] += 1
    print(f"CORRAL_FUZZ_SEED={number}: {counts['0']} documents made containers, {counts['1']} were refused")
