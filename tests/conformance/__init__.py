"""Black-box conformance suite for OCI runtimes: give it the path of any runtime."""
