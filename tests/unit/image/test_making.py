"""Trees that are made once, and transfers that end together."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from corral.errors import Unavailable
from corral.image.making import make_once
from corral.image.parallel import do_all
from corral.image.progress import Cancel, Cancelled


def test_tree_is_made_once_when_many_want_it(tmp_path: Path) -> None:
    """One makes it and the others wait for it."""
    trees = tmp_path / "trees"
    trees.mkdir()
    made: list[int] = []

    def fill(target: int) -> None:
        made.append(target)
        os.mkdir("inside", dir_fd=target)

    threads = [threading.Thread(target=make_once, args=(str(trees / "tree"), fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(made)
    assert ["tree"] == os.listdir(trees)
    assert ["inside"] == os.listdir(trees / "tree")


def test_tree_is_not_there_until_it_is_complete(tmp_path: Path) -> None:
    """What one that broke off had made is no part of the next one's."""

    def break_off(target: int) -> None:
        os.mkdir("half", dir_fd=target)
        raise OSError(28, "no space")

    trees = tmp_path / "trees"
    trees.mkdir()
    final = trees / "tree"
    with pytest.raises(OSError, match="no space"):
        make_once(str(final), break_off)
    assert not final.exists()

    make_once(str(final), lambda target: os.mkdir("whole", dir_fd=target))

    assert ["whole"] == os.listdir(final)
    assert ["tree"] == os.listdir(trees)


def test_jobs_are_all_done_when_none_refuses() -> None:
    """However many may run at a time; none at all is fine too."""
    done: list[int] = []
    do_all([lambda number=number: done.append(number) for number in range(9)], at_once=2, cancel=Cancel(), name="t")  # type: ignore[misc]
    do_all([], at_once=2, cancel=Cancel(), name="t")
    assert list(range(9)) == sorted(done)


def test_others_stop_when_one_job_refuses() -> None:
    """Its own words are what is heard, not that the others were cancelled."""
    cancel, begun = Cancel(), threading.Event()
    stopped: list[str] = []

    def refuse() -> None:
        begun.wait(30)
        raise Unavailable("fetch layer one: gone")

    def go_on() -> None:
        begun.set()
        try:
            cancel.wait(30, "fetch layer two")
        except Cancelled as exc:
            stopped.append(exc.message)
            raise

    with pytest.raises(Unavailable, match="fetch layer one: gone"):
        do_all([refuse, go_on], at_once=2, cancel=cancel, name="t")
    assert ["fetch layer two: cancelled"] == stopped
