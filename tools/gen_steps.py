"""Generate src/corral/runtime/steps.py from native/executor/steps.def, so that both sides share one list.

python tools/gen_steps.py           # write it
python tools/gen_steps.py --check   # exit 1 if it is not what would be written
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["main", "parse_steps", "render"]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "native" / "executor" / "steps.def"
TARGET = ROOT / "src" / "corral" / "runtime" / "steps.py"

_STEP = re.compile(r'^STEP\((\w+),\s*(\w+),\s*(\d+),\s*"([isvb]*)",\s*"((?:[^"\\]|\\.)*)"\)', re.MULTILINE)

HEADER = '''"""The steps of a plan: name -> (wire number, signature, description).

Generated from native/executor/steps.def by tools/gen_steps.py; do not edit. A letter of the signature is one
argument: i = 64-bit integer, s = string, v = vector of strings, b = blob.
"""

from __future__ import annotations

'''


def parse_steps(text: str) -> list[tuple[str, int, str, str]]:
    """Return (name, number, signature, description) of each STEP line, in the file's order.

    Raises:
        ValueError: a STEP line that cannot be read, or a name or number used twice.
    """
    steps = [(name, int(number), signature, words) for name, _, number, signature, words in _STEP.findall(text)]
    lines = len(re.findall(r"^STEP\(", text, re.MULTILINE))
    if lines != len(steps):
        raise ValueError(f"read steps.def: {lines} STEP lines, of which {len(steps)} can be read")
    for position, label in ((0, "name"), (1, "number")):
        seen = [step[position] for step in steps]
        twice = sorted({str(item) for item in seen if seen.count(item) > 1})
        if twice:
            raise ValueError(f"read steps.def: {label} used twice: {', '.join(twice)}")
    return steps


def render(steps: list[tuple[str, int, str, str]]) -> str:
    """Return the text of the generated module."""
    lines = ["STEPS: dict[str, tuple[int, str, str]] = {"]
    lines += [f'    "{name}": ({number}, "{signature}", "{words}"),' for name, number, signature, words in steps]
    lines += ["}", "", "# The wire numbers under their names."]
    lines += [f"OP_{name} = {number}" for name, number, _, _ in steps]
    return HEADER + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Command line: see the module's docstring."""
    text = render(parse_steps(SOURCE.read_text()))
    if arguments == ["--check"]:
        if TARGET.exists() and TARGET.read_text() == text:
            return 0
        print(f"{TARGET}: differs from steps.def; run tools/gen_steps.py", file=sys.stderr)
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
