"""Where an engine keeps things: the store, which survives a reboot, and the run directory, which need not.

The tree is drawn in docs/design/engine.md. Paths only: nothing here knows what the files say.
"""

from __future__ import annotations

import posix

from corral.errors import InvalidArgument, PermissionDenied
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Places", "is_rootless"]

DEFAULT_STORE = "/var/lib/corral"
DEFAULT_RUN = "/run/corral"
_OTHERS_WRITE = 0o002


class Places:
    """The paths of one store. ``store`` and ``run`` are absolute; ``prepare`` makes the directories."""

    __slots__ = ("_prefix", "run", "store")

    def __init__(self, store: str, run: str = "") -> None:
        for name, value in (("store", store), ("run directory", run or store)):
            if not value.startswith("/") or "\0" in value:
                raise InvalidArgument(f"use the {name} {value!r}: it is not an absolute path")
        self.store = paths.normpath(store)
        self.run = paths.normpath(run) if run else f"{self.store}/run"
        self._prefix = f"{self.store}/containers/"

    @classmethod
    def find(cls, environ: Mapping[str, str], *, store: str = "", run: str = "") -> Places:
        """The places of a caller: what was given, else the environment, else the default for its user."""
        store = store or environ.get("CORRAL_STORE", "")
        run = run or environ.get("CORRAL_RUN_DIR", "")
        if not store:
            store = _default_store(environ)
            run = run or _default_run(environ, store)
        cwd = "" if store.startswith("/") and (not run or run.startswith("/")) else posix.getcwd()
        return cls(paths.join(cwd, store), paths.join(cwd, run) if run else "")

    def prepare(self) -> None:
        """Make what an engine needs before its first verb. Idempotent. Raises: PermissionDenied, OSError."""
        self._check_owner()
        if paths.isdir(self.runtime_root) and paths.isdir(self.events) and paths.isdir(self.names):
            return
        try:
            for path in (self.store, self.run):
                paths.make_directories(path, 0o711)
            for path in (self.containers, self.names, self.pods, self.events, self.volumes):
                paths.make_directories(path, 0o700)
            paths.make_directories(f"{self.run}/containers", 0o700)
            paths.make_directories(self.runtime_root, 0o711)
        except OSError as exc:
            if isinstance(exc, PermissionError):
                raise PermissionDenied(
                    f"use the store {self.store}: permission denied at {exc.filename}",
                    hint="choose one of your own with --store DIR",
                    path=str(exc.filename or self.store),
                ) from exc
            raise

    def _check_owner(self) -> None:
        """What a store says is done with the rights of who asks: its definitions may be anything, mounts and hooks too.

        Raises: PermissionDenied for a store of somebody else's, or one that everybody may change.
        """
        try:
            info = posix.stat(self.store)
        except OSError:
            return  # it is made below, or cannot be reached, and that is told there
        if info.st_uid == posix.geteuid() and not info.st_mode & _OTHERS_WRITE:
            return
        whose = "everybody may write there" if info.st_uid == posix.geteuid() else f"it belongs to uid {info.st_uid}"
        raise PermissionDenied(
            f"use the store {self.store}: {whose}",
            hint="choose one of your own with --store DIR; what a store says is done with your rights",
            path=self.store,
        )

    @property
    def containers(self) -> str:
        return f"{self.store}/containers"

    @property
    def names(self) -> str:
        return f"{self.store}/names"

    @property
    def pods(self) -> str:
        return f"{self.store}/pods"

    @property
    def volumes(self) -> str:
        return f"{self.store}/volumes"

    @property
    def networks(self) -> str:
        return f"{self.store}/networks"

    @property
    def images(self) -> str:
        return f"{self.store}/images"

    @property
    def layers(self) -> str:
        return f"{self.store}/layers"

    @property
    def events(self) -> str:
        return f"{self.store}/events"

    @property
    def index(self) -> str:
        return f"{self.store}/index.db"

    @property
    def runtime_root(self) -> str:
        """A state root for corral-runtime: the records of this store's containers."""
        return f"{self.run}/runtime"

    def container(self, container_id: str) -> str:
        """STORE/containers/ID."""
        return self._prefix + container_id

    def container_run(self, container_id: str) -> str:
        """RUN/containers/ID: bundle, rootfs, monitor.sock."""
        return f"{self.run}/containers/{container_id}"

    def bundle(self, container_id: str) -> str:
        """RUN/containers/ID/bundle."""
        return f"{self.container_run(container_id)}/bundle"

    def exec_run(self, container_id: str, exec_id: str) -> str:
        """RUN/containers/ID/exec/EID: one exec's process.json, monitor.sock, exit, log."""
        return f"{self.container_run(container_id)}/exec/{exec_id}"

    def record(self, container_id: str) -> str:
        """RUN/runtime/ID: the runtime's record."""
        return f"{self.runtime_root}/{container_id}"

    def pod(self, pod_id: str) -> str:
        """STORE/pods/ID."""
        return f"{self.pods}/{pod_id}"

    def __repr__(self) -> str:
        return f"Places({self.store!r}, {self.run!r})"


# The user namespace that was asked about last, and whether its root is another than the host's.
_asked: tuple[int, bool] | None = None


def is_rootless() -> bool:
    """Whether this user is not the host's root: somebody else, or root of a user namespace."""
    global _asked
    if posix.geteuid() != 0:
        return True
    # Maps are written once, so the answer is the namespace's for good.
    namespace = posix.stat("/proc/self/ns/user").st_ino
    if _asked is None or _asked[0] != namespace:
        from corral.linux.idmap import is_initial_map, read_map

        _asked = (namespace, not is_initial_map(read_map("uid")))
    return _asked[1]


def _default_store(environ: Mapping[str, str]) -> str:
    if not is_rootless():
        return DEFAULT_STORE
    data = environ.get("XDG_DATA_HOME", "")
    if not data:
        home = environ.get("HOME", "")
        if not home:
            raise InvalidArgument(
                "find the store: neither XDG_DATA_HOME nor HOME is set", hint="choose one with --store DIR"
            )
        data = f"{home}/.local/share"
    return f"{data}/corral"


def _default_run(environ: Mapping[str, str], store: str) -> str:
    if not is_rootless():
        return DEFAULT_RUN
    runtime_dir = environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime_dir}/corral" if runtime_dir else f"{store}/run"
