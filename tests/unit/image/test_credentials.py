"""Credentials: where they are found, and that they stay secret."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from corral.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from corral.image.credentials import Credentials, find_credentials, remove_credentials, store_credentials
from corral.image.login import logged_in_user, login, logout, registry_host
from corral.image.pull import Access
from corral.image.store import ImageStore
from unit.image.conftest import PATIENCE
from unit.image.fake_registry import FakeRegistry, make_image

SECRET = "s3cr3t-w0rd"


def entry(user: str, secret: str = SECRET) -> dict[str, str]:
    """One entry of ``auths``."""
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


@pytest.fixture
def authfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that REGISTRY_AUTH_FILE names."""
    path = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    return path


def write_helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A credential helper named ``test`` on PATH."""
    path = folder / "docker-credential-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_most_specific_entry_counts(authfile: Path) -> None:
    """A repository's own entry is taken before its team's and its host's."""
    auths = {"h.x/team/app": entry("app"), "h.x/team": entry("team"), "h.x": entry("host"), "y.x/v1": entry("no")}
    authfile.write_text(json.dumps({"auths": auths}))
    found = [find_credentials("h.x", repository) for repository in ("team/app", "team/other", "else", "")]
    assert [item.username for item in found if item] == ["app", "team", "host", "host"]
    assert find_credentials("y.x", "z") is None


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io"])
def test_docker_hub_is_known_by_its_old_names(authfile: Path, key: str) -> None:
    """`docker login` writes the address of version 1."""
    authfile.write_text(json.dumps({"auths": {key: entry("me")}}))
    assert find_credentials("docker.io", "library/alpine") == Credentials("me", SECRET)


def test_files_are_read_in_podmans_order(tmp_path: Path) -> None:
    """The session's file, the user's, Docker's."""
    home = Path(os.environ["HOME"])
    files = [home / "run/containers/auth.json", home / ".config/containers/auth.json", home / ".docker/config.json"]
    for number, path in enumerate(files):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {"h.x": entry(str(number))}}))
    found = []
    for path in files:
        credentials = find_credentials("h.x", "a")
        found.append(credentials.username if credentials else "")
        path.unlink()
    assert found == ["0", "1", "2"]
    assert find_credentials("h.x", "a") is None


def test_identity_token_replaces_a_password(authfile: Path) -> None:
    """An identity token is no password."""
    authfile.write_text(json.dumps({"auths": {"h.x": {**entry("me"), "identitytoken": "T"}}}))
    found = find_credentials("h.x", "a")
    assert found is not None
    assert (found.is_identity_token, found.secret) == (True, "T")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": 7}', '{"auths": {"h.x": {"auth": "%%%"}}}', '{"auths": {"h.x": {"auth": "YWJj"}}}']
)
def test_damaged_file_is_named_and_not_quoted(authfile: Path, text: str) -> None:
    """The error names the file; what is in it is nobody's business."""
    authfile.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        find_credentials("h.x", "a")
    assert str(authfile) in caught.value.message
    assert "%%%" not in f"{caught.value.message} {caught.value.hint}"


def test_secrets_are_not_shown() -> None:
    """Neither repr nor str of credentials has the secret."""
    shown = f"{Credentials('me', SECRET)!r} {Access(Credentials('me', SECRET))!r}"
    assert SECRET not in shown


@pytest.mark.parametrize("config", [{"credHelpers": {"h.x": "test"}}, {"credsStore": "test"}])
def test_helper_is_asked_for_its_host(
    authfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, object]
) -> None:
    """A helper gets the host on its standard input."""
    write_helper(tmp_path, monkeypatch, 'read host; echo "{\\"Username\\": \\"$1-$host\\", \\"Secret\\": \\"x\\"}"')
    authfile.write_text(json.dumps(config))
    assert find_credentials("h.x", "a") == Credentials("get-h.x", "x")


