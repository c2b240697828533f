"""HTTP towards registries: challenges, patience, what messages may show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument, PermissionDenied, Unavailable
from corral.image.auth import Challenge, parse_challenges
from corral.image.credentials import Credentials
from corral.image.http import Client, Patience, Request, Transient, persist, shown
from corral.image.progress import Cancel, Cancelled, Meter, Progress
from corral.image.registry import Registry
from corral.image.registry_errors import explain
from unit.image.conftest import PATIENCE
from unit.image.fake_registry import Answer, FakeRegistry, make_image


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a:pull,push"',
            [Challenge("bearer", {"realm": "https://a/t?x=1,2", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        ('Basic realm="a", Bearer realm=b', [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        (r'Basic realm="a \"b\""', [Challenge("basic", {"realm": 'a "b"'})]),
        ("Negotiate, Basic realm=x", [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(header: str, challenges: list[Challenge]) -> None:
    """Several challenges in one header, quoted commas, escapes."""
    assert parse_challenges(header) == challenges


@given(st.text(max_size=60))
def test_any_challenge_header_is_read(header: str) -> None:
    """No header of a hostile registry ends in an exception or a loop."""
    parse_challenges(header)


def test_url_is_shown_without_its_secrets() -> None:
    """User, query and fragment are left out of messages."""
    assert shown("https://me:pw@h.x:5000/v2/a?sig=1#f") == "https://h.x:5000/v2/a"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors": [{"code": "DENIED", "message": "No.\\nReally"}]}', "denied: no. really"),
        (b'{"errors": []}', ""),
        (b"<html>", ""),
        (b"[1]", ""),
        (b'{"errors": [{"message": "' + b"x" * 999 + b'"}]}', "x" * 300),
    ],
)
def test_registrys_words_are_one_short_line(body: bytes, words: str) -> None:
    """What a registry says is shown printable and bounded, and not at all in a form that nobody knows."""
    assert explain(body) == words


def test_persist_waits_out_what_passes() -> None:
    """Transient errors are tried again, the last one is raised; others are raised at once."""
    calls: list[int] = []

    def act() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise Transient("busy")
        return "done"

    assert persist(act, Patience(3, 0.001), Cancel(), "x") == "done"
    calls.clear()
    with pytest.raises(Transient):
        persist(act, Patience(2, 0.001), Cancel(), "x")
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        persist(act, Patience(2, 0.001), cancel, "x")


def test_retry_after_is_honoured_within_bounds(registry: FakeRegistry) -> None:
    """A busy registry says how long to wait; a date or nonsense is the usual wait."""
    client = Client(is_insecure=True)
    registry.faults["GET", "/v2/"] = [Answer(429, {"Retry-After": text}) for text in ("7", "soon", "9" * 9)]
    from corral.image.http import status_error

    waits = []
    for _ in range(3):
        error = status_error(client.send(Request("GET", f"http://{registry.host}/v2/")), "x", explain)
        assert isinstance(error, Transient)
        waits.append(error.wait_s)
    client.close()
    assert waits == [7.0, 0.0, 0.0]


@pytest.mark.parametrize("realm", ["", "ftp://h/x", "not a url", "//h/x"])
def test_token_server_must_be_a_url(registry: FakeRegistry, realm: str) -> None:
    """A challenge whose realm leads nowhere is refused by name."""
    registry.add("a", "1", make_image())
    registry.faults["GET", "/v2/a/manifests/1"] = [Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})] * 5
    with_registry = Registry(registry.host, is_insecure=True, patience=PATIENCE)
    with pytest.raises(InvalidArgument, match="is not a URL"):
        with_registry.manifest("a", "1")
    with_registry.close()


@pytest.mark.parametrize("answer", [{}, {"token": ""}, {"token": 7}, {"token": "a\r\nX-Evil: 1"}])
def test_answer_without_a_token_is_refused(registry: FakeRegistry, answer: dict[str, object]) -> None:
    """A token becomes part of a header, so it must be able to."""
    registry.add("a", "1", make_image())
    registry.scheme, registry.token_answer = "bearer", answer
    with_registry = Registry(registry.host, is_insecure=True, patience=PATIENCE)
    with pytest.raises(PermissionDenied, match="holds no token"):
        with_registry.manifest("a", "1")
    with_registry.close()


def test_token_is_fetched_once_per_scope_and_anew_when_it_is_refused(registry: FakeRegistry) -> None:
    """Tokens are kept as long as they live; one that the registry no longer takes is replaced."""
    registry.add("a", "1", make_image())
    registry.scheme = "bearer"
    client = Registry(registry.host, Credentials("user", ""), is_insecure=True, patience=PATIENCE)
    client.manifest("a", "1")
    client.manifest("a", "1")
    assert len(registry.requests("GET", "/token")) == 1
    registry.token_answer = {"access_token": "n3w", "token": "n3w"}
    client.manifest("a", "1")
    assert len(registry.requests("GET", "/token")) == 2
    client.close()


def test_challenge_that_goes_on_is_given_up(registry: FakeRegistry) -> None:
    """A registry that refuses the very token it gave gets no third request."""
    registry.add("a", "1", make_image())
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'}
    registry.faults["GET", "/v2/a/manifests/1"] = [Answer(401, challenge)] * 9
    client = Registry(registry.host, is_insecure=True, patience=PATIENCE)
    with pytest.raises(PermissionDenied):
        client.manifest("a", "1")
    assert len(registry.requests("GET", "/manifests/1")) == 2
    client.close()


def test_endless_answer_is_cut_off(registry: FakeRegistry) -> None:
    """A token answer of many megabytes is not read to its end."""
    registry.add("a", "1", make_image())
    registry.scheme = "bearer"
    registry.faults["GET", "/token"] = [Answer(body=b" " * (2 << 20))]
    client = Registry(registry.host, is_insecure=True, patience=PATIENCE)
    with pytest.raises(InvalidArgument, match="larger than"):
        client.manifest("a", "1")
    client.close()


def test_connection_that_breaks_is_tried_again(registry: FakeRegistry) -> None:
    """A manifest that ends early is asked for once more, and given up after so many tries."""
    made = make_image()
    registry.add("a", "1", made)
    registry.faults["GET", "/v2/a/manifests/1"] = [Answer(body=made.manifest, cut=10)] * 2
    client = Registry(registry.host, is_insecure=True, patience=PATIENCE)
    assert client.manifest("a", "1").data == made.manifest
    registry.faults["GET", "/v2/a/manifests/1"] = [Answer(body=made.manifest, cut=10)] * 3
    with pytest.raises(Unavailable):
        client.manifest("a", "1")
    client.close()


def test_proxy_of_the_environment_is_used(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy and no_proxy count, as for every other program."""
    monkeypatch.setenv("http_proxy", f"http://{registry.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    client = Client(is_insecure=True)
    assert client.send(Request("GET", "http://registry.invalid/v2/")).status in (200, 404)
    client.close()
    assert registry.seen[-1].headers["Host"] == "registry.invalid"


def test_meter_reports_each_change_and_a_rate() -> None:
    """A change of state is always told, steps in between at most ten a second."""
    seen: list[Progress] = []
    meter = Meter(Progress("d", "layer", "waiting", 0, 100), seen.append)
    for done in range(0, 100, 10):
        meter.report("moving", done)
    meter.report("done", 100)
    assert [item.state for item in seen] == ["moving", "done"]
    assert (seen[-1].done_bytes, seen[-1].total_bytes, seen[-1].rate) == (100, 100, 0.0)
