"""All commands of ``corral``: where each lives and what it does in a line. Nothing of them is imported for this.

``GROUPS`` gives the order in help and man pages. A test holds that the modules agree.
"""

from __future__ import annotations

# Heading -> commands, each (name, module below corral.cli.commands, summary).
GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Containers",
        (
            ("run", "run", "create a container and start it"),
            ("create", "create", "create a container without starting it"),
            ("start", "start", "start containers"),
            ("stop", "stop", "stop containers: the stop signal, then SIGKILL"),
            ("kill", "kill", "send a signal to containers"),
            ("restart", "restart", "stop containers and start them again"),
            ("rm", "rm", "remove containers"),
            ("exec", "exec", "run a program in a running container"),
            ("attach", "attach", "connect this terminal with a running container"),
            ("logs", "logs", "show the output of a container"),
            ("wait", "wait", "wait until containers end, and print their exit codes"),
            ("pause", "pause", "freeze all processes of containers"),
            ("unpause", "pause", "let frozen containers go on"),
            ("update", "update", "change the limits of containers"),
            ("rename", "rename", "give a container another name"),
            ("inspect", "inspect", "show all about containers, images, volumes, networks or pods"),
            ("ps", "ps", "list containers"),
            ("top", "top", "a live view of all containers, or the processes of one"),
            ("stats", "stats", "show what containers use"),
            ("cp", "cp", "copy files between a container and this host"),
            ("diff", "diff", "show what a container changed in its filesystem"),
            ("export", "export", "write a container's root filesystem to an archive"),
            ("commit", "commit", "make an image of a container"),
            ("port", "port", "show the published ports of a container"),
            ("events", "events", "show what happened, and what happens"),
            ("explain", "explain", "show what starting a container would do, step by step"),
        ),
    ),
    (
        "Pods",
        (
            ("pod create", "pod", "create a pod"),
            ("pod ps", "pod", "list pods"),
            ("pod inspect", "pod", "show all about pods"),
            ("pod start", "pod", "start all containers of pods"),
            ("pod stop", "pod", "stop all containers of pods"),
            ("pod rm", "pod", "remove pods"),
        ),
    ),
    (
        "Images",
        (
            ("pull", "pull", "fetch images from a registry"),
            ("push", "push", "send an image to a registry"),
            ("images", "images", "list images"),
            ("rmi", "images", "remove images"),
            ("tag", "images", "give an image another name"),
            ("save", "archives", "write images to an archive"),
            ("load", "archives", "read images from an archive"),
            ("import", "archives", "make an image of a root filesystem"),
            ("history", "images", "show how an image came about"),
            ("login", "login", "remember credentials for a registry"),
            ("logout", "login", "forget credentials for a registry"),
            ("image prune", "images", "remove images that nothing uses"),
        ),
    ),
    (
        "Volumes and networks",
        (
            ("volume create", "volume", "create a volume"),
            ("volume ls", "volume", "list volumes"),
            ("volume inspect", "volume", "show all about volumes"),
            ("volume rm", "volume", "remove volumes"),
            ("volume prune", "volume", "remove volumes that nothing uses"),
            ("network create", "network", "create a network"),
            ("network ls", "network", "list networks"),
            ("network inspect", "network", "show all about networks"),
            ("network rm", "network", "remove networks"),
            ("network prune", "network", "remove networks that nothing uses"),
            ("network connect", "network", "attach a container to a network"),
            ("network disconnect", "network", "detach a container from a network"),
        ),
    ),
    (
        "System",
        (
            ("system info", "system", "show what this engine and host are"),
            ("system df", "system", "show how much space is used"),
            ("system prune", "system", "remove all that nothing uses"),
            ("system start", "system", "start what a restart policy wants running, after a reboot"),
            ("gc", "gc", "finish what a crash left unfinished"),
            ("serve", "serve", "serve this store over a socket, and look after it"),
            ("doctor", "doctor", "check this host: what works, what does not, and why"),
            ("completion", "completion", "print the completion script for a shell"),
            ("version", "version", "print the version"),
        ),
    ),
)

# Run by the keeper, the service and the completion scripts, not by people: in no list.
HIDDEN: tuple[tuple[str, str, str], ...] = (
    ("_exited", "internal", "settle a container that ended"),
    ("_due", "internal", "do what is due for a container"),
    ("_complete", "completion", "complete a command line"),
    ("_resident", "resident", "run short commands for the service"),
)

# The words of Docker and Podman for the same things.
ALIASES = {
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "info": "system info",
    "list": "ps",
    "ls": "ps",
    "network list": "network ls",
    "pod list": "pod ps",
    "pod ls": "pod ps",
    "volume list": "volume ls",
}


def find(words: list[str]) -> tuple[str, str, list[str]]:
    """(command, module, words after it) for the beginning of a command line; command "" if there is none such."""
    modules = {name: module for _, commands in (*GROUPS, ("", HIDDEN)) for name, module, _ in commands}
    for count in (2, 1):
        name = " ".join(words[:count])
        if len(words) < count:
            continue
        name = ALIASES.get(name, name)
        if name not in modules and count == 2 and words[0] in ("container", "image"):
            # `container stop` is `stop`, `image pull` is `pull`.
            name = words[1]
        if name in modules:
            return name, modules[name], words[count:]
    return "", "", words


def names_below(word: str) -> list[str]:
    """The commands that begin with ``word`` as their first: ``pod`` -> ``pod create`` ..."""
    return [name for _, commands in GROUPS for name, _, _ in commands if name.startswith(word + " ")]
