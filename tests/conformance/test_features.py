"""What the binary says of itself: --version, --help, spec, features, and what it does not do."""

from __future__ import annotations

import json
import subprocess

import pytest

from conformance.harness import Bundle, Runtime
from conformance.runtimes import needs
from conformance.spec import add_mount


def bare(runtime: Runtime, *args: str) -> subprocess.CompletedProcess[str]:
    """The binary with these arguments only: no --root before them."""
    return subprocess.run([runtime.path, *args], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version_has_runcs_lines(runtime: Runtime, flag: str) -> None:
    """`NAME version X`, then `commit:` and `spec:`: dockerd parses them."""
    done = bare(runtime, flag)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].split()[1] == "version"
    names = [line.split(":")[0] for line in lines[1:]]
    assert "spec" in names
    assert next(line.split(": ")[1] for line in lines if line.startswith("spec:")).startswith("1.")


def test_help_names_every_command(runtime: Runtime) -> None:
    """--help lists the commands and exits 0."""
    done = bare(runtime, "--help")
    assert done.returncode == 0
    for command in ("create", "start", "run", "state", "kill", "delete", "exec", "pause", "resume", "ps", "list"):
        assert command in done.stdout


COMMANDS = "create start run state kill delete exec pause resume ps update list events spec features".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(runtime: Runtime, command: str) -> None:
    """COMMAND --help exits 0, tells of the command, and does nothing."""
    done = bare(runtime, command, "--help")
    assert done.returncode == 0
    assert command in done.stdout


def test_spec_writes_a_config_that_runs(runtime: Runtime, bundle: Bundle) -> None:
    """`spec` writes config.json; with only its args changed it runs here."""
    runtime("spec", "--bundle", bundle.path)
    spec = json.loads((bundle.path / "config.json").read_text())
    assert spec["process"]["args"] == ["sh"]
    assert spec["process"]["terminal"] is True
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    spec["process"].update(terminal=False, args=["/bin/sh", "-c", "echo ran; > /x || echo locked"])
    spec["process"]["env"] = ["PATH=/bin"]
    spec["linux"]["cgroupsPath"] = bundle.linux["cgroupsPath"]
    bundle.spec = spec
    assert runtime.run(bundle).lines == ["ran", "locked"]


def test_spec_does_not_overwrite(runtime: Runtime, bundle: Bundle) -> None:
    """A config.json that exists is kept."""
    (bundle.path / "config.json").write_text("mine")
    assert runtime("spec", "--bundle", bundle.path, check=False).returncode == 1
    assert (bundle.path / "config.json").read_text() == "mine"


def test_spec_rootless_maps_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    """`spec --rootless` has a user namespace with the caller's ids, and no limits."""
    runtime("spec", "--rootless", "--bundle", bundle.path)
    spec = json.loads((bundle.path / "config.json").read_text())
    assert {"type": "user"} in spec["linux"]["namespaces"]
    assert spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 1}]
    assert "resources" not in spec["linux"]


def test_features_is_the_specifications_document(runtime: Runtime) -> None:
    """`features` is one JSON document with the versions, hooks, mount options and namespaces."""
    told = runtime("features").json()
    assert told["ociVersionMin"].startswith("1.")
    assert told["ociVersionMax"].startswith("1.")
    assert set(told["hooks"]) >= {"prestart", "createRuntime", "createContainer", "startContainer", "poststart"}
    assert {"ro", "rbind", "nosuid"} <= set(told["mountOptions"])
    assert {"pid", "mount", "network", "user", "cgroup", "ipc", "uts"} <= set(told["linux"]["namespaces"])
    assert "CAP_CHOWN" in told["linux"]["capabilities"]
    assert told["linux"]["cgroup"]["v1"] is True


# Not for a single mount of any kind: these need a source, a mapping or a file system of their own.
SPECIAL = {"bind", "rbind", "remount", "idmap", "ridmap", "defaults", "acl", "noacl", "iversion", "noiversion"}
KINDS = ["plain", pytest.param("recursive", marks=needs("features-mount-options"))]


@pytest.mark.parametrize("kind", KINDS)
def test_features_mount_options_are_all_taken(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Each option that `features` claims is accepted, and none is taken for the file system's own data."""
    claimed = set(runtime("features").json()["mountOptions"]) - SPECIAL
    plain = {name for name in claimed if not (name.startswith("r") and name[1:] in claimed) and name != "ratime"}
    options = sorted(plain if kind == "plain" else claimed - plain)
    source = bundle.host_dir("data")
    for number, option in enumerate(options):
        add_mount(bundle.spec, f"/mnt/{number}", "bind", str(source), "rbind", option)
    bundle.linux["rootfsPropagation"] = "shared"
    assert runtime.run(bundle, "ls /mnt | wc -l").stdout.strip() == str(len(options))


def test_features_tells_what_is_newer(runtime: Runtime) -> None:
    """The newer parts of the specification are claimed exactly if the runtime has them."""
    told = runtime("features").json()
    linux = told["linux"]
    claims = {
        "idmap": linux.get("mountExtensions", {}).get("idmap", {}).get("enabled", False),
        "time-namespace": "time" in linux["namespaces"],
        "net-devices": linux.get("netDevices", {}).get("enabled", False),
    }
    from conformance.runtimes import missing

    found = {name: missing(runtime.name, runtime.version, [name]) is None for name in claims}
    assert claims == found


@needs("corral")
@pytest.mark.parametrize("command", ["checkpoint", "restore"])
@pytest.mark.parametrize("args", [["--help"], ["some-id"]], ids=["help", "id"])
def test_checkpoint_is_not_supported(runtime: Runtime, command: str, args: list[str]) -> None:
    """podman takes an exit code of 0, also of --help, as support."""
    done = bare(runtime, command, *args)
    assert done.returncode != 0
    assert "not supported" in done.stderr


def test_debug_does_not_change_the_output(runtime: Runtime, bundle: Bundle) -> None:
    """--debug writes to the log, never to standard output."""
    log = bundle.path / "log"
    runtime.global_args = ["--debug", "--log", str(log)]
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"
