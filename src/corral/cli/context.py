"""What every command needs: where the store is, the engine's verbs, and this process's streams and environment."""

from __future__ import annotations

import _thread
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.remote import Remote


class Context:
    """One run of the program. ``places`` is found, and its directories made, when it is first asked for."""

    __slots__ = ("_asking", "_is_searched", "_places", "_remote", "given")

    def __init__(self, given: Mapping[str, str | bool | list[str]]) -> None:
        self.given = given
        self._places: Places | None = None
        self._remote: Remote | None = None
        self._is_searched = False
        self._asking = _thread.allocate_lock()

    @property
    def places(self) -> Places:
        """The store that this command works on."""
        if self._places is None:
            from corral.engine.places import Places

            store, run = (self.given.get(name, "") for name in ("store", "run-dir"))
            assert isinstance(store, str)
            assert isinstance(run, str)
            self._places = Places.find(self.environ, store=store, run=run)
            self._places.prepare()
        return self._places

    @property
    def environ(self) -> dict[str, str]:
        """The environment as text; bytes that are none become surrogates."""
        return {
            name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
            for name, value in posix.environ.items()
        }

    @property
    def cwd(self) -> str:
        """The working directory."""
        return posix.getcwd()

    def verb(self, name: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 -- each verb has its own
        """Call a verb of the engine on this store: through its service where one answers."""
        remote = self._find_remote()
        if remote is not None and remote.offers(name, options):
            from corral.engine.remote import OtherVersion

            try:
                return self._ask(remote, name, args, options)
            except OtherVersion as exc:
                # An upgrade that the service has slept through: nothing needs it.
                complain(f"warning: {exc}: not used\nhint: {exc.hint}\n")
                remote.close()
                self._remote = None
        from corral.engine.verbs import find

        return find(name)(self.places, *args, **options)

    def _ask(self, remote: Remote, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ANN401
        """Call through the service. A thread that passes a signal on beside a call has a connection of its own: on one,
        each would read the other's answer.
        """
        if self._asking.acquire(blocking=False):
            try:
                return remote.call(name, args, options)
            finally:
                self._asking.release()
        from corral.engine.remote import Remote
        from corral.errors import Unavailable

        other = Remote.connect_or_none(self.places, posix.geteuid())
        if other is None:
            raise Unavailable(f"call {name}: the service does not answer")
        try:
            return other.call(name, args, options)
        finally:
            other.close()

    def _find_remote(self) -> Remote | None:
        """The service of this store, asked for once. Most stores have none: then nothing is imported for it."""
        if not self._is_searched:
            self._is_searched = True
            if not self.given.get("no-service") and posix.access(f"{self.places.run}/serve.sock", posix.W_OK):
                from corral.engine.remote import Remote

                self._remote = Remote.connect_or_none(self.places, posix.geteuid())
        return self._remote


def write(text: str) -> None:
    """Print to stdout."""
    sys.stdout.write(text)


def complain(text: str) -> None:
    """Print to stderr, after what stdout has, and at once: a question ends within its line.

    It may quote what containers and images say of themselves.
    """
    from corral.cli.render import printable

    sys.stdout.flush()
    sys.stderr.write("\n".join(map(printable, text.split("\n"))))
    sys.stderr.flush()


def is_terminal(fd: int) -> bool:
    """Whether a descriptor is a terminal."""
    return posix.isatty(fd)
