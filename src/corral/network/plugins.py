"""Running one CNI plugin: a program, its configuration on standard input, its answer on standard output.

Source: CNI specification 1.0.0, section 2 "Execution Protocol", section 5 "Result types".
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from corral.errors import (
    CorralError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Timeout,
    Unavailable,
    Unsupported,
)
from corral.oci.json import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TIMEOUT_S", "find_plugin", "plugin_directories", "run_plugin"]

TIMEOUT_S = 60.0
_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/local/lib/cni")
# Plugins call iptables and modprobe, which a user's PATH may lack.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Source: CNI specification 1.0.0, "Error".
_KINDS: dict[int, type[CorralError]] = {
    1: Unsupported,
    2: Unsupported,
    3: FailedPrecondition,
    4: InvalidArgument,
    6: InvalidArgument,
    7: InvalidArgument,
    11: Unavailable,
}


def plugin_directories() -> list[str]:
    """Where plugins are looked for: CNI_PATH, else the places of distributions."""
    given = [item for item in os.environ.get("CNI_PATH", "").split(":") if item.startswith("/")]
    return given or list(_DIRECTORIES)


def find_plugin(kind: str, directories: Sequence[str]) -> str:
    """The program of the plugin ``kind``. Raises: InvalidArgument for no plain name; NotFound, with the remedy."""
    if "/" in kind or kind.startswith("."):
        raise InvalidArgument(f"run CNI plugin {kind!r}: not a plain name")
    for directory in directories:
        path = f"{directory}/{kind}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise NotFound(
        f"run CNI plugin {kind!r}: not in {', '.join(directories)}",
        hint="install the package containernetworking-plugins, or name their directory in CNI_PATH",
    )


def run_plugin(
    command: str,
    config: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    directories: Sequence[str],
    timeout_s: float = TIMEOUT_S,
    kept_fd: int = -1,
) -> dict[str, Any]:
    """Run the plugin ``config["type"]`` and return its answer, {} for none.

    ``variables``: CNI_CONTAINERID and the like. It is killed, with what it started, when ``timeout_s`` is over.
    ``kept_fd``: borrowed; the plugin inherits it.
    Raises: CorralError with the plugin's own words.
    """
    kind = str(config["type"])
    path = find_plugin(kind, directories)
    environment = {"PATH": _PATH, "CNI_COMMAND": command, "CNI_PATH": ":".join(directories), **variables}
    mark = os.environ.get("CORRAL_TEST_MARK")
    if mark:
        environment["CORRAL_TEST_MARK"] = mark
    shown = f"{command} by CNI plugin {kind!r} for network {config.get('name', '')!r}"
    try:
        process = subprocess.Popen(
            [path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
            pass_fds=(kept_fd,) if kept_fd >= 0 else (),
        )
    except OSError as exc:
        raise Unavailable(f"{shown}: {path}: {(exc.strerror or '').lower()}", path=path) from exc
    with process:
        try:
            output, errors = process.communicate(dumps(dict(config)).encode(), timeout=timeout_s)
        except BaseException as exc:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(exc, subprocess.TimeoutExpired):
                raise Timeout(f"{shown}: it did not end within {timeout_s:g} s") from exc
            raise
    try:
        return _answer(shown, process.returncode, output, errors)
    except Unsupported as exc:
        known = _versions(path, environment, timeout_s) if not exc.hint else ""
        if not known:
            raise
        asked = f"the network asks for cniVersion {config.get('cniVersion', '')!r}, the plugin knows {known}"
        raise Unsupported(exc.message, hint=asked) from exc


def _versions(path: str, environment: Mapping[str, str], timeout_s: float) -> str:
    """The versions of the specification that a plugin knows, "" if it does not say so."""
    try:
        done = subprocess.run(
            [path],
            input=b'{"cniVersion": "1.0.0"}',
            capture_output=True,
            env={**environment, "CNI_COMMAND": "VERSION"},
            cwd="/",
            timeout=timeout_s,
            check=True,
        )
        answer = loads(done.stdout, "versions")
    except (OSError, subprocess.SubprocessError, CorralError):
        return ""
    known = answer.get("supportedVersions") if isinstance(answer, dict) else None
    return ", ".join(map(str, known)) if isinstance(known, list) else ""


def _answer(shown: str, code: int, output: bytes, errors: bytes) -> dict[str, Any]:
    try:
        value = loads(output, shown) if output.strip() else {}
    except CorralError:
        value = None
    if code == 0:
        if not isinstance(value, dict):
            raise Unavailable(f"{shown}: its answer is no JSON object")
        return value
    said = errors.decode("utf-8", "replace").strip().splitlines()
    if not isinstance(value, dict) or "msg" not in value:
        raise Unavailable(f"{shown}: {said[-1][:500] if said else f'it ended with code {code}'}")
    words = str(value["msg"])
    if value.get("details"):
        words += f": {value['details']}"
    number = value.get("code")
    kind = _KINDS.get(number, Unavailable) if isinstance(number, int) else Unavailable
    # Go's words when a program is not there: iptables, for the plugins that make rules.
    lacking = re.search(r'exec: "([^"]+)": executable file not found', words)
    raise kind(f"{shown}: {words}", hint=f"install {lacking[1]}: the plugin calls it" if lacking else "")
