"""Templates written for ``docker inspect`` and ``podman inspect``, on what Corral's own inspect answers."""

from __future__ import annotations

from typing import Any

import pytest

from corral.cli.docker_names import container_names
from corral.cli.template import Template

ITEM: dict[str, Any] = {
    "id": "0123456789abcdef",
    "name": "web",
    "created_ns": 0,
    "root": {"kind": "image", "image": "nginx", "image_id": "sha256:ab"},
    "process": {"command": ["serve"]},
    "network": {"mode": "bridge", "ports": [{"host_ip": "", "host_port": 0, "container_port": 80, "protocol": "tcp"}]},
    "resources": {"memory_bytes": 1 << 20, "cpu_quota_us": 50_000, "cpu_period_us": 100_000},
    "security": {"read_only": True},
    "paths": {"log": "/store/log"},
    "network_result": {
        "ports": [{"host_ip": "", "host_port": 8080, "container_port": 80, "protocol": "tcp"}],
        "networks": [
            {
                "name": "front",
                "interface": "eth0",
                "addresses": ["fd00::2/64", "10.1.0.2/16"],
                "gateways": ["fd00::1", "10.1.0.1"],
                "mac": "02:00:00:00:00:01",
                "aliases": ["www"],
            }
        ],
    },
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.MacAddress}}{{end}}",
         "10.1.0.2 10.1.0.1 02:00:00:00:00:01"),
        ("{{.NetworkSettings.Networks.front.IPAddress}}", "10.1.0.2"),
        ("{{.NetworkSettings.Networks.front.GlobalIPv6Address}}", "fd00::2"),
        ("{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}}", "10.1.0.2/16"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} {{(index $conf 0).HostIp}}{{end}}", "80/tcp 0.0.0.0"),
        ("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.ReadonlyRootfs}}", "1048576 500000000 true"),
        ("{{.LogPath}}", "/store/log"),
    ],
)  # fmt: skip
def test_templates_of_docker_find_what_they_look_for(template: str, expected: str) -> None:
    """The names and shapes of Docker's answer are there."""
    assert expected == Template(template).render(container_names(ITEM))


def test_container_without_network_has_empty_addresses() -> None:
    """As in Docker: the fields are there, and empty."""
    item = {**ITEM, "network": {"mode": "none"}, "network_result": {}}
    assert Template("[{{.NetworkSettings.IPAddress}}]").render(container_names(item)) == "[]"
    assert Template("{{json .NetworkSettings.Ports}}").render(container_names(item)) == "{}"
