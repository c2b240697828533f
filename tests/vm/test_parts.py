"""The parts of the bench that need no machine: names, the wheel's installation, and how a lost machine is reported."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vm import machine, payload
from vm.cells import Batch, Cell, Selection, all_batches, default_batches, parse_cell
from vm.debian import Kernel
from vm.store import ROOT, digest, missing_tools


@pytest.mark.parametrize(
    "name", ["v2-6.1", "v1-5.10-systemd", "hybrid-6.1-rootless", "v2-6.12-systemd-rootless-userns"]
)
def test_cell_names_are_read_as_they_are_written(name: str) -> None:
    """A name and its cell say the same."""
    assert name == parse_cell(name).name


@pytest.mark.parametrize("name", ["", "v2", "v3-6.1", "v2-6.2", "v2-6.1-rootfull", "v2-6.1-systemd-"])
def test_unknown_cell_names_are_refused(name: str) -> None:
    """A misspelt word is not taken for the default."""
    with pytest.raises(ValueError, match="not like"):
        parse_cell(name)


def test_root_on_cgroupfs_is_the_default() -> None:
    """A short name means the plain case, and tests inside are told so."""
    cell = parse_cell("v2-6.1")
    assert Cell("v2", "6.1", "cgroupfs", is_rootless=False, has_userns=False) == cell
    assert {"CORRAL_VM_DRIVER": "cgroupfs", "CORRAL_VM_USER": "root"}.items() <= cell.environment.items()


def test_selection_tells_more_than_its_cell() -> None:
    """A selection may ask its tests for less than the cell's other selections do."""
    cell = parse_cell("v2-6.1")
    told = Selection(cell, (), more_environment=(("CORRAL_OOM_ROUNDS", "2"),)).environment
    assert told == {**cell.environment, "CORRAL_OOM_ROUNDS": "2"}


BATCHES = pytest.mark.parametrize("batches", [default_batches(), all_batches()], ids=["default", "all"])


def test_default_cells_are_among_all_cells() -> None:
    """ALL=1 leaves nothing out."""
    everything = {item.name for batch in all_batches() for item in batch}
    assert {item.name for batch in default_batches() for item in batch} - everything == set()


@BATCHES
def test_selections_have_names_of_their_own(batches: list[Batch]) -> None:
    """Results are kept by name."""
    names = [item.name for batch in batches for item in batch]
    assert sorted(set(names)) == sorted(names)


@BATCHES
def test_batch_is_of_one_machine(batches: list[Batch]) -> None:
    """Its selections share a boot."""
    assert [1] * len(batches) == [len({item.cell.machine for item in batch}) for batch in batches]


@BATCHES
def test_parts_are_a_whole(batches: list[Batch]) -> None:
    """No part of a suite is left to nobody."""
    parts: dict[str, set[int]] = {}
    for item in (item for batch in batches for item in batch if item.of > 1):
        parts.setdefault(f"{item.cell.name} of {item.of}", set()).update(item.parts)
    assert {name: set(range(int(name.rsplit(" ", 1)[1]))) for name in parts} == parts


@BATCHES
def test_files_that_a_cell_leaves_out_exist(batches: list[Batch]) -> None:
    """A file that was renamed would come back unseen."""
    words = {word for batch in batches for item in batch for word in item.arguments if word.startswith("--ignore=")}
    assert [word for word in sorted(words) if not (ROOT / word.removeprefix("--ignore=")).is_file()] == []


def test_digest_tells_parts_from_their_concatenation() -> None:
    """A file's end is not another's beginning."""
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["ab", b"c"]) == digest([b"ab", "c"])


def test_wheel_is_installed_for_the_guests_interpreter(tmp_path: Path) -> None:
    """Scripts land in bin, executable, with the guest's interpreter; the package lands in site-packages."""
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as archive:
        archive.writestr("x/__init__.py", "")
        archive.writestr("x-1.data/scripts/planner", "#!python\nprint()\n")
        archive.writestr("x-1.dist-info/METADATA", "Name: x\nRequires-Dist: y>=1\nRequires-Dist: z; extra == 'dev'\n")
    wheel = tmp_path / "x-1-py3-none-any.whl"
    payload.install_wheel(wheel, tmp_path / "prefix")
    script = tmp_path / "prefix/bin/planner"
    assert script.read_text() == "#!/usr/bin/python3\nprint()\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "prefix/lib/python3.11/site-packages/x/__init__.py").exists()
    assert payload.needs_of(wheel) == ("y>=1", "jeepney")


def test_pytests_own_needs_are_carried_along() -> None:
    """The closure of pytest holds pluggy, which nobody named."""
    names = {item.metadata["Name"] for item in payload.closure(("pytest",))}
    assert {"pytest", "pluggy", "iniconfig"} <= names


@pytest.mark.skipif("qemu-system-x86" in missing_tools(), reason="qemu-system-x86 is not installed")
def test_machine_that_does_not_start_is_reported_with_qemus_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wait for the boot's time limit; the error holds the reason."""
    monkeypatch.setattr(machine, "STORE", tmp_path)
    for name in ("vmlinuz", "initramfs", "disk"):
        (tmp_path / name).write_text("no such thing")
    kernel = Kernel("0.0", tmp_path / "vmlinuz", tmp_path / "initramfs", tmp_path / "disk")
    subject = machine.Machine("v2", kernel, tmp_path / "disk", tmp_path / "disk")
    with pytest.raises(machine.MachineLost, match="too old to load a ram disk"), subject:
        raise AssertionError("it booted")
    assert not subject.is_alive
