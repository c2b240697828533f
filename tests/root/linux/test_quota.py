"""Project quotas on a file system that has them: an ext4 image of the test's own, in a mount namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("root")

SCRIPT = """
import errno, os, sys
from corral.linux.quota import read_project_usage, set_project, set_project_limit
os.mkdir("upper")
fd = os.open("upper", os.O_RDONLY)
set_project(fd, 1 << 30 | 7)
set_project_limit(fd, 1 << 30 | 7, 1 << 20)
os.makedirs("upper/a/b")
try:
    with open("upper/a/b/file", "wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
except OSError as exc:
    print(errno.errorcode[exc.errno])
used, limit = read_project_usage(fd, 1 << 30 | 7)
print(limit, used <= limit, os.stat("upper/a/b/file").st_size <= limit)
with open("beside", "wb") as file:
    file.write(bytes(2 << 20))
set_project_limit(fd, 1 << 30 | 7, 0)
print(read_project_usage(fd, 1 << 30 | 7)[1])
"""


def test_directory_holds_no_more_than_its_project_may(tmp_path: Path) -> None:
    """What is made below counts too, what is beside it does not; 0 takes the bound away."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    image, point, script = tmp_path / "image", tmp_path / "point", tmp_path / "script.py"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    point.mkdir()
    script.write_text(SCRIPT)
    command = ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota", str(image)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    # Who has this capability is not held to any quota.
    python = f"setpriv --bounding-set=-sys_resource {sys.executable}"
    mount = f"mount -o loop,prjquota {image} {point} || exit 77; cd {point}; exec {python} {script}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    if done.returncode == 77:
        pytest.skip(f"this kernel mounts no ext4 with quotas (CONFIG_QFMT_V2): {done.stderr.splitlines()[0]}")
    assert done.stderr == ""
    assert done.stdout.split() == ["EDQUOT", str(1 << 20), "True", "True", "0"]
