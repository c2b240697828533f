"""What the engine is asked for about networks in the sweep: containers on a bridge with a port, by real CNI plugins.

Beside the moments of the engine each call of a plugin is one: it refuses, dies, or outlives the engine that called it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corral.errors import AlreadyExists, FailedPrecondition, NotFound
from sweep.engine_operations import (
    Operation,
    Removing,
    Restarting,
    Running,
    Stage,
    Starting,
    Stopping,
    prove_running,
)
from sweep.engine_points import moment_faults
from sweep.engine_victim import NO_FAULT, Fault, Outcome

PLUGINS = Path("/usr/lib/cni")
PORT = 8088
# Who dies at a moment: of the others the same verbs without a network tell.
WHO = ("engine", "all three")
ACTIONS = {
    "refuse": "refuses",
    "refuse-after": "refuses when it has done it",
    "die": "is killed",
    "die-after": "is killed when it has done it",
    "orphan": "is slow, and the engine is killed",
    "orphan-after": "has done it, and the engine is killed",
}
PLUGIN = """#!/bin/sh
real={real}/${{0##*/}}
echo "$CNI_COMMAND ${{0##*/}}" >> {path}/calls
read -r at action 2> /dev/null < {path}/fault || exec "$real"
[ "$(wc -l < {path}/calls)" = "$at" ] || exec "$real"
config=$(cat)
# Of another caller's parent nothing is known: its number may be somebody else's by now.
kill_engine() {{ [ "$PPID" != "$(cat {path}/engine)" ] || kill -9 "$PPID"; }}
work() {{ printf %s "$config" | "$real"; }}
refuse() {{ echo '{{"cniVersion": "1.0.0", "code": 11, "msg": "not now"}}'; exit 1; }}
case $action in
    refuse) refuse ;;
    refuse-after) work > /dev/null; refuse ;;
    die) kill -9 $$ ;;
    die-after) work > /dev/null; kill -9 $$ ;;
    orphan) kill_engine; sleep 0.3; work ;;
    orphan-after) work; kill_engine ;;
esac
"""


def say(*words: str) -> list[str]:
    """The lines that a program prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()


