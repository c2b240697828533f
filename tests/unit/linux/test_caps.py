"""Capability names and masks translate into each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux import caps

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("CAP_CHOWN", 0),
        ("CAP_SYS_ADMIN", 21),
        ("CAP_AUDIT_READ", 37),
        ("CAP_CHECKPOINT_RESTORE", 40),
        ("cap_kill", 5),
        ("NET_RAW", 13),
    ],
)
def test_number_is_found_when_name_is_known(name: str, number: int) -> None:
    """The numbers are those of the kernel's header; case and prefix do not matter."""
    assert number == caps.number_or_none(name)


def test_unknown_names_are_reported_when_masking() -> None:
    """What the mask cannot hold is handed back, in order."""
    assert (0b11, ("CAP_X", "")) == caps.mask_of(["CAP_CHOWN", "CAP_X", "CAP_DAC_OVERRIDE", ""])


@given(st.integers(min_value=0, max_value=(1 << 41) - 1))
def test_mask_comes_back_when_named(mask: int) -> None:
    """names_of and mask_of are inverse over all known bits."""
    assert (mask, ()) == caps.mask_of(caps.names_of(mask))


def test_newer_bit_is_numbered_when_unnamed() -> None:
    """A bit that this list does not know still shows."""
    assert ("CAP_CHOWN", "CAP_50") == caps.names_of(1 | 1 << 50)


def test_last_cap_is_the_kernels_when_it_says(tmp_path: Path) -> None:
    """The kernel's number counts; without one, that of the list."""
    assert len(caps.CAPABILITIES) - 1 == caps.last_cap(proc=str(tmp_path))
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "sys" / "kernel" / "cap_last_cap").write_text("37\n")
    assert 37 == caps.last_cap(proc=str(tmp_path))
