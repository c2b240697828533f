"""The paths of /proc and /sys that no container sees, or may write, unless somebody says so. Data only."""

from __future__ import annotations

__all__ = ["MASKED_PATHS", "READONLY_PATHS"]

# Kernel interfaces that tell about the host, or act on it, and know no namespaces.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
