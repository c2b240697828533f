"""``corral serve``: the engine's verbs over a unix socket, and an engine that is always there (docs/design/serve.md).

It owns nothing that a container depends on: end it at any time, in any way.
"""
