"""What the engine needs of this host besides the runtime: networks, ids, layers, registries. Looked at, nothing made.

Said in the words of ``corral-runtime doctor``, whose checks come first.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from corral.image.policy import load_policy
from corral.image.registries import load_registries, registry_files
from corral.network.plugins import plugin_directories
from corral.runtime.commands.doctor import LIMITED, MISSING, OK, Answer, Check, Sight, as_json, examine, render
from corral.runtime.host import read_host

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHECKS", "report"]

# What a network of `corral network create` calls, the default one included.
_PLUGINS = ("bridge", "host-local", "portmap", "firewall", "tuning")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BRIDGES = "bridges, published ports, names and pods, the default of images for root"


def report(environ: Mapping[str, str], *, is_json: bool) -> tuple[str, bool]:
    """All checks, the runtime's first, as text or JSON; and whether nothing is missing that every container needs."""
    sight = Sight(read_host(), environ, uid=os.geteuid())
    answers = [*examine(sight), *examine(sight, CHECKS)]
    is_fine = not any(check.is_vital and answer.status == MISSING for check, answer in answers)
    return as_json(answers, is_fine) if is_json else render(answers), is_fine


def _is_user(sight: Sight) -> bool:
    return sight.uid != 0 or sight.host.in_userns


def _program(sight: Sight, name: str) -> str:
    path = ":".join(sight.root + folder for folder in _PATH.split(":"))
    found = shutil.which(name, path=path)
    return found.removeprefix(sight.root) if found else ""


def _plugins(sight: Sight) -> Answer:
    folders = plugin_directories()
    there = {name: folder for name in _PLUGINS for folder in reversed(folders) if sight.exists(f"{folder}/{name}")}
    lacking = [name for name in _PLUGINS if name not in there]
    if not lacking:
        return Answer(OK, f"{', '.join(_PLUGINS)} in {', '.join(sorted(set(there.values())))}")
    if _is_user(sight):
        return Answer(OK, "not needed without root")
    mend = "install the package containernetworking-plugins, or name their directory in CNI_PATH"
    text = f"{', '.join(lacking)} not in {', '.join(folders)}"
    return Answer(MISSING, text, f"they make {_BRIDGES}", mend)


def _firewall(sight: Sight) -> Answer:
    found = {name: _program(sight, name) for name in ("iptables", "nft")}
    shown = ", ".join(path for path in found.values() if path)
    if found["iptables"]:
        return Answer(OK, shown)
    if _is_user(sight):
        return Answer(OK, "not needed without root")
    why = f"the CNI plugins call iptables for {_BRIDGES}"
    return Answer(MISSING, f"no iptables{f', but {shown}' if shown else ''}", why, "install the package iptables")


def _tun(sight: Sight) -> Answer:
    path = "/dev/net/tun"
    if sight.exists(path) and os.access(sight.root + path, os.R_OK | os.W_OK):
        return Answer(OK, path)
    if not _is_user(sight):
        return Answer(OK, f"{path} is not there; root's networks do not need it")
    text = f"{path} may not be opened" if sight.exists(path) else f"{path} is not there"
    mend = f"chmod 666 {path}" if sight.exists(path) else "modprobe tun; inside a container: --device /dev/net/tun"
    return Answer(MISSING, text, "pasta and slirp4netns, the networks without root, need it", mend)


def _user_networks(sight: Sight) -> Answer:
    found = {name: _program(sight, name) for name in ("pasta", "slirp4netns")}
    shown = ", ".join(path for path in found.values() if path)
    if found["pasta"] or (shown and not _is_user(sight)):
        return Answer(OK, shown)
    if not _is_user(sight):
        return Answer(OK, "neither is there; root's networks do not need them")
    if shown:
        return Answer(LIMITED, shown, "pasta is the default without root", "install passt, or: --network slirp4netns")
    return Answer(MISSING, "neither is there", "images get no network without root", "install the package passt")


def _fuse(sight: Sight) -> Answer:
    found = _program(sight, "fuse-overlayfs")
    if found:
        return Answer(OK, found)
    if not _is_user(sight):
        return Answer(OK, "not there; root does not need it")
    return Answer(OK, "not there; the kernel stacks layers for users since 5.11, before it is needed")


def _registries(sight: Sight) -> Answer:
    del sight
    # As a pull would: what is wrong with a file is said by its error.
    registries = load_registries()
    files = registry_files()
    names = ", ".join(registries.search) or "docker.io"
    if not files:
        return Answer(OK, "no registries.conf: names without a registry are Docker Hub's")
    return Answer(OK, f"{', '.join(files)}; names without a registry are looked for at {names}")


def _policy(sight: Sight) -> Answer:
    del sight
    policy = load_policy()
    if not policy.path:
        return Answer(OK, "no policy.json: every image is taken")
    if policy.wants_signatures:
        why = "signatures cannot be verified: such images are refused"
        return Answer(LIMITED, f"{policy.path} wants signatures", why, "insecureAcceptAnything for what is trusted")
    return Answer(OK, f"{policy.path}: by default {policy.shown_default}")


CHECKS: tuple[Check, ...] = (
    Check("CNI plugins", _plugins),
    Check("iptables, nft", _firewall),
    Check("/dev/net/tun", _tun),
    Check("pasta, slirp4netns", _user_networks),
    Check("fuse-overlayfs", _fuse),
    Check("registries.conf", _registries),
    Check("policy.json", _policy),
)
