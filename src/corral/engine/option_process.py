"""Options about the process and what watches over it: command, user, rights, health, restart, log.

Source: podman-run(1), docker-run(1).
"""

from __future__ import annotations

from corral.engine.option_values import (
    parse_bool,
    parse_choice,
    parse_duration,
    parse_environment,
    parse_number,
    parse_pairs,
    parse_size,
    refuse,
    text,
    texts,
)
from corral.errors import InvalidArgument
from corral.linux import paths
from corral.oci.json import loads
from corral.oci.names import RLIMITS, SIGNALS, SIGRTMAX, SIGRTMIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.engine.definition import Health, Log, Process, Restart, Security

_POLICIES = ("no", "always", "on-failure", "unless-stopped")
_ACTIONS = ("none", "kill", "restart", "stop")
_DRIVERS = ("k8s-file", "json-file", "none")
_SECURITY_HINT = (
    "one of no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, label=LABEL|disable, mask=PATH:..., "
    "unmask=ALL|PATH:..., systempaths=unconfined, writable-cgroups"
)


def parse_process(options: Mapping[str, object], command: Sequence[str], environ: Mapping[str, str]) -> Process:
    """What runs and as whom. Raises: InvalidArgument, NotFound."""
    found: dict[str, object] = {
        "command": list(command),
        "env": parse_environment(options, environ),
        "user": text(options, "user"),
        "groups": texts(options, "group-add"),
        "workdir": text(options, "workdir"),
        "terminal": bool(options.get("tty")),
        "stdin": bool(options.get("interactive")),
        "init": bool(options.get("init")),
        "ulimits": [parse_ulimit(item) for item in texts(options, "ulimit")],
    }
    if found["workdir"] and not text(options, "workdir").startswith("/"):
        raise refuse("workdir", text(options, "workdir"), "not absolute", "give the path from the container's /")
    if text(options, "umask"):
        umask = text(options, "umask")
        if not set(umask) <= set("01234567") or len(umask) > 4:
            raise refuse("umask", umask, "not an octal mode", "as in 0022")
        found["umask"] = umask
    if text(options, "stop-signal"):
        found["stop_signal"] = parse_signal("stop-signal", text(options, "stop-signal"))
    if text(options, "stop-timeout"):
        found["stop_timeout_s"] = float(parse_number("stop-timeout", text(options, "stop-timeout"), -1, 10**9))
    process: Process = {key: value for key, value in found.items() if value or key == "stop_timeout_s"}  # type: ignore[assignment]
    if "entrypoint" in options:
        process["entrypoint"] = parse_words_or_json("entrypoint", text(options, "entrypoint"))
    return process


def parse_words_or_json(flag: str, value: str) -> list[str]:
    """A JSON list of words, or the text as one word; empty: none."""
    if not value.startswith("["):
        return [value] if value else []
    try:
        words = loads(value.encode("utf-8", "surrogateescape"), f"--{flag}")
    except InvalidArgument as exc:
        raise refuse(flag, value, "not a JSON list", """as in '["/bin/sh", "-c"]'""") from exc
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise refuse(flag, value, "not a list of words", """as in '["/bin/sh", "-c"]'""")
    return [str(word) for word in words]


def parse_signal(flag: str, value: str) -> str:
    """``TERM``, ``SIGTERM``, ``15``, ``SIGRTMIN+3`` -> the full name."""
    upper = value.upper()
    name = upper if upper.startswith("SIG") else f"SIG{upper}"
    if name in SIGNALS:
        return name
    if value.isascii() and value.isdecimal():
        number = int(value)
        for known, its in SIGNALS.items():
            if its == number:
                return known
        if SIGRTMIN <= number <= SIGRTMAX:
            return f"SIGRTMIN+{number - SIGRTMIN}"
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if base in ("SIGRTMIN", "SIGRTMAX") and (not sign or offset.isdecimal()):
        number = {"SIGRTMIN": SIGRTMIN, "SIGRTMAX": SIGRTMAX}[base] + int(f"{sign}{offset or 0}" or 0)
        if SIGRTMIN <= number <= SIGRTMAX:
            return f"SIGRTMIN+{number - SIGRTMIN}"
    raise refuse(flag, value, "no such signal", "as in TERM, SIGTERM or 15; `kill -l` lists them")


def parse_ulimit(value: str) -> str:
    """``name=soft[:hard]``, checked; -1 or ``unlimited`` for none."""
    hint = "as in nofile=1024:4096; -1 is unlimited"
    name, equals, limits = value.partition("=")
    soft, colon, hard = limits.partition(":")
    if not equals or f"RLIMIT_{name.upper()}" not in RLIMITS:
        raise refuse("ulimit", value, f"{name!r} is no resource limit", hint)
    numbers = []
    for text_ in (soft, hard if colon else soft):
        if text_ in ("-1", "unlimited"):
            numbers.append(-1)
        elif text_.isascii() and text_.isdecimal():
            numbers.append(int(text_))
        else:
            raise refuse("ulimit", value, f"{text_!r} is no number", hint)
    if numbers[1] != -1 and (numbers[0] == -1 or numbers[0] > numbers[1]):
        raise refuse("ulimit", value, "the soft limit is above the hard one", hint)
    return f"{name.lower()}={numbers[0]}:{numbers[1]}"