class NetworkStage(Stage):
    """A stage whose containers are on a network, on a host of its own."""

    def __post_init__(self) -> None:
        self.wanted: dict[str, Any] = {}
        self.called: list[str] = []

    def workload(self, **members: Any) -> dict[str, Any]:
        """With an address and a published port."""
        return super().workload(**{"network": self.wanted, **members})

    def prepare(self) -> None:
        """Have plugins that can meet a fault, before the first engine."""
        self.plugins.mkdir(exist_ok=True)
        for name in ("bridge", "host-local", "portmap", "firewall", "tuning"):
            path = self.plugins / name
            path.write_text(PLUGIN.format(real=PLUGINS, path=self.plugins))
            path.chmod(0o755)
        os.environ["CNI_PATH"] = str(self.plugins)

    @property
    def plugins(self) -> Path:
        return self.path / "plugins"

    def victim(self, fault: Fault, action: Callable[[], Any], *, is_writing: bool = False) -> Outcome:
        """Also with the fault of a plugin."""
        (self.plugins / "calls").write_text("")
        if fault.plugin:
            (self.plugins / "fault").write_text(f"{fault.at} {fault.plugin}\n")

        def known() -> Any:
            (self.plugins / "engine").write_text(str(os.getpid()))
            return action()

        outcome = super().victim(fault, known if fault.plugin else action, is_writing=is_writing)
        self.called = (self.plugins / "calls").read_text().splitlines()
        (self.plugins / "fault").unlink(missing_ok=True)
        return outcome

    def networks_of(self, container: str) -> list[str]:
        """The networks that a container is to be on."""
        return [item["name"] for item in self.engine.look(container).definition["network"].get("attachments", [])]

    def prove_connected(self, container: str) -> None:
        """Its interfaces have the addresses on record, its namespace has the name, its port leads there once."""
        made = self.engine.look(container).state.get("network", {})
        for row in made.get("networks", []):
            shown = say("ip", "-n", f"corral-{container}", "-o", "-4", "address")
            shown = [line for line in shown if f" {row['interface']} " in line]
            address = row["addresses"][0]
            self.expect(any(f" {address} " in line for line in shown), f"{row['interface']} has {shown}")
        rows = {row["name"]: row["phase"] for row in made.get("attachments", [])}
        wanted = dict.fromkeys(self.networks_of(container), "created")
        self.expect(rows == wanted, f"it is on {rows}, and was to be on {wanted}")
        leading = [line for line in say("iptables-save", "-t", "nat") if f"--dport {PORT} -j DNAT" in line]
        self.expect(len(leading) == len(self.wanted.get("ports", [])), f"the rules of its port: {leading}")

    def leftovers(self) -> list[str]:
        """Also what networks leave: names, devices, addresses in use, files of plugins, rules."""
        found = [line.split("@")[0] for line in say("ip", "-o", "link") if re.search(r": (veth|cr)", line)]
        found += [str(path) for path in Path("/run").rglob("*") if path.is_file() and path.suffix != ".lock"]
        networks = Path(self.engine.places.run, "networks")
        found += [f"address {path}" for path in networks.glob("*/[0-9]*")]
        return super().leftovers() + found + [f"rule {line}" for line in self.rules() if is_of_a_container(line)]

    def rules(self) -> list[str]:
        """Of both families."""
        return [line for line in say("iptables-save") if line.startswith(("-A", ":"))]

    def recover(self) -> None:
        """Also without what is left, which would be found again at each point. This is nobody else's host."""
        super().recover()
        for name in os.listdir(f"{self.engine.places.networks}"):
            if not name.startswith((".", "corral.")):
                os.unlink(f"{self.engine.places.networks}/{name}")
        for name in known("/run/netns"):
            subprocess.run(["ip", "netns", "delete", name], check=False)
        for line in say("ip", "-o", "link"):
            found = re.search(r": ((veth|cr)\w+)[:@]", line)
            if found:
                subprocess.run(["ip", "link", "delete", found[1]], check=False)
        for path in Path(self.engine.places.run, "networks").glob("*/[0-9]*"):
            path.unlink()
        for table in ("nat", "filter"):
            say("iptables", "-t", table, "-F")
            say("iptables", "-t", table, "-X")

    def remove_all(self) -> None:
        """Also the networks that a person made."""
        super().remove_all()
        for row in self.engine.call("network_ls"):
            if row["name"] != "corral":
                self.engine.call("network_rm", row["name"])


def is_of_a_container(rule: str) -> bool:
    """Whether a rule, or a chain, is there for one container alone: its address, its port, its own chain."""
    return bool(re.search(r"CNI-[0-9a-f]{24}|CNI-DN-|-[ds] 10\.\d+\.\d+\.[1-9]\d*/32|--dport", rule))


class OnNetwork(Operation):
    """A verb of containers that are on a network; without more, another operation."""

    def __init__(self, inner: Operation) -> None:
        self.inner = inner
        self.name = f"{inner.name}-networked"

    def points(self, stage: Stage) -> Iterator[Fault]:
        """The moments at which the engine is about a network, and each call of a plugin."""
        assert isinstance(stage, NetworkStage)
        self.play(stage, NO_FAULT)
        outcome = self.play(stage, NO_FAULT)
        yield from moment_faults(outcome.moments, WHO, self.only(outcome))
        for at, call in enumerate(stage.called, 1):
            if call == "DEL host-local":
                # The plugin bridge, which calls it, then forgets the rules that it has made itself.
                continue
            for action, words in ACTIONS.items():
                yield Fault(f"plugin {at} ({call}) {words}", at, plugin=action)

    def only(self, outcome: Outcome) -> frozenset[int]:
        """Which moments are played."""
        return outcome.networking

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        assert isinstance(stage, NetworkStage)
        published = {"host_ip": "", "host_port": PORT, "container_port": 80, "protocol": "tcp"}
        stage.wanted = {"mode": "bridge", "attachments": [{"name": "corral"}], "ports": [published]}
        return self.inner.do(stage, fault)


