"""Print the requirements of the ``dev`` extra in pyproject.toml, one a line, for pip on a machine with nothing yet."""

from __future__ import annotations

import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
    print("\n".join(project["optional-dependencies"]["dev"]))