def parse_security(options: Mapping[str, object], cwd: str) -> Security:
    """``--privileged``, ``--cap-add``, ``--cap-drop``, ``--read-only`` and all of ``--security-opt``."""
    found: dict[str, object] = {
        "privileged": bool(options.get("privileged")),
        "cap_add": _names(options, "cap-add"),
        "cap_drop": _names(options, "cap-drop"),
        "read_only": bool(options.get("read-only")),
    }
    for value in texts(options, "security-opt"):
        name, equals, content = value.partition("=")
        if not equals:
            name, equals, content = value.partition(":")
        _take_security(found, value, name, content, cwd)
    return {key: value for key, value in found.items() if value}  # type: ignore[return-value]


def _names(options: Mapping[str, object], flag: str) -> list[str]:
    return [name for value in texts(options, flag) for name in value.split(",") if name]


def _take_security(found: dict[str, object], value: str, name: str, content: str, cwd: str) -> None:
    if name == "no-new-privileges":
        found["no_new_privileges"] = not content or parse_bool("security-opt", content)
    elif name == "writable-cgroups":
        found["writable_cgroups"] = not content or parse_bool("security-opt", content)
    elif name == "seccomp" and content:
        found["seccomp"] = content if content == "unconfined" else paths.normpath(paths.join(cwd, content))
    elif name == "apparmor" and content:
        found["apparmor"] = content
    elif name == "label":
        # `disable` is the default: without SELinux in the engine's policy nothing is labelled unless asked for.
        found["selinux_label"] = "" if content == "disable" else content
    elif name in ("mask", "unmask") and content:
        found[name] = content.split(":")
    elif name == "systempaths" and content == "unconfined":
        found["unmask"] = ["ALL"]
    else:
        raise refuse("security-opt", value, "unknown option", _SECURITY_HINT)


def parse_health(options: Mapping[str, object]) -> Health | None:
    """``--health-*``; None if nothing was said, so that the image's own check counts."""
    if options.get("no-healthcheck"):
        return {"command": ["NONE"]}
    command = text(options, "health-cmd")
    rest: dict[str, object] = {}
    for flag, key in (
        ("health-interval", "interval_s"),
        ("health-timeout", "timeout_s"),
        ("health-start-period", "start_period_s"),
    ):
        value = text(options, flag)
        if value and not (flag == "health-interval" and value == "disable"):
            rest[key] = parse_duration(flag, value)
    if text(options, "health-retries"):
        rest["retries"] = parse_number("health-retries", text(options, "health-retries"), 1, 1000)
    if text(options, "health-on-failure"):
        rest["on_failure"] = parse_choice("health-on-failure", text(options, "health-on-failure"), _ACTIONS)
    if not command and not rest:
        return None
    if command == "none":
        words = ["NONE"]
    elif command.startswith("["):
        words = parse_words_or_json("health-cmd", command)
        words = words if words[:1] in (["CMD"], ["CMD-SHELL"], ["NONE"]) else ["CMD", *words]
    else:
        # Empty: the image's command with the times given here; the verb puts it in.
        words = ["CMD-SHELL", command] if command else []
    return {"command": words, **rest}  # type: ignore[return-value]


def parse_restart(value: str) -> Restart | None:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:N]``; None if nothing was said."""
    if not value:
        return None
    name, colon, count = value.partition(":")
    parse_choice("restart", name, _POLICIES)
    if colon and name != "on-failure":
        raise refuse("restart", value, f"{name} takes no count", "as in --restart on-failure:3")
    found: Restart = {"policy": name}  # type: ignore[typeddict-item]
    if colon:
        found["max_retries"] = parse_number("restart", count, 0, 10**6)
    return found


def parse_log(options: Mapping[str, object]) -> Log | None:
    """``--log-driver`` and ``--log-opt max-size=, max-file=``; None if nothing was said."""
    settings = parse_pairs("log-opt", texts(options, "log-opt"))
    driver = text(options, "log-driver")
    if not driver and not settings:
        return None
    found: Log = {"driver": parse_choice("log-driver", driver or "k8s-file", _DRIVERS)}  # type: ignore[typeddict-item]
    for name, value in settings.items():
        if name == "max-size":
            found["max_bytes"] = parse_size("log-opt", value)
        elif name == "max-file":
            found["files"] = parse_number("log-opt", value, 1, 1000)
        else:
            raise refuse("log-opt", f"{name}={value}", f"unknown option {name!r}", "one of max-size, max-file")
    return found
