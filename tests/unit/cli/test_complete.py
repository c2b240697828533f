"""What may come next on a command line, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from corral.cli.complete import DIRECTORIES, FILES, candidates


class Store:
    """A context whose verbs answer from a table."""

    def verb(self, name: str, **options: Any) -> list[dict[str, str]]:
        """Rows of a list."""
        rows = {
            "ps": [{"name": "web", "image": "nginx", "status": "running"}],
            "network_ls": [{"name": "back"}],
            "volume_ls": [{"name": "data"}],
            "pod_ps": [{"name": "site"}],
        }
        return rows[name]


def words(*typed: str) -> list[str]:
    """The candidates for the last of ``typed``."""
    context: Any = Store()
    return [word for word, _ in candidates(list(typed), context)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["unp"], ["unpause"]),
        (["pod", "st"], ["start", "stop"]),
        (["stop", ""], ["web"]),
        (["stop", "--sig"], ["--signal"]),
        (["kill", "-s", "HU"], ["HUP"]),
        (["kill", "--signal=HU"], ["--signal=HUP"]),
        (["run", "--pull", ""], ["always", "missing", "never", "newer"]),
        (["run", "--network", "ba"], ["back"]),
        (["run", "--cap-add", "NET_A"], ["NET_ADMIN"]),
        (["run", "-v", ""], [FILES]),
        (["run", "host", "ls", "-"], [FILES]),
        (["--store", ""], [DIRECTORIES]),
        (["--store", "/s", "unp"], ["unpause"]),
        (["container", "unp"], []),
        (["network", "rm", ""], ["back"]),
        (["volume", "rm", "d"], ["data"]),
        (["exec", "-it", "w"], ["web"]),
        (["no-such-command", "x"], []),
    ],
)
def test_candidates_fit_the_place(typed: list[str], expected: list[str]) -> None:
    """Commands, flags, their values, and names of what there is."""
    assert words(*typed) == expected


def test_candidates_for_the_first_word_are_all_commands() -> None:
    """Groups are one word there."""
    found = words("")
    assert {"run", "pod", "images", "system"} <= set(found)
    assert not [word for word in found if " " in word or word.startswith("_")]
