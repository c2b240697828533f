"""``spec``, ``explain`` and ``features``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.cgroup.layout import Layout
from corral.errors import Unsupported
from corral.oci.validate import validate
from corral.runtime.commands import features, spec
from unit.runtime.bundles import make_bundle, use_host, write_config
from unit.runtime.commands.command_lines import Run
from unit.runtime.jobs import config, layout_v1, layout_v2, namespaces


@pytest.mark.parametrize(("layout", "has_cgroup"), [(layout_v2(), True), (layout_v1(), False), (Layout(()), False)])
def test_spec_writes_a_valid_config(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, layout: Layout, has_cgroup: bool
) -> None:
    """With a cgroup namespace where the host has v2 alone."""
    monkeypatch.setattr(spec, "read_layout_of", lambda _: layout)
    assert (0, "", "") == run("spec", "--bundle", str(tmp_path))
    document = json.loads((tmp_path / "config.json").read_text())

    assert [] == validate(document)
    assert has_cgroup == ({"type": "cgroup"} in document["linux"]["namespaces"])


def test_spec_for_rootless_maps_the_caller(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root inside is who asked."""
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    run("spec", "--rootless", "-b", str(tmp_path))
    document = json.loads((tmp_path / "config.json").read_text())

    assert [1234] == [entry["hostID"] for entry in document["linux"]["uidMappings"]]
    assert [] == validate(document)


def test_spec_never_overwrites(tmp_path: Path, run: Run) -> None:
    """runc's words are in it."""
    (tmp_path / "config.json").write_text("mine")
    code, _, err = run("spec", "-b", str(tmp_path))

    assert (1, True) == (code, f"write {tmp_path}/config.json: file exists; remove it first" in err)
    assert "mine" == (tmp_path / "config.json").read_text()


def test_spec_needs_the_directory(tmp_path: Path, run: Run) -> None:
    """It makes none."""
    code, _, err = run("spec", "-b", str(tmp_path / "none"))

    assert (1, True) == (code, f"write {tmp_path}/none/config.json: no such directory" in err)


def test_explain_prints_steps_and_meetings(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its actor and the place in the config that asked for it."""
    use_host(monkeypatch, "v2")
    bundle = make_bundle(tmp_path)
    code, out, err = run("explain", str(bundle))
    lines = out.splitlines()

    assert (0, "") == (code, err)
    assert "   0  front set the front's mode" == lines[0]
    assert any(line.endswith("----- front and init meet: the verdict") for line in lines)
    assert any("init  mount proc on /proc  (config mounts[0])" in line for line in lines)
    assert list(range(len(lines))) == [int(line.split()[0]) for line in lines]


def test_explain_as_json_tells_the_same(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps with their arguments, blobs in hexadecimal."""
    use_host(monkeypatch, "v2")
    code, out, _ = run("explain", "--bundle", str(make_bundle(tmp_path)), "--json")
    document = json.loads(out)

    assert (0, []) == (code, document["problems"])
    assert ["index", "actor", "op", "text", "config", "arguments"] == list(document["steps"][0])
    program = next(step for step in document["steps"] if step["op"] == "CG_DEVICES")
    assert bytes.fromhex(program["arguments"][1])


def test_explain_goes_on_past_problems(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told after the steps, and in the exit code."""
    use_host(monkeypatch, "v2")
    bundle = make_bundle(tmp_path, config(intelRdt={}))
    code, out, _ = run("explain", str(bundle))

    assert 1 == code
    assert (
        "problem: set up intelRdt: resctrl is not mounted on this host (config linux.intelRdt)" == out.splitlines()[-1]
    )
    assert ["linux.intelRdt"] == [
        p["pointer"] for p in json.loads(run("explain", "--json", str(bundle))[1])["problems"]
    ]


def test_explain_makes_nothing(tmp_path: Path, run: Run, root: Path) -> None:
    """Not even the state root."""
    root.rmdir()
    run("explain", str(make_bundle(tmp_path)))

    assert not root.exists()


def test_explain_refuses_what_it_cannot_read(tmp_path: Path, run: Run) -> None:
    """As create would."""
    code, _, err = run("explain", str(tmp_path))

    assert (1, True) == (code, err.startswith(f"read {tmp_path}/config.json: no such file or directory\n"))
    write_config(make_bundle(tmp_path), config(namespaces=namespaces("fly")))
    assert "linux.namespaces[0].type" in run("explain", str(tmp_path / "bundle"))[2]


def test_features_are_those_of_library_and_kernel(run: Run) -> None:
    """Architectures that the library resolves, flags that the kernel takes: a subset of those known."""
    document = json.loads(run("features")[1])
    seccomp = document["linux"]["seccomp"]

    assert ("1.0.0", "1.3.0") == (document["ociVersionMin"], document["ociVersionMax"])
    if seccomp["enabled"]:
        assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])
        assert "SCMP_ARCH_X86_64" in seccomp["archs"]


def test_features_without_libseccomp_claim_no_seccomp(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a promise that create breaks."""

    def no_library() -> None:
        raise Unsupported("load libseccomp.so.2: not found")

    monkeypatch.setattr(features, "Library", no_library)

    assert {"enabled": False} == json.loads(run("features")[1])["linux"]["seccomp"]
