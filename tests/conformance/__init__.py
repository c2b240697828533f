"""Black-box conformance suite for OCI runtimes: give it the path of any runtime.

`pytest tests/conformance --runtime /usr/sbin/runc` asks runc, without an option corral is
asked; with `--resident` one resident planner serves corral in all cases, and must change
no answer. A case asserts what the kernel says (inside the container, or of it), not only an
exit code. `harness` drives a runtime, `spec` edits a config.json, `leaks` looks for what
stays behind; they are free to be used by other suites.
"""
