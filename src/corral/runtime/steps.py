"""The steps of a plan: name -> (wire number, signature, description).

Generated from native/executor/steps.def by tools/gen_steps.py; do not edit. A letter of the signature is one
argument: i = 64-bit integer, s = string, v = vector of strings, b = blob.
"""

from __future__ import annotations

STEPS: dict[str, tuple[int, str, str]] = {
    "SYNC": (1, "s", "wait for {0}"),
    "PASS_FD": (2, "i", "hand over descriptor {0}"),
    "TAKE_FD": (3, "i", "take descriptor {0}"),
    "WARN": (4, "s", "warn: {0}"),
    "CG_DEFINE": (10, "iissi", "name cgroup {0}: {2}{3}"),
    "CG_MAKE": (11, "iis", "create cgroup {0}"),
    "CG_WRITE": (12, "issi", "write '{2}' to {1} of cgroup {0}"),
    "CG_READ": (13, "isi", "read {1} of cgroup {0}"),
    "CG_ATTACH": (14, "ii", "move the process into cgroup {0}"),
    "CG_DEVICES": (15, "ib", "attach the device filter to cgroup {0}"),
    "CG_REMOVE": (16, "ii", "remove cgroup {0}"),
    "CG_THAW": (17, "i", "thaw cgroup {0}"),
    "CG_KILL": (18, "ii", "kill all processes of cgroup {0}"),
    "RESCTRL_MAKE": (19, "sssi", "set up the resctrl group {0}"),
    "HOLD": (23, "s", "start the process that keeps the scope of {0}"),
    "SCOPE": (21, "s", "start the systemd unit {0}"),
    "CG_CHOWN": (22, "iiiv", "hand cgroup {0} to uid {1}"),
    "RESCTRL_REMOVE": (20, "s", "remove the resctrl group {0}"),
    "SPAWN": (30, "ii", "clone the container's first process"),
    "STAGE": (31, "i", "fork the stage process"),
    "JOIN_PATHS": (32, "v", "join the namespaces given by path"),
    "JOIN_CONTAINER": (33, "iii", "join the namespaces of process {0}"),
    "UNSHARE": (34, "i", "unshare namespaces"),
    "FORK": (35, "ii", "fork the container's process"),
    "ID_MAPS": (36, "isssss", "write the id mappings"),
    "TIME_OFFSETS": (37, "s", "set the time namespace's offsets"),
    "BECOME_ROOT": (38, "i", "become root of the user namespace"),
    "OOM_SCORE": (39, "ii", "set oom_score_adj to {0}"),
    "PRLIMIT": (40, "isii", "set the limit {1}"),
    "SESSION": (41, "s", "start a session and its keyring {0}"),
    "PRIVATE_PROC": (42, "i", "open a private handle on /proc"),
    "START_LISTEN": (50, "ii", "open the start socket"),
    "COMMIT": (51, "i", "ask for the verdict"),
    "PID_FILE": (52, "s", "write the pid file {0}"),
    "CONSOLE_CONNECT": (53, "si", "connect to the console socket {0}"),
    "PIDFD_SEND": (54, "s", "send the pidfd to {0}"),
    "CONSOLE_SEND": (55, "ii", "send the console to its socket"),
    "SECCOMP_SEND": (56, "ssssi", "send the seccomp listener to {0}"),
    "NOTIFY_LISTEN": (57, "s", "open the notify socket {0}"),
    "NOTIFY_RELAY": (58, "ss", "relay the container's readiness to {1}"),
    "FRONT_MODE": (59, "ii", "set the front's mode"),
    "DONE": (61, "i", "record that the container is complete"),
    "ENTER": (62, "s", "enter the bundle {0}"),
    "OWN_STDIO": (63, "ii", "give the pipes of the standard streams to uid {0}, gid {1}"),
    "NET_MOVE": (60, "ss", "move the network device {0} into the container"),
    "OPEN_TREE": (70, "isi", "open {1} for mounting"),
    "IDMAP_TREE": (71, "issi", "map the ids of the mount in slot {0}"),
    "ROOT_PROPAGATION": (72, "i", "set the propagation of /"),
    "ROOTFS": (73, "si", "prepare the rootfs {0}"),
    "MOUNT_FS": (74, "ssssiiiii", "mount {1} on {2}"),
    "BIND": (75, "ssiiiiii", "mount {0} on {1}"),
    "REMOUNT": (76, "sis", "remount {0}"),
    "MKDIR": (77, "si", "create directory {0}"),
    "SYMLINK": (78, "ssi", "create the link {1} to {0}"),
    "MKNOD": (79, "siiii", "create device {0}"),
    "MASK": (80, "s", "mask {0}"),
    "READONLY": (81, "s", "make {0} read-only"),
    "CONSOLE": (82, "iiii", "open the container's terminal"),
    "PIVOT": (83, "i", "change the root to the rootfs"),
    "READONLY_ROOT": (84, "i", "make the rootfs read-only"),
    "PROPAGATE_ROOT": (85, "i", "set the rootfs propagation"),
    "ATTACH_TREE": (86, "isiiii", "mount the tree in slot {0} on {1}"),
    "OVERLAY": (88, "ivssi", "stack the layers of the root"),
    "OVERLAY_FUSE": (90, "sss", "stack the layers of the root by {0}"),
    "ROOTFS_TREE": (89, "si", "mount the root on {0}"),
    "DETACH": (87, "s", "unmount {0}"),
    "HOOK": (100, "ssvvissi", "run the {0} hook {1}"),
    "HOOK_OUTPUT": (101, "ss", "redirect the output of hooks"),
    "HOSTNAME": (102, "s", "set the host name to {0}"),
    "DOMAINNAME": (103, "s", "set the domain name to {0}"),
    "SYSCTL": (104, "ss", "set the sysctl {0} to '{1}'"),
    "LOOPBACK": (105, "i", "bring the loopback device up"),
    "SCHEDULER": (106, "b", "set the scheduling policy"),
    "IO_PRIORITY": (107, "i", "set the io priority"),
    "CPU_AFFINITY": (108, "s", "set the cpu affinity to {0}"),
    "MEMORY_POLICY": (109, "is", "set the memory policy"),
    "PERSONALITY": (110, "i", "set the personality"),
    "UMASK": (111, "i", "set the umask"),
    "FIND_PROGRAM": (112, "ss", "exec {0}"),
    "FIND_HOME": (113, "i", "look up the home directory of uid {0}"),
    "WORKDIR": (114, "si", "change to the working directory {0}"),
    "CREDENTIALS": (115, "iibiiiiii", "become uid {0}, gid {1}"),
    "NO_NEW_PRIVS": (116, "i", "set no_new_privs"),
    "LSM_LABEL": (117, "sss", "set the {0} label {2}"),
    "SECCOMP": (118, "bii", "load the seccomp filter"),
    "WAIT_START": (119, "ii", "wait for start"),
    "PREPARE_FDS": (120, "i", "keep {0} extra descriptors"),
    "EXEC": (121, "vvi", "exec the program"),
    "STATE_DOC": (140, "sss", "print the state"),
    "RELEASE": (141, "i", "start the container's process"),
    "KILL_SCOPE": (142, "i", "signal the container"),
    "KILL_INIT": (143, "i", "kill the container's process and wait for its end"),
    "REMOVE_RECORD": (144, "i", "remove the container's record"),
}

