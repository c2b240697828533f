"""Control groups: where they are, what limits mean, how they are read back."""
