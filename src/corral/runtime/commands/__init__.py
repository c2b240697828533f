"""The commands that Python runs, one module each with ``run(line) -> exit code``."""