def test_helper_that_knows_nothing_is_no_error(authfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol's words for it make None."""
    write_helper(tmp_path, monkeypatch, "echo 'credentials not found in native keychain'; exit 1")
    authfile.write_text(json.dumps({"credsStore": "test"}))
    assert find_credentials("h.x", "a") is None


@pytest.mark.parametrize(
    ("script", "words"), [(f"echo {SECRET} >&2; exit 3", "exit status 3"), (f"echo {SECRET}; exit 3", "exit status 3")]
)
def test_helper_that_breaks_is_named_without_its_words(
    authfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    """What a helper prints may be a secret, so it is not shown."""
    write_helper(tmp_path, monkeypatch, script)
    authfile.write_text(json.dumps({"credsStore": "test"}))
    with pytest.raises(Unavailable, match=words) as caught:
        find_credentials("h.x", "a")
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", ""])
def test_helper_is_only_ever_a_name(authfile: Path, name: str) -> None:
    """A helper is found on PATH, never by a path from a file."""
    authfile.write_text(json.dumps({"credHelpers": {"h.x": name}} if name else {"credsStore": "no-such-helper-here"}))
    with pytest.raises((InvalidArgument, Unavailable), match="credential"):
        find_credentials("h.x", "a")


def test_login_is_remembered_for_the_owner_only(authfile: Path) -> None:
    """The file has mode 0600, keeps what else is in it, and logout takes the entry away."""
    authfile.write_text(json.dumps({"auths": {"other.x": entry("o")}, "x": 1}))
    assert store_credentials("h.x", Credentials("me", SECRET)) == str(authfile)
    assert stat.S_IMODE(authfile.stat().st_mode) == 0o600
    assert find_credentials("h.x", "any") == Credentials("me", SECRET)
    remove_credentials("h.x")
    assert json.loads(authfile.read_text()) == {"auths": {"other.x": entry("o")}, "x": 1}
    with pytest.raises(NotFound, match="not logged in"):
        remove_credentials("h.x")


def test_login_tries_the_credentials_first(authfile: Path, registry: FakeRegistry) -> None:
    """Wrong credentials are refused and not written down."""
    registry.scheme, registry.password = "basic", SECRET
    access = Access(is_verified=False, patience=PATIENCE)
    with pytest.raises(PermissionDenied, match="user name or password is wrong"):
        login(registry.host, Credentials("user", "wrong"), access=access)
    assert not authfile.exists()
    login(f"http://{registry.host}/", Credentials("user", SECRET), access=access)
    assert logged_in_user(registry.host) == "user"
    logout(registry.host)
    assert logged_in_user(registry.host) == ""


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_pull_uses_the_credentials_of_the_file(
    store: ImageStore, registry: FakeRegistry, authfile: Path, access: Access, scheme: str
) -> None:
    """Basic authentication, and tokens from the server that the registry names."""
    registry.scheme, registry.password = scheme, SECRET
    registry.add("a", "1", make_image())
    with pytest.raises(PermissionDenied) as caught:
        store.pull(f"{registry.host}/a:1", access=access)
    assert "corral login" in caught.value.hint
    authfile.write_text(json.dumps({"auths": {registry.host: entry("user")}}))
    assert store.pull(f"{registry.host}/a:1", access=access).names == [f"{registry.host}/a:1"]


def test_identity_token_is_exchanged(store: ImageStore, registry: FakeRegistry, authfile: Path, access: Access) -> None:
    """An identity token goes to the token server as a refresh token, in the body."""
    registry.scheme, registry.password = "bearer", SECRET
    registry.add("a", "1", make_image())
    authfile.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "REFRESH"}}}))
    store.pull(f"{registry.host}/a:1", access=access)
    (request,) = registry.requests("POST", "/token")
    assert b"refresh_token=REFRESH" in request.body
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("text", ["h.x/a", "plain", "a b.c", "https://h.x/v2/"])
def test_host_to_log_in_at_must_be_one(text: str) -> None:
    """A repository is no host."""
    with pytest.raises(InvalidArgument):
        registry_host(text)


def test_host_may_be_written_as_a_url_or_left_out() -> None:
    """As people copy it from a browser; nothing means Docker Hub."""
    found = [registry_host(text) for text in ("", "https://h.x/", "index.docker.io")]
    assert found == ["docker.io", "h.x", "docker.io"]
