"""Which manifest of an index fits a machine.

Owns the names of architectures and their variants, and the choice. Cheap to import.

Source: image-spec image-index.md "platform"; Go's GOOS/GOARCH names; psABI x86-64 levels.
"""

from __future__ import annotations

import posix

from corral.errors import InvalidArgument, NotFound
from corral.image.manifest import Descriptor, Index, Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The kernel's name -> (GOARCH, variant).
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}
# Names that people write for them.
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_ALIAS_VARIANTS = {"armhf": "v7", "armel": "v6"}
# An image without a variant is taken to be for this one.
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
# What the level of x86-64 needs over the one before: flags of /proc/cpuinfo.
_LEVELS = (
    ("v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"),
    ("v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    ("v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
)


def host_platform(*, proc: str = "/proc") -> Platform:
    """This machine's platform; for amd64 with the level that its processor has."""
    machine = posix.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    if architecture == "amd64":
        variant = _x86_level(_cpu_flags(proc))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """``linux/arm64/v8``, ``arm64``, ``linux/amd64`` as a platform. Raises: InvalidArgument."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part and part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise InvalidArgument(f"parse platform {text!r}: not OS/ARCH[/VARIANT]", hint="for example linux/arm64/v8")
    os, architecture = ("linux", parts[0]) if len(parts) == 1 else parts[:2]
    variant = parts[2] if len(parts) == 3 else _ALIAS_VARIANTS.get(architecture, "")
    return Platform(os, _ALIASES.get(architecture, architecture), variant)


def fits(offered: Platform, wanted: Platform) -> bool:
    """Whether an image for ``offered`` runs where ``wanted`` was asked for."""
    return _rank(offered, wanted) >= 0


def select(index: Index, wanted: Platform, name: str) -> Descriptor:
    """The manifest of ``index`` that suits ``wanted`` best; of equals the first. Raises: NotFound, with a list."""
    ranked = [(_rank(item.platform, wanted), item) for item in index.manifests if item.platform is not None]
    best = max((rank for rank, _item in ranked), default=-1)
    if best >= 0:
        return next(item for rank, item in ranked if rank == best)
    without = [item for item in index.manifests if item.platform is None]
    if not ranked and len(without) == 1:
        return without[0]
    raise NotFound(
        f"choose image of {name}: none is for {wanted}",
        hint=f"there are {_listed(item.platform for _rank_, item in ranked) or 'no images at all'}; see --platform",
    )


def _listed(platforms: Iterable[Platform | None]) -> str:
    # Build tools add attestations under the platform unknown/unknown.
    names = {str(platform) for platform in platforms if platform is not None and platform.os != "unknown"}
    return ", ".join(sorted(names))


def _rank(offered: Platform | None, wanted: Platform) -> int:
    """-1: does not fit; otherwise the higher the better."""
    if offered is None or (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return -1
    default = _DEFAULT_VARIANT.get(wanted.architecture, "")
    have, want = _number(offered.variant or default), _number(wanted.variant or default)
    if have < 0 or want < 0:
        return 0 if offered.variant == wanted.variant else -1
    return have if have <= want else -1


def _number(variant: str) -> int:
    """v7 -> 7; no variant -> 0; a word that is none -> -1."""
    if not variant:
        return 0
    digits = variant[1:]
    return int(digits) if variant[0] == "v" and digits.isascii() and digits.isdigit() else -1


def _x86_level(flags: frozenset[str]) -> str:
    level = ""
    for name, needed in _LEVELS:
        if not flags.issuperset(needed.split()):
            break
        level = name
    return level


def _cpu_flags(proc: str) -> frozenset[str]:
    try:
        with open(f"{proc}/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass  # an unreadable /proc means the lowest level, which every image without a variant is for
    return frozenset()
