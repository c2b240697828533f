#!/usr/bin/env python3
"""Write docs/behaviours.md: which statement about control groups is proven by which tests, on which hosts.

    python tools/behaviours.py [--host build/results/host.xml ...] [--cells build/results/cells]

The results are JUnit files as pytest writes them: of this host, and below ``--cells`` one folder for each cell of the
VM bench. A test proves the statements in its name: ``test_s0_4_...`` proves S0.4, ``test_s1_4_and_s1_5_...`` both. One
that failed or was skipped proves nothing, and is told. Exit code 1 if a statement has no proof at all, or a failure.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "behaviours.md"
HOST = "host"
_IDS = re.compile(r"test_((?:s\d_\d+_(?:and_)?)+)")
_ID = re.compile(r"s(\d)_(\d+)")

STATEMENTS = {
    "S0.1": "every process, init and exec'd, is in the group computed from what was asked, or nothing starts",
    "S0.2": "with systemd the leaf is `prefix-id.scope` under the pod's slice, user namespace or not",
    "S0.3": "no group with a ':' in its name is ever made",
    "S0.4": "a cgroupsPath in the other driver's form is refused, naming path and driver",
    "S0.5": "no option of a task changes the driver or any other option",
    "S0.6": "with a user namespace the stdio pipes are the container user's, and the place is right too",
    "S0.7": "the binary that runs is the one configured",
    "S0.8": "limits read from the real leaf are those requested",
    "S0.9": "a unit that exists already: reset and one retry if failed, otherwise an error",
    "S0.10": "placement is complete before anything but our blocked stub runs",
    "S0.11": "an option that is not understood is refused at once",
    "S0.12": "a walk finds each container in its place, and no literal or empty leftovers",
    "S1.1": "by default /sys/fs/cgroup is read-only inside",
    "S1.2": "writable: a child can be made, entered and limited without extra steps",
    "S1.3": "the container's own limits cannot be written from inside",
    "S1.4": "a mount without nsdelegate is refused, unless explicitly allowed",
    "S1.5": "v1 and hybrid hosts are refused",
    "S1.6": "no annotation outside the allow-list has an effect",
    "S1.7": "with a user namespace exactly the delegated files belong to its root",
    "S1.8": "number and depth of groups inside are bounded",
    "S1.9": "limits inside never raise the container above its own",
    "S1.10": "the host's cgroup mounts keep their options",
    "S1.11": "device access cannot be widened",
    "S1.12": "pinned CPUs cannot be widened",
    "S1.13": "delete goes bottom-up; exec follows a moved init",
    "S1.14": "a runtime inside a container works without privilege",
    "S1.15": "the grant and its controllers are reported",
    "S1.16": "CRI-O's annotation counts only where a handler lists it",
    "S2.1": "rootless, read-only, no limits: every command succeeds, one warning",
    "S2.2": "each resource is on record as created, joined or absent, and only the first is removed",
    "S2.3": "populated groups are refused, empty ones joined, parents of ours go when empty",
    "S2.4": "a path or limit without permission is an error; device rules alone are none",
    "S2.5": "only a missing directory counts as removed; a busy one ends in time, with its processes",
    "S2.6": "a failed removal does not stop the rest, and is resumed",
    "S2.7": "no unit of systemd's is left, also after an OOM kill",
    "S2.8": "a paused container can be deleted; error paths leave it thawed",
    "S2.9": "nothing outside the recorded directories is touched",
    "S2.10": "kill of all without group and pid namespace says what it cannot do",
    "S2.11": "commands that need a group say that there is none, with their own exit code",
    "S2.12": "a crash at any point is found and undone",
    "S2.13": "the same nested in a container, and with the manager disabled",
}
# What the tests show at the runtime's border, and what remains for the parts above it: (part, what).
REMAINING = {
    "S0.5": ("CRI", "the options of a handler and of a task"),
    "S0.7": ("CRI", "a handler's configured `binary`"),
    "S0.10": ("sandboxes", "virtual machine monitors and their helpers"),
    "S0.11": ("CRI", "a handler's generic options, refused when its configuration is loaded"),
    "S0.12": ("audit", "the command that walks over containers of any runtime"),
    "S1.4": ("CRI", "refusal when a handler's configuration is loaded"),
    "S1.5": ("CRI", "refusal when a handler's configuration is loaded"),
    "S1.6": ("CRI", "a pod's annotations, filtered before they reach the OCI configuration"),
    "S1.16": ("CRI", "`allowed_annotations` of a handler, and the warning"),
}


@dataclass(frozen=True, slots=True)
class Proof:
    """One test case of one host: ``place`` is `host` or a cell's name; ``outcome`` as in pytest."""

    statement: str
    place: str
    test: str
    outcome: str


def statements_of(name: str) -> list[str]:
    """The statements that a test's name claims."""
    found = _IDS.match(name)
    return [f"S{major}.{minor}" for major, minor in _ID.findall(found.group(1))] if found else []


