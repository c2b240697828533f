"""S4.4: a service that is killed at any step of a request; the next service finishes or undoes what it was at."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

from corral.engine import names
from root.engine.conftest import DEADLINE_S, Engine, eventually
from root.engine.test_crash import failpoints
from root.serve.conftest import Service

pytestmark = pytest.mark.requires("root")

CASES = [
    *(("run", point) for point in failpoints("create.", "start.")),
    *(("stop", point) for point in failpoints("stop.")),
    *(("rm", point) for point in failpoints("rm.", "teardown.", "settle.")),
    *(("restart", point) for point in failpoints("restart.")),
    *(("rename", point) for point in failpoints("rename.")),
    *(("pod_create", point) for point in failpoints("pod.named", "pod.written")),
]


def body(engine: Engine, verb: str, container: str) -> dict[str, Any]:
    """What the verb is asked with."""
    bodies: dict[str, dict[str, Any]] = {
        "run": {"request": engine.request("sleep", "1000", name="it")},
        "stop": {"reference": container, "timeout_s": 0},
        "rm": {"reference": container, "force": True},
        "restart": {"reference": container, "timeout_s": 0},
        "rename": {"reference": container, "name": "that"},
        "pod_create": {"request": {"name": "site"}},
    }
    return bodies[verb]


def is_as_asked(engine: Engine, verb: str) -> bool:
    """What the verb was to bring about has come about."""
    name = "that" if verb == "rename" else "it"
    if verb in ("rm", "pod_create"):
        return names.owner_or_none(engine.places, name) is None
    wanted = "exited" if verb == "stop" else "running"
    return engine.look(names.find_id(engine.places, name)).status == wanted


@pytest.mark.parametrize(("verb", "point"), CASES, ids=[f"{verb}-{point}" for verb, point in CASES])
def test_s4_4_the_next_service_goes_on_when_one_was_killed_at_a_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, verb: str, point: str
) -> None:
    """Its client sees the connection end; the same request to the next service, or what it has done already, holds."""
    container = "" if verb in ("run", "pod_create") else engine.run("sleep", "1000", name="it")
    with monkeypatch.context() as ill:
        ill.setenv("CORRAL_FAILPOINT", f"engine:{point}:kill")
        first = Service(engine)
    try:
        first.wait_ready()
        client = first.client()
        with pytest.raises((OSError, http.client.HTTPException)):
            client.post(verb, **body(engine, verb, container))
        assert first.process.wait(DEADLINE_S) == -9
    finally:
        first.close()
    second = Service(engine)
    try:
        second.wait_ready()
        status, said = second.client().post(verb, **body(engine, verb, container))
        # Done by the one that died, or by this one before it was ready.
        assert status in (200, 404, 409), said
        if verb == "run" and status == 409:
            assert second.client().post("start", reference="it")[0] == 200
        eventually(lambda: is_as_asked(engine, verb))
        if verb == "pod_create":
            assert [row["name"] for row in engine.call("pod_ps")] == ["site"]
            engine.call("pod_rm", "site", force=True)
    finally:
        second.close()
