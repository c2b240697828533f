"""Manual pages and completion scripts, made from the package's own tables of commands and flags.

Used by hatch_build.py, which puts them where man and the shells look for them below an installation's share folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["build_documents"]

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/corral",
    "fish": "share/fish/vendor_completions.d/corral.fish",
    "zsh": "share/zsh/site-functions/_corral",
}


def build_documents(source: Path, out: Path) -> dict[Path, str]:
    """Write all of them below ``out``; returns file -> its place in an installation.

    ``source`` is the folder that holds the package. Only what the package imports without its dependencies is needed.
    """
    sys.path.insert(0, str(source))
    try:
        from corral import __version__
        from corral.cli.commands.completion import SCRIPTS
        from corral.cli.man import pages
    finally:
        sys.path.remove(str(source))
    contents = {f"share/man/man1/{name}": text for name, text in pages(__version__)}
    contents.update({_COMPLETIONS[shell]: script for shell, script in SCRIPTS.items()})
    placed = {}
    for place, text in contents.items():
        path = out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        placed[path] = place
    return placed


if __name__ == "__main__":
    for written in build_documents(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()):
        print(written)