def read_results(path: Path, place: str) -> list[Proof]:
    """The proofs in one JUnit file."""
    proofs = []
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = "failed"
            elif child.tag == "skipped":
                outcome = "expected to fail" if child.get("type") == "pytest.xfail" else "skipped"
        file = case.get("classname", "").replace(".", "/") + ".py"
        test = f"{file}::{case.get('name', '').partition('[')[0]}"
        proofs += [Proof(statement, place, test, outcome) for statement in statements_of(case.get("name", ""))]
    return proofs


def collect(hosts: Iterable[Path], cells: Path) -> list[Proof]:
    """All proofs: this host's files, and those of every cell that left results."""
    proofs = [proof for path in hosts if path.exists() for proof in read_results(path, HOST)]
    for path in sorted(cells.glob("*/junit*.xml")):
        # Parts of a selection that ran in several machines: CELL+1of2.
        proofs += read_results(path, path.parent.name.partition("+")[0])
    return [proof for proof in proofs if proof.statement in STATEMENTS]


def order_of(place: str) -> tuple[object, ...]:
    """The host first, then v2 before v1, the newest kernel that has most cells first."""
    hierarchy, _, rest = place.partition("-")
    kernel, _, kind = rest.partition("-")
    return place != HOST, ("v2", "v1", "hybrid").index(hierarchy) if rest else 0, kernel != "6.1", kernel, kind


def text_of(proofs: list[Proof]) -> str:
    """What one cell of the table says: how many passed; what did not pass is told."""
    counts = {outcome: sum(proof.outcome == outcome for proof in proofs) for outcome in (p.outcome for p in proofs)}
    passed = counts.pop("passed", 0)
    rest = [f"**{count} {outcome}**" for outcome, count in sorted(counts.items())]
    return ", ".join([*([str(passed)] if passed else []), *rest])


def table(by_statement: dict[str, list[Proof]]) -> list[str]:
    """Statements by places."""
    places = sorted({proof.place for proofs in by_statement.values() for proof in proofs}, key=order_of)
    lines = [f"| | {' | '.join(places)} |", f"| --- |{' ---: |' * len(places)}"]
    for name, proofs in by_statement.items():
        cells = [text_of([proof for proof in proofs if proof.place == place]) for place in places]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def render(proofs: list[Proof]) -> str:
    """The whole page."""
    by_statement = {name: [proof for proof in proofs if proof.statement == name] for name in STATEMENTS}
    lines = [
        "# Which statement is proven where",
        "",
        "Written by `make behaviours` from test results; do not edit. Each test is named after the statement that it",
        "proves, and looks at what the kernel shows.",
        "",
        "| statement | says | proven by | remains for |",
        "| --- | --- | --- | --- |",
    ]
    for name, text in STATEMENTS.items():
        passed = {proof.test for proof in by_statement[name] if proof.outcome == "passed"}
        proven = f"{len(passed)} tests" if len(passed) > 1 else "1 test" if passed else "**nothing**"
        remaining = "{}: {}".format(*REMAINING[name]) if name in REMAINING else ""
        lines.append(f"| {name} | {text} | {proven} | {remaining} |")
    lines += [
        "",
        "## Where",
        "",
        "`host` is the machine that wrote this page; the other names are cells of the VM bench",
        "([design/vm-bench.md](design/vm-bench.md)): cgroup hierarchy, kernel, driver (cgroupfs unless told), user",
        "(root unless told), and whether containers have user namespaces throughout. The number is how many cases",
        "passed there. Where there is none, the tests do not apply (a v1 host grants no writable cgroups, a user has",
        "no devices to deny), or show nothing that another place does not. A place that is missing here has not been",
        "run for this page.",
        "",
        *table(by_statement),
        "",
        "## The tests",
    ]
    for name in STATEMENTS:
        tests = sorted({proof.test for proof in by_statement[name]})
        lines += ["", f"**{name}**", "", *(f"- `{test}`" for test in tests or ["none"])]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/behaviours.py", description="Write docs/behaviours.md.")
    parser.add_argument("--host", type=Path, nargs="*", default=[ROOT / "build/results/host.xml"])
    parser.add_argument("--cells", type=Path, default=ROOT / "build/results/cells")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args(arguments)
    proofs = collect(options.host, options.cells)
    options.output.write_text(render(proofs))
    proven = {proof.statement for proof in proofs if proof.outcome == "passed"}
    unproven = [name for name in STATEMENTS if name not in proven]
    failed = sorted({f"{proof.place}: {proof.test}" for proof in proofs if proof.outcome == "failed"})
    for title, names in (("proven nowhere", unproven), ("failed", failed)):
        for name in names:
            print(f"{title}: {name}", file=sys.stderr)
    return 1 if unproven or failed else 0


if __name__ == "__main__":
    sys.exit(main())
