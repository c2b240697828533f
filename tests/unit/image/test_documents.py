"""Manifests, indexes, configs and platforms: pure values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.image.config import parse_config
from corral.image.manifest import MAX_LAYERS, Descriptor, Index, Manifest, Platform, parse_manifest
from corral.image.platforms import fits, host_platform, parse_platform, select
from unit.image.fake_registry import CONFIG, LAYER, MANIFEST, descriptor, make_image

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("schemaVersion", "mediaType", "manifests", "layers", "config", "rootfs", "history", "annotations")


def manifest(**changes: object) -> bytes:
    """A good manifest with some members replaced."""
    value = {"config": descriptor(CONFIG, b"c"), "layers": [descriptor(LAYER, b"l")], **changes}
    return json.dumps({"schemaVersion": 2, **value}).encode()


def test_manifest_reads_as_it_is_written() -> None:
    """parse(to_json) is the same manifest."""
    made = make_image()
    parsed = parse_manifest(made.manifest)
    assert isinstance(parsed, Manifest)
    again = parse_manifest(json.dumps(parsed.to_json()).encode())
    assert isinstance(again, Manifest)
    assert again.to_json() == parsed.to_json()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (manifest(layers=[{"digest": "sha256:0", "size": 1}]), r"layers\[0\]\.digest: 'sha256:0' is not a digest"),
        (manifest(layers=[{**descriptor(LAYER, b""), "size": "1"}]), r"layers\[0\]\.size: not a size"),
        (manifest(layers=[{**descriptor(LAYER, b""), "size": -1}]), r"layers\[0\]\.size: not a size"),
        (manifest(layers=[{**descriptor(LAYER, b""), "size": True}]), r"layers\[0\]\.size: not a size"),
        (manifest(layers=[descriptor(LAYER, b"")] * (MAX_LAYERS + 1)), "layers: more than 500 items"),
        (manifest(layers={}), "layers: not an array"),
        (manifest(layers=[7]), r"layers\[0\]: not an object"),
        (manifest(annotations={"a": 1}), r"annotations\['a'\]: not a string"),
        (manifest(mediaType=[]), "mediaType: not a string"),
        (json.dumps({"manifests": [{"digest": 1}]}).encode(), r"manifests\[0\]\.digest"),
    ],
)
def test_wrong_member_is_named_by_its_place(data: bytes, words: str) -> None:
    """The message says which member of which document."""
    with pytest.raises(InvalidArgument, match=words):
        parse_manifest(data)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_document_is_read_or_refused(value: dict[str, object]) -> None:
    """Whatever JSON comes, the answer is a value or one of Corral's errors."""
    data = json.dumps(value).encode()
    for parse in (parse_manifest, lambda text: parse_config(text, "config").history()):
        try:
            parse(data)
        except CorralError:
            continue


# ---- configs ------------------------------------------------------------------------------------------


def test_config_is_translated_whole() -> None:
    """All that makes a container, with the engine's keys; times in seconds."""
    inner = {
        "User": "1000:1000",
        "Env": ["A=b"],
        "Entrypoint": ["/init"],
        "Cmd": ["x"],
        "WorkingDir": "/w",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"k": "v"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000, "Timeout": 500_000_000, "Retries": 3},
        "Unknown": 1,
    }
    config = parse_config(json.dumps({"config": inner}).encode(), "config").image_config()
    assert config == {
        "user": "1000:1000",
        "env": ["A=b"],
        "entrypoint": ["/init"],
        "command": ["x"],
        "workdir": "/w",
        "volumes": ["/data"],
        "exposed_ports": ["80/tcp"],
        "labels": {"k": "v"},
        "stop_signal": "SIGINT",
        "health": {"command": ["CMD", "true"], "interval_s": 30.0, "timeout_s": 0.5, "retries": 3},
    }


