"""Mount options: from the words of config.json to the flags of mount(2) and mount_setattr(2).

Owns the table of options and the merging of several of them, where the last word wins. Whether a mount is a bind mount
by its ``type`` alone is the caller's knowledge: only options are seen here.

Source: runtime-spec config.md "Linux mount options"; include/uapi/linux/mount.h.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_POSIXACL = 1 << 16
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# Each option is (flags set, flags cleared, attributes set, attributes cleared, propagation, extension).
#
# The recursive access-time modes are values of one field, not bits: the kernel demands that whoever sets one clears the
# whole field (fs/namespace.c build_mount_kattr), and clearing a mode means relatime, the default.
MOUNT_OPTIONS: dict[str, tuple[int, int, int, int, int, str]] = {
    "acl": (MS_POSIXACL, 0, 0, 0, 0, ""),
    "async": (0, MS_SYNCHRONOUS, 0, 0, 0, ""),
    "atime": (0, MS_NOATIME, 0, 0, 0, ""),
    "bind": (MS_BIND, 0, 0, 0, 0, ""),
    "copy-symlink": (0, 0, 0, 0, 0, "copy-symlink"),
    "defaults": (0, 0, 0, 0, 0, ""),
    "dev": (0, MS_NODEV, 0, 0, 0, ""),
    "diratime": (0, MS_NODIRATIME, 0, 0, 0, ""),
    "dirsync": (MS_DIRSYNC, 0, 0, 0, 0, ""),
    "exec": (0, MS_NOEXEC, 0, 0, 0, ""),
    "idmap": (0, 0, 0, 0, 0, "idmap"),
    "iversion": (MS_I_VERSION, 0, 0, 0, 0, ""),
    "lazytime": (MS_LAZYTIME, 0, 0, 0, 0, ""),
    "loud": (0, MS_SILENT, 0, 0, 0, ""),
    "mand": (MS_MANDLOCK, 0, 0, 0, 0, ""),
    "noacl": (0, MS_POSIXACL, 0, 0, 0, ""),
    "noatime": (MS_NOATIME, 0, 0, 0, 0, ""),
    "nodev": (MS_NODEV, 0, 0, 0, 0, ""),
    "nodiratime": (MS_NODIRATIME, 0, 0, 0, 0, ""),
    "noexec": (MS_NOEXEC, 0, 0, 0, 0, ""),
    "noiversion": (0, MS_I_VERSION, 0, 0, 0, ""),
    "nolazytime": (0, MS_LAZYTIME, 0, 0, 0, ""),
    "nomand": (0, MS_MANDLOCK, 0, 0, 0, ""),
    "norelatime": (0, MS_RELATIME, 0, 0, 0, ""),
    "nostrictatime": (0, MS_STRICTATIME, 0, 0, 0, ""),
    "nosuid": (MS_NOSUID, 0, 0, 0, 0, ""),
    "nosymfollow": (MS_NOSYMFOLLOW, 0, 0, 0, 0, ""),
    "private": (0, 0, 0, 0, MS_PRIVATE, ""),
    "ratime": (0, 0, 0, MOUNT_ATTR__ATIME, 0, ""),
    "rbind": (MS_BIND | MS_REC, 0, 0, 0, 0, ""),
    "rdev": (0, 0, 0, MOUNT_ATTR_NODEV, 0, ""),
    "rdiratime": (0, 0, 0, MOUNT_ATTR_NODIRATIME, 0, ""),
    "relatime": (MS_RELATIME, 0, 0, 0, 0, ""),
    "remount": (MS_REMOUNT, 0, 0, 0, 0, ""),
    "rexec": (0, 0, 0, MOUNT_ATTR_NOEXEC, 0, ""),
    "ridmap": (0, 0, 0, 0, 0, "ridmap"),
    "rnoatime": (0, 0, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, ""),
    "rnodev": (0, 0, MOUNT_ATTR_NODEV, 0, 0, ""),
    "rnodiratime": (0, 0, MOUNT_ATTR_NODIRATIME, 0, 0, ""),
    "rnoexec": (0, 0, MOUNT_ATTR_NOEXEC, 0, 0, ""),
    "rnorelatime": (0, 0, 0, MOUNT_ATTR__ATIME, 0, ""),
    "rnostrictatime": (0, 0, 0, MOUNT_ATTR__ATIME, 0, ""),
    "rnosuid": (0, 0, MOUNT_ATTR_NOSUID, 0, 0, ""),
    "rnosymfollow": (0, 0, MOUNT_ATTR_NOSYMFOLLOW, 0, 0, ""),
    "ro": (MS_RDONLY, 0, 0, 0, 0, ""),
    "rprivate": (0, 0, 0, 0, MS_PRIVATE | MS_REC, ""),
    "rrelatime": (0, 0, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, 0, ""),
    "rro": (0, 0, MOUNT_ATTR_RDONLY, 0, 0, ""),
    "rrw": (0, 0, 0, MOUNT_ATTR_RDONLY, 0, ""),
    "rshared": (0, 0, 0, 0, MS_SHARED | MS_REC, ""),
    "rslave": (0, 0, 0, 0, MS_SLAVE | MS_REC, ""),
    "rstrictatime": (0, 0, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, 0, ""),
    "rsuid": (0, 0, 0, MOUNT_ATTR_NOSUID, 0, ""),
    "rsymfollow": (0, 0, 0, MOUNT_ATTR_NOSYMFOLLOW, 0, ""),
    "runbindable": (0, 0, 0, 0, MS_UNBINDABLE | MS_REC, ""),
    "rw": (0, MS_RDONLY, 0, 0, 0, ""),
    "shared": (0, 0, 0, 0, MS_SHARED, ""),
    "silent": (MS_SILENT, 0, 0, 0, 0, ""),
    "slave": (0, 0, 0, 0, MS_SLAVE, ""),
    "strictatime": (MS_STRICTATIME, 0, 0, 0, 0, ""),
    "suid": (0, MS_NOSUID, 0, 0, 0, ""),
    "symfollow": (0, MS_NOSYMFOLLOW, 0, 0, 0, ""),
    "sync": (MS_SYNCHRONOUS, 0, 0, 0, 0, ""),
    "tmpcopyup": (0, 0, 0, 0, 0, "tmpcopyup"),
    "unbindable": (0, 0, 0, 0, MS_UNBINDABLE, ""),
}

# linux.rootfsPropagation -> flags of mount(2). The spec names the first four, runc takes the recursive ones too.
ROOTFS_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
}


class MountOptions:
    """The options of one mount, merged.

    - ``flags`` (MS_*): set. Never holds propagation bits, which mount(2) takes only alone.
    - ``flags_cleared``: explicitly unset; a bind remount in a user namespace must know them apart from "not said".
    - ``attr_set``, ``attr_clear``: for mount_setattr(2) with AT_RECURSIVE; both 0 when nothing recursive was asked.
    - ``propagation``: MS_* values, one call of mount(2) each, in order.
    - ``data``: everything that is not in the table, for the filesystem, joined by commas.
    - ``idmap``: ``""``, ``"idmap"`` or ``"ridmap"``.
    """

    __slots__ = (
        "attr_clear",
        "attr_set",
        "copy_symlink",
        "data",
        "flags",
        "flags_cleared",
        "idmap",
        "is_bind",
        "is_recursive_bind",
        "propagation",
        "tmpcopyup",
    )

    def __init__(self) -> None:
        self.flags = 0
        self.flags_cleared = 0
        self.attr_set = 0
        self.attr_clear = 0
        self.propagation: list[int] = []
        self.data = ""
        self.is_bind = False
        self.is_recursive_bind = False
        self.tmpcopyup = False
        self.copy_symlink = False
        self.idmap = ""


def parse_mount_options(options: Iterable[str]) -> MountOptions:
    """Merge ``options`` in order; of two that contradict each other, the later wins. Empty words are skipped."""
    merged = MountOptions()
    flags = cleared = attr_set = attr_clear = 0
    data: list[str] = []
    for option in options:
        known = MOUNT_OPTIONS.get(option)
        if known is None:
            if option:
                data.append(option)
            continue
        set_flags, clear_flags, set_attr, clear_attr, propagation, extension = known
        flags = flags & ~clear_flags | set_flags
        cleared = cleared & ~set_flags | clear_flags
        # Clear first, then set: with an access-time mode both name the same field. A bit set later is no longer to
        # be cleared, but the access-time field must stay cleared for the kernel to accept the new mode.
        attr_set = attr_set & ~clear_attr | set_attr
        attr_clear = attr_clear & ~(set_attr & ~MOUNT_ATTR__ATIME) | clear_attr
        if propagation:
            merged.propagation.append(propagation)
        if extension:
            _set_extension(merged, extension)
    merged.flags = flags
    merged.flags_cleared = cleared
    merged.attr_set = attr_set
    merged.attr_clear = attr_clear
    merged.data = ",".join(data)
    merged.is_bind = flags & MS_BIND != 0
    merged.is_recursive_bind = flags & (MS_BIND | MS_REC) == MS_BIND | MS_REC
    return merged


def _set_extension(merged: MountOptions, extension: str) -> None:
    if extension == "tmpcopyup":
        merged.tmpcopyup = True
    elif extension == "copy-symlink":
        merged.copy_symlink = True
    else:
        merged.idmap = extension
