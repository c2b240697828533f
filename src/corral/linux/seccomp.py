"""Seccomp filters: an OCI profile becomes a classic BPF program. Loading it is the executor's.

Meaning is runc's: conditions on one argument are alternatives, unknown syscalls are skipped, and a syscall newer than
all that the profile names gets ENOSYS. libseccomp does the work; a cache on disk spares it (and ctypes) the next time.

Source: runtime-spec config-linux.md#seccomp, seccomp(2).
"""

from __future__ import annotations

import errno
import posix

from corral.errors import InvalidArgument, Unsupported
from corral.linux import libseccomp, seccomp_cache
from corral.linux.bpf_classic import (
    INSN_SIZE,
    MAX_INSNS,
    compile_enosys_prologue,
    is_countable,
    structure_problem,
)
from corral.linux.seccomp_profile import (
    ACT_ALLOW,
    ACT_ERRNO,
    ACT_LOG,
    ACT_TRACE,
    ACTIONS,
    ARCHITECTURES,
    FLAG_NEW_LISTENER,
    FLAG_WAIT_KILLABLE_RECV,
    FLAGS,
    OPERATORS,
    Profile,
    Rule,
    parse_flags,
    parse_profile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ACTIONS", "ARCHITECTURES", "FLAGS", "OPERATORS", "SeccompProgram", "compile_profile", "library_version"]

# Part of the cache's key: raise it whenever the same profile shall give another program.
_FORMAT = 1
# From this many rules on, bisection pays (libseccomp 2.5 misbehaves if it is asked for with none).
_TREE_RULES = 32


class SeccompProgram:
    """``bpf``: an array of struct sock_filter. ``flags``: for seccomp(2), NEW_LISTENER among them if ``has_notify``.

    ``warnings``: what was left out, and why.
    """

    __slots__ = ("bpf", "flags", "has_notify", "warnings")

    def __init__(self, bpf: bytes, flags: int, has_notify: bool, warnings: tuple[str, ...]) -> None:
        self.bpf = bpf
        self.flags = flags
        self.has_notify = has_notify
        self.warnings = warnings


def library_version() -> tuple[int, int, int] | None:
    """libseccomp's version, None where there is no libseccomp. Imports ctypes."""
    try:
        return libseccomp.Library().version
    except Unsupported:
        return None


def compile_profile(
    seccomp: Mapping[str, object],
    *,
    cache_dir: str | None,
    log: Callable[[str], None] | None = None,
    fail_unknown: bool = False,
) -> SeccompProgram:
    """The filter for ``linux.seccomp`` of a config.json.

    ``cache_dir`` is made if needed; None: no cache. ``log`` gets a line about each odd thing in the cache.
    ``fail_unknown``: a syscall unknown to libseccomp is an error, not a warning.

    Raises: InvalidArgument with the config pointer; Unsupported (no libseccomp, or too old for what is asked).
    """
    flags = parse_flags(seccomp)
    library = libseccomp.library_path()
    key = _cache_key(seccomp, library, fail_unknown) if cache_dir and library else b""
    found = seccomp_cache.load(cache_dir, key) if cache_dir and key else None
    if found is None:
        found = _compile(parse_profile(seccomp), library, fail_unknown)
        if cache_dir and key:
            problem = seccomp_cache.store(cache_dir, key, *found)
            if problem and log is not None:
                log(f"keep seccomp program: {problem}")
    bpf, warnings = found
    # The entries are sound here: this very profile was decoded, now or when it was stored.
    entries: list[dict[str, object]] = seccomp.get("syscalls") or []  # type: ignore[assignment]
    has_notify = any(entry["action"] == "SCMP_ACT_NOTIFY" for entry in entries)
    if has_notify:
        flags |= FLAG_NEW_LISTENER
    elif flags & FLAG_WAIT_KILLABLE_RECV:
        # The kernel takes it only together with a listener.
        flags &= ~FLAG_WAIT_KILLABLE_RECV
        warnings += ("seccomp flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is ignored: no rule notifies",)
    return SeccompProgram(bpf, flags, has_notify, warnings)


def _cache_key(seccomp: Mapping[str, object], library: str, fail_unknown: bool) -> bytes:
    """All that the program depends on. The repr of values made of JSON is unambiguous, and quick."""
    fields = ("defaultAction", "defaultErrnoRet", "architectures", "syscalls")
    parts = [seccomp.get(field) for field in fields]
    identity = libseccomp.library_identity(library)
    # libseccomp asks the kernel which actions it has.
    kernel = posix.uname()
    text = repr((_FORMAT, kernel.machine, kernel.release, identity, fail_unknown, parts))
    return seccomp_cache.sha256(text.encode("utf-8", "surrogatepass"))


def _compile(profile: Profile, library_path: str, fail_unknown: bool) -> tuple[bytes, tuple[str, ...]]:
    library = libseccomp.Library(library_path)
    warnings: list[str] = []
    try:
        building = libseccomp.Filter(library, profile.default_action)
    except OSError as exc:
        raise _refused("use the default action", exc, "linux.seccomp.defaultAction") from exc
    with building:
        tokens = _add_architectures(building, library, profile)
        if len(profile.rules) > _TREE_RULES:
            building.use_binary_tree()
        for rule in profile.rules:
            if rule.action != profile.default_action:
                _add_rule(building, library, rule)
            warning = "" if library.syscall_or_none(tokens[0], rule.name) is not None else _unknown(library, rule)
            if warning and fail_unknown:
                raise InvalidArgument(
                    warning,
                    pointer=rule.pointer,
                    hint="correct the name, or drop the annotation run.oci.seccomp_fail_unknown_syscall",
                    phase="seccomp",
                )
            if warning:
                warnings.append(f"{warning}: skipped")
        program = building.export()
    program = _prologue(library, profile, tokens) + program
    if len(program) > MAX_INSNS * INSN_SIZE:
        raise InvalidArgument(
            f"compile seccomp profile: {len(program) // INSN_SIZE} instructions, the kernel takes {MAX_INSNS}",
            pointer="linux.seccomp.syscalls",
            hint="name fewer architectures or fewer conditions",
            phase="seccomp",
        )
    problem = structure_problem(program)
    if problem:
        raise Unsupported(f"compile seccomp profile: libseccomp {_dotted(library)} made a program whose {problem}")
    return program, tuple(dict.fromkeys(warnings))


def _add_architectures(building: libseccomp.Filter, library: libseccomp.Library, profile: Profile) -> list[int]:
    """Tokens of all architectures in the filter, the native one, which is always there, first."""
    tokens = [library.native_architecture()]
    for index, name in enumerate(profile.architectures):
        pointer = f"linux.seccomp.architectures[{index}]"
        token = library.architecture_or_none(ARCHITECTURES[name])
        if token is None:
            raise Unsupported(
                f"add seccomp architecture {name}: libseccomp {_dotted(library)} does not know it",
                pointer=pointer,
                phase="seccomp",
            )
        try:
            building.add_architecture(token)
        except OSError as exc:
            raise _refused(f"add seccomp architecture {name}", exc, pointer) from exc
        if token not in tokens:
            tokens.append(token)
    return tokens


def _add_rule(building: libseccomp.Filter, library: libseccomp.Library, rule: Rule) -> None:
    number = library.syscall_or_none(library.native_architecture(), rule.name)
    if number is None:
        return
    alternatives = [(condition,) for condition in rule.conditions] if rule.match_any else [rule.conditions]
    for conditions in alternatives:
        try:
            building.add_rule(rule.action, number, conditions)
        except OSError as exc:
            raise _refused(f"add seccomp rule for {rule.name}", exc, rule.pointer) from exc


def _prologue(library: libseccomp.Library, profile: Profile, tokens: list[int]) -> bytes:
    """The ENOSYS prologue, empty where the default action lets calls through (a tracer answers for itself)."""
    default = profile.default_action
    if default in (ACT_ALLOW, ACT_LOG, ACT_ERRNO | errno.ENOSYS) or default & ~0xFFFF == ACT_TRACE:
        return b""
    limits = []
    for token in tokens:
        numbers = [library.syscall_or_none(token, rule.name) for rule in profile.rules]
        countable = [number for number in numbers if number is not None and is_countable(token, number)]
        if countable:
            limits.append((token, max(countable)))
    return compile_enosys_prologue(limits)


def _unknown(library: libseccomp.Library, rule: Rule) -> str:
    return f"seccomp syscall {rule.name!r} is unknown to libseccomp {_dotted(library)}"


def _dotted(library: libseccomp.Library) -> str:
    return ".".join(map(str, library.version))


def _refused(act: str, exc: OSError, pointer: str) -> InvalidArgument:
    if exc.errno == errno.EDOM:
        cause = "byte order differs from this host's"
    elif exc.errno == errno.EEXIST:
        cause = "an earlier rule has another action for the same condition"
    else:
        cause = str(exc.strerror).lower()
    return InvalidArgument(f"{act}: {cause}", pointer=pointer, errno=exc.errno or 0, phase="seccomp")