@pytest.mark.parametrize("inner", [None, {}, {"Env": None, "Cmd": None, "Healthcheck": None, "User": ""}])
def test_config_without_anything_is_empty(inner: object) -> None:
    """Null, absent and empty are the same."""
    assert parse_config(json.dumps({"config": inner}).encode(), "config").image_config() == {}


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"Env": "A=b"}, "Env: not an array"),
        ({"Cmd": [1]}, r"Cmd\[0\]: not a string"),
        ({"User": 0}, "User: not a string"),
        ({"Labels": {"a": 1}}, r"Labels\['a'\]: not a string"),
        ({"Env": ["A=\0"]}, r"Env\[0\]: not a string"),
        ({"Healthcheck": {"Test": ["CMD"], "Interval": "30s"}}, "Interval: not a number"),
    ],
)
def test_config_of_wrong_types_is_refused(inner: dict[str, object], words: str) -> None:
    """A config is somebody else's text."""
    with pytest.raises(InvalidArgument, match=words):
        parse_config(json.dumps({"config": inner}).encode(), "config").image_config()


# ---- platforms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("arm64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("Linux/AArch64", "linux/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platform_is_read_with_the_usual_names(text: str, meant: str) -> None:
    """People write the kernel's names as well as Go's."""
    assert str(parse_platform(text)) == meant


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "linux/am d64", "../x"])
def test_platform_that_is_none_is_refused(text: str) -> None:
    """OS/ARCH[/VARIANT]."""
    with pytest.raises(InvalidArgument, match="parse platform"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("offered", "wanted", "is_fit"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v3", True),
        ("linux/amd64/v2", "linux/amd64/v3", True),
        ("linux/amd64/v3", "linux/amd64/v2", False),
        ("linux/amd64/v2", "linux/amd64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v9", "linux/arm64/v8", False),
        ("linux/arm/v6", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/386", "linux/amd64", False),
        ("windows/amd64", "linux/amd64", False),
        ("linux/s390x", "linux/s390x", True),
        ("linux/mips/odd", "linux/mips/odd", True),
        ("linux/mips/odd", "linux/mips/v1", False),
    ],
)
def test_variants_fit_upwards(offered: str, wanted: str, is_fit: bool) -> None:
    """An image for an older variant runs on a newer processor, not the reverse."""
    assert fits(Platform(*offered.split("/")), Platform(*wanted.split("/"))) is is_fit


def entry(digit: str, platform: str) -> Descriptor:
    """A descriptor of an index."""
    return Descriptor(MANIFEST, "sha256:" + digit * 64, 1, None, Platform(*platform.split("/")) if platform else None)


def test_best_variant_is_chosen_and_of_equals_the_first() -> None:
    """The highest that still runs."""
    offers = {"1": "linux/amd64", "3": "linux/amd64/v3", "2": "linux/amd64/v2", "4": "linux/amd64"}
    index = Index("", [entry(digit, platform) for digit, platform in offers.items()])
    chosen = [select(index, Platform("linux", "amd64", variant), "x").digest[7] for variant in ("v4", "v2", "v1", "")]
    assert chosen == ["3", "2", "1", "1"]


def test_only_entry_without_platform_is_taken() -> None:
    """An index of one image that does not say what it is for."""
    assert select(Index("", [entry("1", "")]), Platform("linux", "amd64"), "x").digest[7] == "1"
    with pytest.raises(NotFound, match="none is for linux/amd64"):
        select(Index("", [entry("1", ""), entry("2", "")]), Platform("linux", "amd64"), "x")


def test_attestations_are_not_offered() -> None:
    """Build tools add entries for unknown/unknown: no platform to advise."""
    index = Index("", [entry("1", "unknown/unknown"), entry("2", "linux/arm64")])
    with pytest.raises(NotFound) as caught:
        select(index, Platform("linux", "amd64"), "x")
    assert (caught.value.hint.count("unknown"), "linux/arm64" in caught.value.hint) == (0, True)


def test_host_platform_reads_the_processors_level(tmp_path: Path) -> None:
    """Of x86-64 the level whose flags are all there."""
    v2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
    v3 = f"{v2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
    levels = []
    for flags in ("fpu", v2, v3, v3.replace("fma", "")):
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
        platform = host_platform(proc=str(tmp_path))
        levels.append(platform.variant if platform.architecture == "amd64" else None)
    assert levels in (["", "v2", "v3", "v2"], [None] * 4, ["v8"] * 4)
