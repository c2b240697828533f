"""``check``: all that stands in the way of a bundle, by the specification and on this host. Makes nothing."""

from __future__ import annotations

import os
import sys

from corral.errors import CorralError
from corral.oci.json import dumps, loads
from corral.oci.validate import normalize, validate
from corral.runtime.commands.host_checks import Facts, Finding, check_host, from_error
from corral.runtime.containers import bundle_line
from corral.runtime.create import compile_create
from corral.runtime.host import read_host
from corral.runtime.prepare import Surroundings, bundle_path, compile_job, config_path, read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.job import Job
    from corral.runtime.options import CommandLine

EXAMPLE_ID = "example"


def run(line: CommandLine) -> int:
    """Print every problem with its place in config.json. Exit code 1 if any of them forbids a container."""
    around = Surroundings(os.getcwd(), dict(os.environ))
    line = bundle_line(line)
    findings = find_problems(line, around)
    is_fine = not any(finding.severity == "error" for finding in findings)
    if line.flag("json"):
        document = {"bundle": bundle_path(line, around), "ok": is_fine, "problems": [f.to_json() for f in findings]}
        sys.stdout.write(dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(render(findings))
    return 0 if is_fine else 1


def find_problems(line: CommandLine, around: Surroundings) -> list[Finding]:
    """Errors first, then warnings, each in the order of discovery: document, compilation, host."""
    try:
        document = loads(read_config(line, around), config_path(line, around))
    except CorralError as exc:
        return [from_error(exc)]
    findings = [
        Finding("warning" if problem.is_warning else "error", problem.message, problem.pointer, problem.hint)
        for problem in validate(document)
    ]
    job = None
    if not any(finding.severity == "error" for finding in findings):
        try:
            job = compile_job(line, around, normalize(document), EXAMPLE_ID)
            _compile(job, findings)
        except CorralError as exc:
            findings.append(from_error(exc))
    if isinstance(document, dict):
        host = job.host if job is not None else read_host()
        findings += check_host(Facts(document, bundle_path(line, around), host, job))
    return sorted(_distinct(findings), key=lambda finding: finding.severity)


def _compile(job: Job, findings: list[Finding]) -> None:
    compile_create(job)
    findings += [from_error(problem) for problem in job.problems]
    findings += [Finding("warning", warning) for warning in job.warnings]


def _distinct(findings: list[Finding]) -> list[Finding]:
    seen = set()
    kept = []
    for finding in findings:
        key = (finding.message, finding.pointer)
        if key not in seen:
            seen.add(key)
            kept.append(finding)
    return kept


def render(findings: list[Finding]) -> str:
    """Findings as text: one line each, its hint below it, and a count at the end."""
    lines = []
    for finding in findings:
        place = f"{finding.pointer}: " if finding.pointer else ""
        lines.append(f"{finding.severity}: {place}{finding.message}")
        if finding.hint:
            lines.append(f"  hint: {finding.hint}")
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    lines.append(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return "\n".join(lines) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
