"""The OCI standards as pure data: no input, no output, no kernel."""
