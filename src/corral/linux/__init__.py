"""The kernel, as Corral sees it. Knows nothing of containers; the only layer that may use ctypes."""
