"""corral.oci.names: the words of config.json and their numbers."""

from __future__ import annotations

import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.oci.names import (
    CAPABILITIES,
    MEMORY_POLICY_FLAGS,
    NAMESPACES,
    RLIMIT_NAMES,
    RLIMITS,
    SIGNALS,
    parse_id_list,
    parse_signal,
    signal_name,
    sysctl_name,
    sysctl_path,
)


def test_signals_have_the_numbers_of_this_platform() -> None:
    """Every signal the standard library names has the same number here."""
    for member in signal.Signals:
        if member.name not in ("SIGRTMIN", "SIGRTMAX"):
            assert member.value == SIGNALS[member.name]


def test_rlimits_have_the_numbers_of_this_platform() -> None:
    """Every resource the standard library names has the same number here."""
    names = [name for name in dir(resource) if name in RLIMIT_NAMES]

    assert {name: getattr(resource, name) for name in names} == {name: RLIMITS[name] for name in names}


@pytest.mark.parametrize(
    ("name", "number"),
    [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_AUDIT_READ", 37), ("CAP_CHECKPOINT_RESTORE", 40)],
)
def test_capabilities_have_the_numbers_of_the_kernel(name: str, number: int) -> None:
    """include/uapi/linux/capability.h"""
    assert number == CAPABILITIES[name]


def test_namespaces_have_one_flag_each() -> None:
    """include/uapi/linux/sched.h: no two kinds share a bit."""
    flags = [flag for flag, _ in NAMESPACES.values()]

    assert 8 == len(set(flags))
    assert (0x7E020080, 0) == (sum(flags), sum(flags) & ~0x7E020080)


def test_memory_policy_flags_are_those_of_the_kernel() -> None:
    """include/uapi/linux/mempolicy.h"""
    assert [1 << 13, 1 << 14, 1 << 15] == sorted(MEMORY_POLICY_FLAGS.values())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("hup", 1),
        ("9", 9),
        ("0", 0),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-1", 63),
        ("SIGRTMAX", 64),
        ("CLD", 17),
    ],
)
def test_parse_signal_takes_names_and_numbers(text: str, number: int) -> None:
    """All the ways in which callers write a signal."""
    assert number == parse_signal(text)


@pytest.mark.parametrize(
    "text", ["", "SIG", "KILLL", "65", "-1", "999", "9999", "RTMIN+31", "RTMAX+1", "RTMIN-1", "RTMIN+", "RTMIN+x", "٣"]
)
def test_parse_signal_refuses_when_no_signal_is_meant(text: str) -> None:
    """The error quotes what was given."""
    with pytest.raises(InvalidArgument) as caught:
        parse_signal(text)

    assert f"parse signal {text!r}: unknown signal" == caught.value.message


@given(st.integers(1, 64).filter(lambda number: number not in (32, 33)))
def test_signal_name_is_read_back_by_parse_signal(number: int) -> None:
    """Name and number are two forms of the same thing."""
    assert number == parse_signal(signal_name(number))


@pytest.mark.parametrize(
    ("number", "name"), [(9, "SIGKILL"), (34, "SIGRTMIN"), (36, "SIGRTMIN+2"), (32, "32"), (99, "99")]
)
def test_signal_name_is_the_number_when_there_is_no_name(number: int, name: str) -> None:
    """32 and 33 belong to the C library."""
    assert name == signal_name(number)


@pytest.mark.parametrize(
    ("key", "name", "path"),
    [
        pytest.param("net.ipv4.ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward", id="dots"),
        pytest.param("net/ipv4/ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward", id="slashes"),
        pytest.param(
            "net/ipv4/conf/eno2.100/rp_filter",
            "net.ipv4.conf.eno2/100.rp_filter",
            "net/ipv4/conf/eno2.100/rp_filter",
            id="slashes around a dot",
        ),
        pytest.param(
            "net.ipv4.conf.eno2/100.rp_filter",
            "net.ipv4.conf.eno2/100.rp_filter",
            "net/ipv4/conf/eno2.100/rp_filter",
            id="dots around a slash",
        ),
        pytest.param("vm", "vm", "vm", id="one word"),
    ],
)
def test_sysctl_names_follow_the_first_separator(key: str, name: str, path: str) -> None:
    """sysctl(8): whichever of dot and slash comes first separates."""
    assert (name, path) == (sysctl_name(key), sysctl_path(key))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("0", [0], id="one"),
        pytest.param("0-3,7", [0, 1, 2, 3, 7], id="range"),
        pytest.param(" 3 , 1-2 ", [1, 2, 3], id="white space and order"),
        pytest.param("1,1-2,2", [1, 2], id="twice"),
    ],
)
def test_parse_id_list_reads_ranges(text: str, ids: list[int]) -> None:
    """The kernel's list format, as far as affinities need it."""
    assert ids == parse_id_list(text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("1,", "'' is neither a number nor a range"),
        ("a", "'a' is neither a number nor a range"),
        ("3-1", "range '3-1' runs backwards"),
        ("-1", "'-1' is neither a number nor a range"),
        ("0-9000", "9000 is above 8191"),
        ("0-99999999999", "'0-99999999999' is neither a number nor a range"),
    ],
)
def test_parse_id_list_refuses_what_is_no_list(text: str, cause: str) -> None:
    """A cause for each, and no memory for absurd ranges."""
    with pytest.raises(ValueError) as caught:
        parse_id_list(text)

    assert cause == str(caught.value)
