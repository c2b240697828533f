"""Print requirements named in pyproject.toml, one a line, for pip on a machine that has nothing yet.

``build``: what building a wheel and running it needs. ``dev``: the extra of that name, too.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    tables = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
    wanted = tables["build-system"]["requires"] + tables["project"]["dependencies"]
    if sys.argv[1:] == ["dev"]:
        wanted += tables["project"]["optional-dependencies"]["dev"]
    print("\n".join(wanted))
