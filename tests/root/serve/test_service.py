"""The service with real containers: what clients get, and what its death changes (nothing)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from root.engine.conftest import DEADLINE_S, eventually
from root.serve.conftest import Service, children_of, is_alive

pytestmark = pytest.mark.requires("root")


def _request(service: Service, *command: str, **members: Any) -> dict[str, Any]:
    return service.engine.request(*command, **members)


def test_run_over_http_returns_the_containers_id_and_its_end_is_true(service: Service) -> None:
    """POST /v1/run starts a container; GET .../wait answers when it has ended, with its own exit code."""
    client = service.client()
    status, made = client.post("run", request=_request(service, "sh", "-c", "echo out; exit 7"))
    assert (200, service.engine.places.record(made["id"]).rsplit("/", 1)[1]) == (status, made["id"])
    status, ended = client.get(f"/v1/containers/{made['id']}/wait")
    assert (200, 7, "observed") == (status, ended["exit"]["code"], ended["exit"]["source"])
    assert [b"out"] == service.engine.output(made["id"])


def test_the_command_line_works_through_the_service_with_the_same_results(service: Service) -> None:
    """`corral run --rm` in the foreground: the program's output, input and exit code, and the service did the work."""
    done = service.corral("run", "--rm", "-i", "--network", "none", "host", "--", "sh", "-c", "cat; exit 3", input="in")
    assert (3, "in", "") == (done.returncode, done.stdout, done.stderr)
    service.end()
    assert service.process.returncode == 0
    assert [] == service.engine.call("ps", is_all=True)


def test_a_service_of_another_version_is_not_used(service: Service) -> None:
    """After an upgrade the running service does nothing for the new command, which says so and works without it."""
    places = service.engine.places
    script = (
        "import sys, corral; corral.__version__ = '9.9'; from corral.cli.main import main; "
        f"sys.exit(main(['--store', {places.store!r}, '--run-dir', {places.run!r}, *sys.argv[1:]]))"
    )
    words = [sys.executable, "-c", script, "create", "--name", "made", "--network", "none", "host", "true"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=True, env=env)
    warning, hint = done.stderr.splitlines()
    assert warning.startswith("warning: call create: the service is Corral ")
    assert warning.endswith(", its client 9.9: not used")
    assert "start it again" in hint
    assert service.engine.call("inspect", "made")["id"] == done.stdout.strip()


def test_a_service_that_was_told_to_end_leaves_containers_running(service: Service) -> None:
    """SIGTERM and SIGKILL of the service change nothing for a container; without it all goes on."""
    first = service.engine.run("sleep", "1000")
    service.end()
    assert "running" == service.engine.look(first).status
    service.begin()
    service.wait_ready()
    _, made = service.client().post("run", request=_request(service, "sleep", "1000"))
    planners = children_of(service.process.pid)
    service.end(signal.SIGKILL)
    assert ["running", "running"] == [service.engine.look(item).status for item in (first, made["id"])]
    eventually(lambda: not any(is_alive(pid) for pid in planners))
    ended = service.engine.call("stop", made["id"], timeout_s=0)["exit"]
    assert (137, "observed") == (ended["code"], ended["source"])


def test_an_end_is_followed_up_by_the_service_and_by_no_command(service: Service) -> None:
    """The service attends ends: a container with auto_remove is gone, and the keeper ran nothing."""
    container = service.engine.run("sh", "-c", "exit 0", auto_remove=True)
    eventually(lambda: not Path(service.engine.places.container(container)).exists())
    eventually(lambda: "remove" in service.engine.events(container))


def test_ends_are_followed_up_without_the_service_after_it_was_killed(service: Service) -> None:
    """S4.4: whoever attended is gone: the keeper has the command run, and --rm holds."""
    container = service.engine.run("sleep", "1000", auto_remove=True)
    service.end(signal.SIGKILL)
    service.engine.call("kill", container)
    eventually(lambda: not Path(service.engine.places.container(container)).exists())


def test_a_second_service_of_a_store_is_refused(service: Service) -> None:
    """One at a time: the second says so and ends with an error; the first goes on."""
    second = service.corral("serve")
    assert (125, True) == (second.returncode, "another service of this store" in second.stderr)
    assert 200 == service.client().get("/healthz")[0]


def test_a_client_that_goes_before_the_start_takes_the_container_with_it(service: Service) -> None:
    """What was made to be started by its client, and was not, does not stay."""
    client = service.client()
    request = _request(service, "sleep", "1000")
    status, made = client.post("run", request=request, is_created_only=True)
    assert (200, "created") == (status, service.engine.look(made["id"]).status)
    client.close()
    eventually(lambda: not Path(service.engine.places.container(made["id"])).exists())


