"""One module a command: ``COMMAND`` (or ``COMMANDS``) describes it, ``run`` does it."""
