"""The container engine: combines runtime, images and networks. docs/design/engine.md is the contract of its parts."""