def test_errors_are_the_engines_with_kind_hint_and_status(service: Service) -> None:
    """A verb's error arrives as it was raised: 404 for what is not there, 400 for what makes no sense."""
    client = service.client()
    status, body = client.post("start", reference="nobody")
    assert (404, "not-found") == (status, body["error"]["kind"])
    assert "nobody" in body["error"]["message"]
    status, body = client.post("start", reference=7)
    assert (400, "call start: 'reference' is int") == (status, body["error"]["message"])
    status, body = client.post("launch")
    assert (404, "call 'launch': no such verb") == (status, body["error"]["message"])
    done = service.corral("start", "nobody")
    assert (True, True) == (done.returncode != 0, "nobody" in done.stderr)


def test_events_flow_to_a_client_and_resume_by_number(service: Service) -> None:
    """S4.10: a subscriber that comes back with the last number it saw misses nothing."""
    container = service.engine.run("true")
    service.engine.wait(container)
    status, events = service.client().get("/v1/events")
    assert 200 == status
    numbers = [event["n"] for event in events]
    assert sorted(numbers) == numbers
    start = next(event["n"] for event in events if event["action"] == "start")
    client = service.client()
    client.request("GET", f"/v1/events?follow=1&after={start - 1}")
    answer = client.getresponse()
    first = json.loads(answer.readline())
    assert (start, "start") == (first["n"], first["action"])
    client.close()


def test_a_subscriber_that_does_not_read_holds_nobody_up(service: Service) -> None:
    """S4.10: containers live and end while a subscriber sits on a full socket."""
    slow = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    slow.connect(service.path)
    slow.sendall(b"GET /v1/events?follow=1&after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(3):
        container = service.engine.run("true", labels={"big": "x" * 60000})
        assert 0 == service.engine.wait(container)["code"]
    assert 200 == service.client().get("/healthz")[0]
    slow.close()


def test_logs_follow_until_the_end_of_the_run(service: Service) -> None:
    """GET .../logs?follow gives what is written, and ends with the run."""
    container = service.engine.run("sh", "-c", "echo one; echo two >&2")
    client = service.client()
    client.request("GET", f"/v1/containers/{container}/logs?follow=1")
    lines = [json.loads(line) for line in client.getresponse()]
    assert {("stdout", "one"), ("stderr", "two")} == {(line["stream"], line["text"]) for line in lines}


def test_metrics_show_containers_and_what_they_use(service: Service) -> None:
    """/metrics is Prometheus' format, with a series for each container that lives."""
    container = service.engine.run("sleep", "1000", resources={"memory_bytes": 64 << 20})
    client = service.client()
    client.request("GET", "/metrics")
    text = client.getresponse().read().decode()
    assert 'corral_containers{status="running"} 1.0' in text
    assert "corral_cleanup_pending 0.0" in text
    limits = [line for line in text.splitlines() if line.startswith("corral_container_memory_limit_bytes{")]
    assert [float(64 << 20)] == [float(line.rsplit(" ", 1)[1]) for line in limits if container[:12] in line]


def test_the_openapi_document_lists_every_verb_with_its_parameters(service: Service) -> None:
    """/openapi.json is what the service takes."""
    status, document = service.client().get("/openapi.json")
    assert (200, "3.1.0") == (status, document["openapi"])
    stop = document["paths"]["/v1/stop"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert ["reference"] == stop["required"]
    assert {"type": ["number", "null"], "default": None} == stop["properties"]["timeout_s"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"{" * (5 << 20),
        b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\n[[[[",
    ],
    ids=["nonsense", "version", "negative", "two-lengths", "long-head", "long-body", "no-json"],
)
def test_what_is_no_request_is_refused_and_the_service_goes_on(service: Service, data: bytes) -> None:
    """A client that sends nonsense or too much is told so or dropped, never answered with a result."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(DEADLINE_S)
        client.connect(service.path)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    assert answer[9:10] in (b"4", b"5", b"")
    assert 200 == service.client().get("/healthz")[0]


def test_another_user_is_not_served(service: Service) -> None:
    """The socket is its user's alone, and who gets past the file's mode is still asked who they are."""
    os.chmod(service.path, 0o666)
    for path in (service.engine.places.run, service.engine.places.store):
        os.chmod(path, 0o755)
    directory = Path(service.path)
    opened = [parent for parent in directory.parents if not parent.stat().st_mode & 0o001]
    modes = {parent: parent.stat().st_mode for parent in opened}
    code = (
        "import os,socket,sys;os.setgroups([]);os.setgid(65534);os.setuid(65534);"
        "s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
        "s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');print(len(s.recv(100)))"
    )
    try:
        for parent in opened:
            parent.chmod(0o755)
        done = subprocess.run([sys.executable, "-c", code, service.path], capture_output=True, text=True, check=False)
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode & 0o7777)
    assert "0\n" == done.stdout or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr


def test_requests_follow_each_other_on_one_connection(service: Service) -> None:
    """HTTP keep-alive: a client asks as often as it likes."""
    client = service.client()
    assert [200] * 20 == [client.get("/healthz")[0] for _ in range(20)]
    assert isinstance(client, http.client.HTTPConnection)
