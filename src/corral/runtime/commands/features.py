"""``features``: what this runtime can do, as JSON."""

from __future__ import annotations

import sys

from corral import __version__
from corral.errors import Unsupported
from corral.linux.libseccomp import Library
from corral.linux.seccomp_profile import ARCHITECTURES, FLAG_NEW_LISTENER
from corral.linux.syscalls import is_seccomp_flag_supported
from corral.oci.features import features
from corral.oci.json import dumps
from corral.oci.names import SECCOMP_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


def run(line: CommandLine) -> int:
    """Print the features document of runtime-spec 1.3."""
    del line
    try:
        library = Library()
    except Unsupported:
        document = features(version=__version__, has_systemd_driver=True)
    else:
        document = features(
            version=__version__,
            has_systemd_driver=True,
            libseccomp_version=".".join(map(str, library.version)),
            seccomp_architectures=[n for n, own in ARCHITECTURES.items() if library.architecture_or_none(own)],
            seccomp_supported_flags=_supported_flags(),
        )
    sys.stdout.write(dumps(document, indent=2) + "\n")
    return 0


def _supported_flags() -> list[str]:
    """Flags of seccomp(2) that this kernel takes."""
    # One of them is only valid together with a listener.
    listener = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_NEW_LISTENER}
    return sorted(n for n, bit in SECCOMP_FLAGS.items() if is_seccomp_flag_supported(bit | listener.get(n, 0)))