# The wire numbers under their names.
OP_SYNC = 1
OP_PASS_FD = 2
OP_TAKE_FD = 3
OP_WARN = 4
OP_CG_DEFINE = 10
OP_CG_MAKE = 11
OP_CG_WRITE = 12
OP_CG_READ = 13
OP_CG_ATTACH = 14
OP_CG_DEVICES = 15
OP_CG_REMOVE = 16
OP_CG_THAW = 17
OP_CG_KILL = 18
OP_RESCTRL_MAKE = 19
OP_HOLD = 23
OP_SCOPE = 21
OP_CG_CHOWN = 22
OP_RESCTRL_REMOVE = 20
OP_SPAWN = 30
OP_STAGE = 31
OP_JOIN_PATHS = 32
OP_JOIN_CONTAINER = 33
OP_UNSHARE = 34
OP_FORK = 35
OP_ID_MAPS = 36
OP_TIME_OFFSETS = 37
OP_BECOME_ROOT = 38
OP_OOM_SCORE = 39
OP_PRLIMIT = 40
OP_SESSION = 41
OP_PRIVATE_PROC = 42
OP_START_LISTEN = 50
OP_COMMIT = 51
OP_PID_FILE = 52
OP_CONSOLE_CONNECT = 53
OP_PIDFD_SEND = 54
OP_CONSOLE_SEND = 55
OP_SECCOMP_SEND = 56
OP_NOTIFY_LISTEN = 57
OP_NOTIFY_RELAY = 58
OP_FRONT_MODE = 59
OP_DONE = 61
OP_ENTER = 62
OP_OWN_STDIO = 63
OP_NET_MOVE = 60
OP_OPEN_TREE = 70
OP_IDMAP_TREE = 71
OP_ROOT_PROPAGATION = 72
OP_ROOTFS = 73
OP_MOUNT_FS = 74
OP_BIND = 75
OP_REMOUNT = 76
OP_MKDIR = 77
OP_SYMLINK = 78
OP_MKNOD = 79
OP_MASK = 80
OP_READONLY = 81
OP_CONSOLE = 82
OP_PIVOT = 83
OP_READONLY_ROOT = 84
OP_PROPAGATE_ROOT = 85
OP_ATTACH_TREE = 86
OP_OVERLAY = 88
OP_OVERLAY_FUSE = 90
OP_ROOTFS_TREE = 89
OP_DETACH = 87
OP_HOOK = 100
OP_HOOK_OUTPUT = 101
OP_HOSTNAME = 102
OP_DOMAINNAME = 103
OP_SYSCTL = 104
OP_LOOPBACK = 105
OP_SCHEDULER = 106
OP_IO_PRIORITY = 107
OP_CPU_AFFINITY = 108
OP_MEMORY_POLICY = 109
OP_PERSONALITY = 110
OP_UMASK = 111
OP_FIND_PROGRAM = 112
OP_FIND_HOME = 113
OP_WORKDIR = 114
OP_CREDENTIALS = 115
OP_NO_NEW_PRIVS = 116
OP_LSM_LABEL = 117
OP_SECCOMP = 118
OP_WAIT_START = 119
OP_PREPARE_FDS = 120
OP_EXEC = 121
OP_STATE_DOC = 140
OP_RELEASE = 141
OP_KILL_SCOPE = 142
OP_KILL_INIT = 143
OP_REMOVE_RECORD = 144
