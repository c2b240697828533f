"""What a user reads when a config cannot be had: every message and hint, word by word."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from conformance import spec as specs
from conformance.harness import wait_until
from fuzz.refusals import LAUNCHES
from sweep.world import World

pytestmark = pytest.mark.requires("root", "busybox")

JSON_HINT = "the file must hold exactly one JSON value, encoded as UTF-8"
BUNDLE_HINT = "give the bundle's directory with --bundle; `corral-runtime spec` writes a config.json"


def words(outcome: Any) -> tuple[str, str]:
    """Message and hint of an outcome that has exactly one of each, or no hint."""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
    hint = lines[1].removeprefix("hint: ") if len(lines) > 1 else ""
    assert len(lines) == (2 if hint else 1), outcome
    return lines[0], hint


def fill(text: str, world: World) -> str:
    """A text of the table with the names of this run."""
    return text.replace("{tmp}", str(world.path)).replace("{prefix}", world.prefix)


@pytest.mark.timeout(180)
def test_a_refused_config_is_told_word_by_word(world: World) -> None:
    """The message names operation, object, place in config.json and cause; the hint the remedy; nothing stays."""
    bundle = world.make_bundle("bundle")
    (bundle / "rootfs/plain").write_text("x")
    for name, content in (("script", b"#!/no/interp\n"), ("garbage", b"\x7fELF garbage")):
        (bundle / "rootfs" / name).write_bytes(content)
        (bundle / "rootfs" / name).chmod(0o755)
    told, wanted = {}, {}
    for name, (edit, flags, message, hint) in LAUNCHES.items():
        spec = specs.base_spec()
        container = world.new_id()
        spec["linux"]["cgroupsPath"] = f"/{world.prefix}/{container}"
        edit(spec)
        (bundle / "config.json").write_text(fill(json.dumps(spec), world))
        outcome = world.run("run", "--bundle", str(bundle), *(fill(flag, world) for flag in flags), container)
        assert outcome.code == 1, f"{name}: {outcome}"
        told[name] = words(outcome)
        if name == "memory-too-low":
            # It dies when it needs memory: where that is differs from kernel to kernel.
            told[name] = (re.sub("^wait for [^:]+", "wait for the mounts", told[name][0]), told[name][1])
        wanted[name] = (fill(message, world), hint)
        assert world.status(container) == "", name
    assert told == wanted
    assert world.settle() == []
    assert world.leftovers() == []


TEXTS: list[tuple[bytes, str, str]] = [
    (b"", "parse BUNDLE/config.json: line 1 column 1: unexpected end of data", JSON_HINT),
    (b"{", "parse BUNDLE/config.json: line 1 column 2: expecting property name enclosed in double quotes", JSON_HINT),
    (b'{"a":1', "parse BUNDLE/config.json: line 1 column 7: expecting ',' delimiter", JSON_HINT),
    (b"\xff", "parse BUNDLE/config.json: line 1 column 1: invalid UTF-8 (invalid start byte)", JSON_HINT),
    (b'{"ociVersion":NaN}', "parse BUNDLE/config.json: line 1 column 15: NaN is not JSON", JSON_HINT),
    (b"\xef\xbb\xbf{}", "parse BUNDLE/config.json: line 1 column 1: byte order mark", "save the file without a BOM"),
    (b"[" * 100000, "parse BUNDLE/config.json: nested too deeply", "no OCI document nests this deeply"),
    (b'{"a":1}{}', "parse BUNDLE/config.json: line 1 column 8: trailing data after the value", JSON_HINT),
    (b"1" * 6000, "parse BUNDLE/config.json: line 1 column 1: number too long", JSON_HINT),
    (b"[]", "validate config.json: want an object, got an array", ""),
    (b'"x"', "validate config.json: want an object, got the string 'x'", ""),
]


def test_a_text_that_is_no_config_is_told_with_its_place(world: World) -> None:
    """Line and column of what is not JSON; the kind of what is."""
    bundle = world.make_bundle("bundle")
    for text, message, hint in TEXTS:
        (bundle / "config.json").write_bytes(text)
        told = words(world.run("run", "--bundle", str(bundle), "x"))
        assert told == (message.replace("BUNDLE", str(bundle)), hint)
    (bundle / "config.json").unlink()
    missing = (f"read {bundle}/config.json: no such file or directory", BUNDLE_HINT)
    assert words(world.run("run", "--bundle", str(bundle), "x")) == missing
    (bundle / "config.json").mkdir()
    assert words(world.run("run", "--bundle", str(bundle), "x")) == (f"read {bundle}/config.json: is a directory", "")


ABSENT = (
    "container 'x': container does not exist",
    "`corral-runtime list` shows all of this state root; --root chooses another",
)
BAD_ID = (
    "container 'a/b': invalid container id format",
    "an id is made of letters, digits and '_', '+', '-', '.', and does not begin with '.'",
)
NOT_SUPPORTED = "checkpoint and restore of processes are outside Corral's scope"
SINGLE = ("state", "start", "delete", "kill", "create", "run", "pause", "resume", "ps", "events", "update")
COMMANDS: dict[str, tuple[str, str]] = {
    **{f"{command} x": ABSENT for command in ("state", "start", "delete", "kill", "pause", "resume", "ps", "events")},
    "update x": ABSENT,
    "exec x true": ABSENT,
    **{command: (f"{command}: the container's id is missing", f"usage: {command} ID") for command in (*SINGLE, "exec")},
    **{f"{command} a/b": BAD_ID for command in ("state", "delete", "create", "run", "kill", "ps")},
    "exec a/b true": BAD_ID,
    "state x y": ("state: unexpected argument 'y'", "`corral-runtime state --help` tells its arguments"),
    "start -x": ("start: unknown flag '-x'", "`corral-runtime start --help` lists the flags"),
    "frobnicate": ("unknown command 'frobnicate'", "`corral-runtime --help` lists the commands"),
    "list --frob": ("list: unknown flag '--frob'", "`corral-runtime list --help` lists the flags"),
    "list -f xml": ("list: flag --format: 'xml' is neither 'table' nor 'json'", ""),
    "list -f": ("list: flag --format needs a value", ""),
    "create --preserve-fds y x": ("create: flag --preserve-fds: 'y' is not a number", ""),
    "create --no-pivot=so x": ("create: flag --no-pivot: 'so' is neither true nor false", ""),
    "kill x NOPE": ("container 'x': unknown signal \"NOPE\"", "give its name, with or without SIG, or its number"),
    "events --interval so x": ("events: flag --interval: 'so' is not a duration", "write it as 5s, 500ms or 1m30s"),
    "spec --bundle /no/dir": ("write /no/dir/config.json: no such directory", "make the bundle's directory first"),
    "checkpoint x": ("checkpoint: not supported", NOT_SUPPORTED),
    "checkpoint --help": ("checkpoint: not supported", NOT_SUPPORTED),
    "restore x": ("restore: not supported", NOT_SUPPORTED),
    "mounts": (
        "mounts: want add or remove, an id and a file",
        "usage: mounts add|remove ID FILE, where FILE holds a JSON array of mounts",
    ),
}


def test_a_refused_command_line_is_told_word_by_word(world: World) -> None:
    """The command, the word that is wrong, and what would be right. Exit code 1, and 255 from exec."""
    told = {}
    for command in COMMANDS:
        outcome = world.run(*command.split())
        assert outcome.code == (255 if command.startswith("exec") else 1), outcome
        told[command] = words(outcome)
    assert told == COMMANDS


STATES: dict[str, tuple[str, ...]] = {
    "create": (
        "create container 'X': container with given ID already exists",
        "choose another id, or remove it: corral-runtime delete X",
    ),
    "resume created": (
        "resume container 'X': container not paused: it is created",
        "resume needs a paused container, pause one that is not",
    ),
    "start running": ("container 'X': cannot start an already running container", ""),
    "delete running": (
        "cannot delete container X that is not stopped: running",
        "stop it first, or delete it with --force",
    ),
    "exec paused": (
        "exec in container 'X': cannot exec in a paused container",
        "resume it: corral-runtime resume X; or wait for that with --ignore-paused",
    ),
    "start paused": ("container 'X': cannot start an already running container", ""),
    "start stopped": ("container 'X': cannot start a container that has stopped", ""),
    "kill stopped": ("container 'X': container not running", ""),
    "pause stopped": (
        "pause container 'X': container not running: it is stopped",
        "resume needs a paused container, pause one that is not",
    ),
    "resume stopped": (
        "resume container 'X': container not paused: it is stopped",
        "resume needs a paused container, pause one that is not",
    ),
    "exec stopped": (
        "exec in container 'X': cannot exec in a stopped container: container not running",
        "start a new container from the same bundle",
    ),
    "update stopped": (
        "update container 'X': container not running",
        "limits of a stopped container have nothing to act on",
    ),
}


def test_a_wrong_state_is_told_word_by_word(world: World) -> None:
    """A container in the wrong state for a command: the words that callers match."""
    bundle = world.make_bundle("bundle")
    name = world.new_id()
    spec = specs.base_spec()
    spec["process"]["args"] = ["/bin/sleep", "100000"]
    spec["linux"]["cgroupsPath"] = "named by the world"
    world.write_config(bundle, spec, name)
    assert world.run("create", "--bundle", str(bundle), name).code == 0
    told = {"create": words(world.run("create", "--bundle", str(bundle), name))}
    told["resume created"] = words(world.run("resume", name))
    assert world.run("start", name).code == 0
    told["start running"] = words(world.run("start", name))
    told["delete running"] = words(world.run("delete", name))
    assert world.run("pause", name).code == 0
    told["exec paused"] = words(world.run("exec", name, "true"))
    told["start paused"] = words(world.run("start", name))
    assert world.run("resume", name).code == 0
    assert world.run("kill", name, "KILL").code == 0
    wait_until(lambda: world.status(name) == "stopped", "the end of the container")
    for command in ("start", "kill", "pause", "resume", "exec", "update"):
        rest = ("true",) if command == "exec" else ()
        told[f"{command} stopped"] = words(world.run(command, name, *rest))
    assert world.run("delete", name).code == 0
    plain = {key: tuple(text.replace(name, "X") for text in texts) for key, texts in told.items()}
    assert plain == STATES
