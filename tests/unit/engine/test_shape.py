"""corral.engine.shape: definitions of programs that send anything."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.engine import shape
from corral.engine.places import Places
from corral.engine.verbs.create import create
from corral.engine.verbs.networks import network_create
from corral.engine.verbs.pods import pod_create
from corral.engine.verbs.update import update
from corral.errors import InvalidArgument

GOOD: dict[str, Any] = {"root": {"kind": "host"}, "process": {"command": ["true"]}, "network": {"mode": "none"}}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"process": {"command": [1]}}, "process.command"),
        ({"cgroup_parent": "/a/../../b"}, "cgroup_parent is '/a/../../b', which has a '..' component"),
        ({"hostname": "a" * 65}, "hostname has more than the 64 bytes"),
        ({"domainname": "a" * 65}, "domainname has more than the 64 bytes"),
        ({"resources": {"memory_bytes": -5}}, "resources.memory_bytes is -5"),
        ({"resources": {"pids": 1 << 70}}, "resources.pids is 1180591620717411303424"),
        ({"shm_bytes": -1}, "shm_bytes is -1"),
        ({"storage_bytes": 1 << 63}, "storage_bytes is 9223372036854775808"),
        ({"process": {"command": "true"}}, "process.command"),
        ({"root": {"kind": "rootfs", "path": 5}}, "root.path"),
        ({"id": "../../x"}, "the id '../../x'"),
        ({"id": 5}, "id is not"),
        ({"name": "a\0b"}, "name is not"),
        ({"labels": {"a": 1}}, "labels"),
        ({"mounts": {}}, "mounts is not"),
        ({"mounts": [5]}, r"mounts\[0\] is not an object"),
        ({"mounts": [{"type": "bind"}]}, r"mounts\[0\]"),
        ({"network": []}, "network is not"),
        ({"resources": {"memory_bytes": "64m"}}, "resources.memory_bytes is not a whole number"),
        ({"resources": {"pids": True}}, "resources.pids is not a whole number"),
        ({"restart": {"policy": "sometimes"}}, "restart.policy is 'sometimes'"),
        ({"network": {"mode": "none", "ports": [{"host_port": "80"}]}}, r"network.ports\[0\].host_port is not"),
        ({"namespaces": {"uid_map": [[0, 1]]}}, "namespaces.uid_map is not a list of"),
        (
            {"process": {"command": ["true"], "stop_timeout_s": float("nan")}},
            "process.stop_timeout_s is not a number of",
        ),
        ({"health": {"command": ["true"], "interval_s": float("inf")}}, "health.interval_s is not a number of seconds"),
        ({"health": {"command": ["true"], "timeout_s": 1e300}}, "health.timeout_s is not a number of seconds"),
        ({"process": {"command": ["true"], "umask": "rwx"}}, "process.umask is 'rwx', which is no octal mode"),
        ({"process": {"command": ["true"], "umask": "0o22"}}, "process.umask is '0o22', which is no octal mode"),
        ({"process": {"command": ["true"], "stop_signal": "SIGNO"}}, "read signal 'SIGNO': there is no such signal"),
        ({"pid_file": "../x"}, "pid_file is '../x', which is no absolute path"),
        ({"root": {"kind": "rootfs", "path": "rootfs"}}, "root.path is 'rootfs', which is no absolute path"),
    ],
)
def test_a_definition_is_refused_when_a_member_has_another_shape(
    places: Places, members: dict[str, Any], why: str
) -> None:
    """Nothing is stored that a later look would stumble over."""
    with pytest.raises(InvalidArgument, match=why):
        create(places, {**GOOD, **members})


@pytest.mark.parametrize(
    ("members", "where", "meant"),
    [
        ({"resource": {"pids": 5}}, "resource", "resources"),
        ({"resources": {"memory_byte": 5}}, "resources.memory_byte", "memory_bytes"),
        ({"process": {"command": ["true"], "comand": []}}, "process.comand", "command"),
        ({"mounts": [{"type": "tmpfs", "target": "/x", "option": ["ro"]}]}, "mounts[0].option", "options"),
        ({"network": {"mode": "none", "attachments": [{"nam": "x"}]}}, "network.attachments[0].nam", "name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_member_that_there_is_not_is_refused_with_the_nearest_name(
    places: Places, members: dict[str, Any], where: str, meant: str
) -> None:
    """A misspelt limit would be no limit."""
    with pytest.raises(InvalidArgument) as caught:
        create(places, {**GOOD, **members})
    assert str(caught.value) == f"create container: unknown member {where}"
    assert caught.value.hint == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda places: pod_create(places, {"nam": "p"}), "create pod: unknown member nam"),
        (lambda places: pod_create(places, {"share": "net"}), "create pod: share is not a list of texts"),
        (lambda places: network_create(places, {"name": "n", "subnet": ["10.0.0.0/8"]}), "unknown member subnet"),
        (lambda places: network_create(places, {"name": "n", "internal": "no"}), "internal is not true or false"),
        (lambda places: update(places, "u", {"resources": {"memory": 5}}), "unknown member resources.memory"),
        (lambda places: update(places, "u", {"restart": {"policy": "alway"}}), "restart.policy is 'alway'"),
    ],
    ids=["pod", "pod's shape", "network", "network's shape", "update", "update's choice"],
)
def test_requests_are_refused_as_definitions_are(places: Places, call: Callable[[Places], object], why: str) -> None:
    """Pods, networks and updates take no member that they do not know either."""
    create(places, {**GOOD, "name": "u"})
    with pytest.raises(InvalidArgument, match=why):
        call(places)


def types_of(path: str) -> dict[str, dict[str, str]]:
    """TypedDict -> member -> annotation, inherited ones too, of a module that has them for the type checker alone."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.ClassDef):
            members = {}
            for base in node.bases:
                members.update(found.get(ast.unparse(base), {}))
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    members[ast.unparse(item.target)] = ast.unparse(item.annotation)
            found[node.name] = members
    return found


def test_what_is_accepted_is_what_the_definition_may_have() -> None:
    """Each member of ``definition.py`` is known to the check, with the same choices, and none besides."""
    source = Path(shape.__file__)
    types = types_of(str(source.parents[1] / "image" / "config.py")) | types_of(str(source.with_name("definition.py")))
    health = types_of(str(source.parents[1] / "image" / "config.py"))["HealthCheck"]
    types["Health"] = {**health, **types["Health"]}

    def expected(annotation: str) -> object:
        plain = annotation.removeprefix("NotRequired[").removesuffix("]") if "NotRequired" in annotation else annotation
        if plain.startswith("list[") and plain[5:-1] in types:
            return [{name: expected(item) for name, item in types[plain[5:-1]].items()}]
        if plain in types:
            return {name: expected(item) for name, item in types[plain].items()}
        return tuple(ast.literal_eval(f"({plain[8:-1]},)")) if plain.startswith("Literal[") else PLAIN[plain]

    throttle = {"kind": ("read_bps", "write_bps", "read_iops", "write_iops")}
    throttle |= dict.fromkeys(("major", "minor", "rate"), "a whole number")  # type: ignore[arg-type]
    wanted = {name: expected(item) for name, item in types["Definition"].items()}
    assert isinstance(wanted["resources"], dict)
    wanted["resources"]["device_limits"] = [throttle]
    assert wanted == shape._DEFINITION


PLAIN = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number of seconds",
    "bool": "true or false",
    "list[str]": "a list of texts",
    "dict[str, str]": "an object of texts",
    "dict[str, object]": "an object",
    "list[tuple[int, int, int]]": "a list of [inside, outside, size]",
    "list[dict[str, object]]": "checked apart",
}
