"""Several machines at a time: each batch of selections on one of its own, what they report kept until it is asked for.

Pytest is one thread, and shows one cell after the other; the machines do not wait for that.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self

from vm.bench import Outcome, boot, run_selection
from vm.cells import Batch, Selection
from vm.machine import Machine
from vm.store import RESULTS, processors

__all__ = ["Fleet"]

END_LIMIT_S = 30
# A report, then at last what became of the selection, or why it came to nothing.
Item = dict[str, Any] | Outcome | Exception


class Fleet:
    """As many machines as there are processors, until every batch is done. On leaving it, all of them are gone."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._waiting = queue.SimpleQueue[Batch]()
        for batch in batches:
            self._waiting.put(batch)
        self._found = {item.name: queue.SimpleQueue[Item]() for batch in batches for item in batch}
        self._machines: set[Machine] = set()
        self._lock = threading.Lock()
        self._is_over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(processors())]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            for machine in self._machines:
                machine.end()
        for thread in self._threads:
            # One that waits for its turn has no machine, and ends with this process.
            thread.join(END_LIMIT_S)

    def follow(self, selection: Selection) -> Iterator[dict[str, Any] | Outcome]:
        """The selection's reports as they arrive, then its outcome.

        Raises:
            BenchError: its machine did not boot, or was lost.
        """
        while True:
            item = self._found[selection.name].get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Outcome):
                return

    def _work(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self._is_over:
                self._run(collections.deque(self._waiting.get_nowait()))

    def _run(self, rest: collections.deque[Selection]) -> None:
        """Run the selections of a batch; what follows the loss of a machine, on a new one."""
        while rest and not self._is_over:
            try:
                with boot(rest[0].cell) as machine, self._known(machine):
                    while rest and not self._is_over:
                        found = self._found[rest[0].name]
                        found.put(run_selection(machine, rest[0], found.put, RESULTS / "cells" / rest[0].name))
                        rest.popleft()
            except Exception as error:
                # Whoever follows this selection raises it: a thread has nobody else to tell.
                self._found[rest.popleft().name].put(error)

    @contextlib.contextmanager
    def _known(self, machine: Machine) -> Iterator[None]:
        """While it runs, the machine can be ended from outside."""
        with self._lock:
            self._machines.add(machine)
            if self._is_over:
                machine.end()
        yield
        with self._lock:
            self._machines.discard(machine)
