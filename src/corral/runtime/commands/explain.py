"""``explain``: the steps that would make the container, in words or as JSON. Nothing is done."""

from __future__ import annotations

import os
import sys

from corral.oci.json import dumps
from corral.runtime.containers import bundle_line
from corral.runtime.plan import ACTOR_NAMES, show_argument
from corral.runtime.prepare import Surroundings, load_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine
    from corral.runtime.plan import Plan, Step

EXAMPLE_ID = "example"


def run(line: CommandLine) -> int:
    """Print the plan of ``run`` for a bundle. Exit code 1 if problems forbid it; they are printed too."""
    around = Surroundings(os.getcwd(), dict(os.environ))
    job, _ = load_job(bundle_line(line), around, line.text("id") or EXAMPLE_ID)
    if line.flag("json"):
        steps = [_as_json(number, step) for number, step in enumerate(job.plan)]
        problems = [{"message": p.message, "pointer": p.pointer, "hint": p.hint} for p in job.problems]
        sys.stdout.write(dumps({"steps": steps, "problems": problems}, indent=2) + "\n")
    else:
        sys.stdout.write(render(job.plan))
        for problem in job.problems:
            sys.stdout.write(f"problem: {problem}\n")
    return 1 if job.problems else 0


def render(plan: Plan) -> str:
    """The plan as lines, one a step: number, actor, what it does, and the place in config.json that asks for it."""
    lines = []
    for number, step in enumerate(plan):
        if step.op == "SYNC":
            lines.append(f"{number:4}  ----- front and {ACTOR_NAMES[step.actor]} meet: {show_argument(step.args[0])}")
            continue
        place = f"  (config {step.pointer})" if step.pointer else ""
        lines.append(f"{number:4}  {ACTOR_NAMES[step.actor]:5} {step.describe()}{place}")
    return "\n".join(lines) + "\n"


def _as_json(number: int, step: Step) -> dict[str, object]:
    arguments = [a.hex() if isinstance(a, bytes) else a if isinstance(a, (int, str)) else list(a) for a in step.args]
    return {
        "index": number,
        "actor": ACTOR_NAMES[step.actor],
        "op": step.op,
        "text": step.describe(),
        "config": step.pointer,
        "arguments": arguments,
    }
