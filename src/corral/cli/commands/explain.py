"""``corral explain``."""

from __future__ import annotations

import posix

from corral.cli.flags import Command, switch
from corral.cli.render import print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "explain",
        "CONTAINER",
        (
            switch("config", "print the runtime's configuration instead of the steps"),
            switch("json", "print the steps as JSON"),
        ),
        least=1,
        most=1,
        operands="container",
        text="Compiles what `start` would do and prints it, step by step, with the place that asked for it.",
        examples=(("explain web", "the steps"), ("explain --config web", "config.json")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Print the plan."""
    found = context.verb("explain", line.args[0])
    if line.has("config"):
        print_json(found["config"])
        return 0
    return _explain(found["config"], line)


def _explain(config: object, line: Line) -> int:
    """Have corral-runtime explain a bundle of this configuration, which exists for that long."""
    from corral.cli.context import complain, write
    from corral.engine.files import remove_tree
    from corral.engine.programs import find_program, run
    from corral.oci.json import dumps

    folder = f"/tmp/corral-explain-{posix.getpid()}-{posix.urandom(6).hex()}"
    posix.mkdir(folder, 0o700)
    try:
        assert isinstance(config, dict)
        posix.mkdir(f"{folder}/rootfs", 0o700)
        config = {**config, "root": {**config["root"], "path": "rootfs"}}
        with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
            file.write(dumps(config))
        words = [find_program("corral-runtime"), "explain", *(["--json"] if line.has("json") else []), folder]
        result = run(words, timeout_s=60.0)
    finally:
        remove_tree(folder)
    if result.code:
        complain(result.output)
    else:
        write(result.output)
    return int(result.code)
