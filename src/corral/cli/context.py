"""What every command needs: where the store is, the engine's verbs, and this process's streams and environment."""

from __future__ import annotations

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

    __slots__ = ("_places", "_remote", "given")

    def __init__(self, given: Mapping[str, str | bool | list[str]]) -> None:
        self.given = given
        self._places: Places | None = None
        # None: not looked for yet; False: there is no service, or it is not wanted.
        self._remote: Remote | bool | None = None

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
        from corral.engine import remote

        if name in remote.VERBS and not callable(options.get("attach")):
            if self._remote is None:
                wanted = not self.given.get("no-service")
                self._remote = (remote.Remote.connect_or_none(self.places, posix.geteuid()) if wanted else None) or False
            if isinstance(self._remote, remote.Remote):
                return self._remote.call(name, args, options)
        from corral.engine.verbs import find

        return find(name)(self.places, *args, **options)


def write(text: str) -> None:
    """Print to stdout."""
    sys.stdout.write(text)


def complain(text: str) -> None:
    """Print to stderr, after what stdout has."""
    sys.stdout.flush()
    sys.stderr.write(text)


def is_terminal(fd: int) -> bool:
    """Whether a descriptor is a terminal."""
    return posix.isatty(fd)
