"""A process that does one verb and dies at a failpoint: ``python victim.py STORE VERB JSON`` (a list of arguments)."""

from __future__ import annotations

import json
import sys

from corral.engine.places import Places
from corral.engine.verbs import find


def main() -> None:
    """Do the verb; the environment says where to die."""
    store, verb, text = sys.argv[1:4]
    arguments, options = json.loads(text)
    find(verb)(Places(store), *arguments, **options)


if __name__ == "__main__":
    main()
