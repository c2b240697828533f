"""The OCI runtime: config.json to plan, records, and the commands that are not native."""
