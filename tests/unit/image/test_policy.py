"""policy.json: which images may be taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corral.errors import CorralError, InvalidArgument, PermissionDenied, Unsupported
from corral.image.policy import Policy, load_policy
from corral.image.pull import pull
from corral.image.reference import parse_reference
from corral.image.store import ImageStore

ACCEPT, REJECT, SIGNED = ([{"type": kind}] for kind in ("insecureAcceptAnything", "reject", "signedBy"))


def answer(policy: Policy, name: str) -> str:
    """What comes of a pull."""
    try:
        policy.check_pull(parse_reference(name))
    except CorralError as exc:
        return exc.kind
    return "taken"


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("docker.io/library/alpine:3.19", "alpine:3.19"),
        ("docker.io/library/alpine", "alpine:3.19"),
        ("docker.io/library", "alpine"),
        ("docker.io", "docker.io/someone/thing"),
        ("*.example.com", "registry.eu.example.com/a/b"),
        ("registry.example.com:5000", "registry.example.com:5000/a/b:1"),
        ("", "quay.io/a/b"),
    ],
)
def test_scope_that_fits_counts_more_than_the_default(scope: str, name: str) -> None:
    """Exact names, repositories, what is above them, registries, domains, the transport: in both directions."""
    assert answer(Policy("p", {"default": REJECT, "transports": {"docker": {scope: ACCEPT}}}), name) == "taken"
    assert (
        answer(Policy("p", {"default": ACCEPT, "transports": {"docker": {scope: REJECT}}}), name) == "permission-denied"
    )


def test_most_specific_scope_counts() -> None:
    """As containers-policy.json(5) says; a scope that only looks alike does not."""
    scopes = {"docker.io": REJECT, "docker.io/library": ACCEPT, "docker.io/library/bad": REJECT, "quay.io/lib": ACCEPT}
    policy = Policy("p", {"default": REJECT, "transports": {"docker": scopes}})
    found = [answer(policy, name) for name in ("good", "bad:1", "docker.io/other/x", "quay.io/library/x")]
    assert found == ["taken", "permission-denied", "permission-denied", "permission-denied"]


def test_signature_that_is_wanted_is_no_acceptance() -> None:
    """It cannot be verified, so the image is refused, whatever stands beside it."""
    policy = Policy("/p", {"default": [*ACCEPT, {"type": "sigstoreSigned", "keyPath": "/k"}]})
    assert policy.wants_signatures
    with pytest.raises(Unsupported) as caught:
        policy.check_pull(parse_reference("alpine"))
    assert str(caught.value) == (
        "pull docker.io/library/alpine:latest: the image policy wants a signature, and signatures cannot be verified"
    )
    assert str(caught.value.hint).startswith("/p: default; ")


def test_archives_are_of_their_own_transports(tmp_path: Path) -> None:
    """Paths of OCI archives and layouts are scopes; a stream has none."""
    path = str(tmp_path / "in" / "a.tar")
    policy = Policy("p", {"default": ACCEPT, "transports": {"oci-archive": {str(tmp_path): REJECT}}})
    policy.check_load("docker-archive", path)
    policy.check_load("oci-archive", "")
    with pytest.raises(PermissionDenied):
        policy.check_load("oci-archive", path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"default": []},
        {"default": [{"type": "acceptAll"}]},
        {"default": ACCEPT, "transport": {}},
        {"default": ACCEPT, "transports": {"docker": ACCEPT}},
        {"default": ACCEPT, "transports": {"docker": {"": {}}}},
    ],
)
def test_policy_that_is_not_understood_is_an_error(content: Any) -> None:
    """Not a policy that lets all pass."""
    with pytest.raises(InvalidArgument, match=r"^read p: "):
        Policy("p", content)


def test_users_own_file_counts_and_holds_for_pulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$HOME/.config/containers/policy.json before the system's; a pull that it rejects asks no registry."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".config" / "containers"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text(json.dumps({"default": REJECT}))
    assert load_policy().path == str(folder / "policy.json")
    with pytest.raises(PermissionDenied, match="the image policy rejects it"):
        pull(ImageStore(str(tmp_path / "images")), "registry.invalid/a/b:1")
    (folder / "policy.json").write_text("{")
    with pytest.raises(InvalidArgument, match=r"policy\.json"):
        load_policy()
