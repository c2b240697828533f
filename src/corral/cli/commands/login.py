"""``corral login`` and ``corral logout``."""

from __future__ import annotations

import sys

from corral.cli.container_flags import REGISTRY
from corral.cli.context import complain, is_terminal, write
from corral.cli.flags import Command, switch, value
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

_ACCESS = tuple(flag for flag in REGISTRY if flag.name != "creds")
COMMANDS = (
    Command(
        "login",
        "[REGISTRY]",
        (
            *_ACCESS,
            value("username", "NAME", "the user's name", "u"),
            value("password", "PASSWORD", "the password: better typed, or given by --password-stdin", "p"),
            switch("password-stdin", "read the password from stdin"),
            switch("get-login", "print the user that is logged in"),
        ),
        most=1,
        text="Tries the credentials at the registry, and remembers them if they are right.",
    ),
    Command("logout", "[REGISTRY]", (*_ACCESS, switch("all", "all registries", "a")), most=1),
)
_DEFAULT = "docker.io"


def run(line: Line, context: Context) -> int:
    """Remember or forget credentials."""
    from corral.image.credentials import logged_in_hosts, remove_credentials
    from corral.image.login import logged_in_user, logout

    del context
    authfile = line.text("authfile")
    host = line.args[0] if line.args else _DEFAULT
    if line.command == "logout":
        if not line.has("all"):
            write(f"logged out of {host} ({logout(host, authfile=authfile)})\n")
        for name in logged_in_hosts(authfile) if line.has("all") else ():
            write(f"logged out of {name} ({remove_credentials(name, authfile)})\n")
        return 0
    if line.has("get-login"):
        user = logged_in_user(host, authfile=authfile)
        if not user:
            from corral.errors import NotFound

            raise NotFound(f"find credentials for {host}: not logged in", hint=f"corral login {host}")
        write(f"{user}\n")
        return 0
    return _login(line, host)


def _login(line: Line, host: str) -> int:
    from corral.cli.pulling import access_of
    from corral.image.credentials import Credentials
    from corral.image.login import login

    user = line.text("username")
    if not user:
        if line.has("password-stdin") or not is_terminal(0):
            raise InvalidArgument("login: no user named", hint="give --username")
        complain("User: ")
        user = sys.stdin.readline().strip()
    credentials = Credentials(user, _password(line))
    where = login(host, credentials, access=access_of(line))
    write(f"logged in to {host} as {user} ({where})\n")
    return 0


def _password(line: Line) -> str:
    if line.text("password"):
        return line.text("password")
    if line.has("password-stdin") or not is_terminal(0):
        return sys.stdin.readline().rstrip("\n")
    from getpass import getpass

    return getpass("Password: ")
