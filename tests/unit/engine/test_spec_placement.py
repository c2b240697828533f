"""S0.5: where a container is placed, and what limits it, depends on nothing but what was asked for that."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral.engine.spec import compile_spec, runtime_flags
from unit.engine.test_spec import definition, place

# Everything that has to do with placement is fixed; any of the rest may be there.
PLACED: dict[str, Any] = {
    "cgroup_parent": "/kubepods/pod1",
    "cgroup_manager": "cgroupfs",
    "resources": {"memory_bytes": 64 << 20, "pids": 100},
}
PROCESS: dict[str, st.SearchStrategy[Any]] = {
    "env": st.lists(st.just("A=b"), max_size=1),
    "user": st.sampled_from(["", "0", "1000:1000"]),
    "workdir": st.sampled_from(["/", "/tmp"]),
    "terminal": st.booleans(),
    "stdin": st.booleans(),
    "stdin_once": st.booleans(),
    "umask": st.just("0027"),
    "ulimits": st.just(["nofile=10:20"]),
    "stop_signal": st.just("SIGINT"),
    "stop_timeout_s": st.floats(0, 100),
}
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text("ab", min_size=1),
    "hostname": st.just("h"),
    "labels": st.just({"a": "b"}),
    "annotations": st.just({"org.systemd.property.CPUWeight": "1", "run.oci.delegate-cgroup": "x"}),
    "log": st.just({"driver": "json-file", "max_bytes": 10}),
    "restart": st.just({"policy": "always"}),
    "auto_remove": st.booleans(),
    "pid_file": st.just("/tmp/pid"),
    "sysctls": st.just({"net.core.somaxconn": "1"}),
    "shm_bytes": st.integers(1, 1 << 30),
    "health": st.just({"test": ["CMD", "true"]}),
    "mounts": st.just([{"type": "tmpfs", "target": "/t"}]),
}


def placement(config: Any) -> tuple[object, ...]:
    return config["linux"].get("cgroupsPath"), config["linux"]["resources"]


@given(
    st.fixed_dictionaries({}, optional=MEMBERS),
    st.fixed_dictionaries({"command": st.just(["true"])}, optional=PROCESS),
)
def test_s0_5_no_other_option_changes_place_driver_or_limits(members: dict[str, Any], process: dict[str, Any]) -> None:
    """Path, driver's flags and limits are the same, byte for byte, whichever other options are set."""
    plain = definition(**PLACED)
    full = definition(**PLACED, **members, process=process)
    assert placement(compile_spec(full, {}, place())) == placement(compile_spec(plain, {}, place()))
    assert runtime_flags(full) == runtime_flags(plain)