class Connecting(OnNetwork):
    """network connect and disconnect: it is done or it is not, the container runs on, and it can be asked for again."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.name = verb.replace("_", "-")

    def only(self, outcome: Outcome) -> frozenset[int]:
        """All of them."""
        return frozenset(range(1, len(outcome.moments) + 1))

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        assert isinstance(stage, NetworkStage)
        engine = stage.engine
        stage.wanted = {"mode": "bridge", "attachments": [{"name": "corral"}]}
        engine.call("network_create", {"name": "back"})
        container = stage.run_workload()
        if self.verb == "network_disconnect":
            engine.call("network_connect", "back", container)
        outcome = stage.victim(fault, lambda: engine.call(self.verb, "back", container))
        stage.settle()
        stage.prove_connected(container)
        names_now = stage.networks_of(container)
        if outcome.code == 0:
            stage.expect(names_now == self.after, f"it was said to be done, and it is on {names_now}")
        with contextlib.suppress(*((FailedPrecondition,) if "back" in names_now else (NotFound,))):
            engine.call(self.verb, "back", container)
        stage.expect(stage.networks_of(container) == self.after, f"it is on {stage.networks_of(container)}")
        prove_running(stage, container, fault)
        return outcome

    @property
    def after(self) -> list[str]:
        """The networks that it is to be on."""
        return ["corral", "back"] if self.verb == "network_connect" else ["corral"]


class Making(OnNetwork):
    """network create and rm: there is one or there is none, its name and its device are free again."""

    has_others = False

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.name = verb.replace("_", "-")

    def points(self, stage: Stage) -> Iterator[Fault]:
        """No plugin is called."""
        self.play(stage, NO_FAULT)
        yield from moment_faults(self.play(stage, NO_FAULT).moments, ("engine",))

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        assert isinstance(stage, NetworkStage)
        engine = stage.engine
        stage.wanted = {"mode": "bridge", "attachments": [{"name": "back"}]}
        if self.verb == "network_rm":
            engine.call("network_create", {"name": "back"})
            engine.call("rm", stage.run_workload(), force=True)
            stage.runs.unlink()
            outcome = stage.victim(fault, lambda: engine.call("network_rm", "back"))
            stage.settle()
            stage.expect(outcome.code != 0 or "back" not in self.shown(stage), "it was said to be gone")
            with contextlib.suppress(NotFound):
                engine.call("network_rm", "back")
            engine.call("network_create", {"name": "back"})
        else:
            outcome = stage.victim(fault, lambda: engine.call("network_create", {"name": "back"}))
            stage.settle()
            stage.expect(outcome.code <= 0 or "back" not in self.shown(stage), "refused, and yet it is there")
            with contextlib.suppress(AlreadyExists):
                engine.call("network_create", {"name": "back"})
        stage.expect("back" in self.shown(stage), "there is none")
        container = stage.run_workload()
        prove_running(stage, container, NO_FAULT)
        engine.call("rm", container)
        engine.call("network_rm", "back")
        engine.call("gc")
        places = engine.places
        left = [f"{folder}/{name}" for folder in (places.networks, f"{places.run}/networks") for name in known(folder)]
        stage.expect([path for path in left if not path.endswith(".lock")] == [], f"left of networks: {left}")
        return outcome

    def shown(self, stage: Stage) -> list[str]:
        """The networks by name."""
        return [row["name"] for row in stage.engine.call("network_ls")]


def known(folder: str) -> list[str]:
    """What is in a directory, nothing where there is none."""
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


OPERATIONS: tuple[OnNetwork, ...] = (
    OnNetwork(Running()),
    OnNetwork(Running(auto_remove=True)),
    OnNetwork(Starting()),
    OnNetwork(Stopping()),
    OnNetwork(Restarting()),
    OnNetwork(Removing(force=True)),
    Connecting("network_connect"),
    Connecting("network_disconnect"),
    Making("network_create"),
    Making("network_rm"),
)
