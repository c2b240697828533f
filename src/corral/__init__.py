"""Corral: a container runtime stack for Linux. This package holds its Python parts, in layers."""

__version__ = "0.1.0"
