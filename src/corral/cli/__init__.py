"""The command line `corral`: the only part that prints and decides exit codes."""
