"""Running a plugin: what it is told, and what its answers and silences come to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound, Timeout, Unavailable, Unsupported
from corral.network.plugins import find_plugin, run_plugin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory for plugins."""
    return tmp_path


def make(folder: Path, text: str) -> list[str]:
    path = folder / "fake"
    path.write_text(f"#!{sys.executable} -IS\nimport json, os, sys\n{text}\n")
    path.chmod(0o755)
    return [str(folder)]


def test_plugin_reads_its_configuration_and_variables(folder: Path) -> None:
    """The configuration comes by standard input; of our environment nothing is passed on but what it needs."""
    directories = make(
        folder,
        "print(json.dumps({'config': json.load(sys.stdin), 'env': sorted(k for k in os.environ if k != 'LC_CTYPE')}))",
    )
    answer = run_plugin("ADD", {"type": "fake", "name": "n"}, {"CNI_IFNAME": "eth0"}, directories=directories)
    assert answer["config"] == {"type": "fake", "name": "n"}
    assert set(answer["env"]) <= {"CNI_COMMAND", "CNI_IFNAME", "CNI_PATH", "PATH", "CORRAL_TEST_MARK"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, Unsupported), (3, FailedPrecondition), (7, InvalidArgument), (11, Unavailable), (999, Unavailable)],
)
def test_plugins_error_keeps_its_words(folder: Path, code: int, kind: type[CorralError]) -> None:
    """Its code becomes a kind; message and details are the cause."""
    directories = make(
        folder, f"print(json.dumps({{'code': {code}, 'msg': 'no room', 'details': 'all taken'}})); sys.exit(1)"
    )
    with pytest.raises(kind) as caught:
        run_plugin("ADD", {"type": "fake", "name": "n"}, {}, directories=directories)
    assert str(caught.value) == "ADD by CNI plugin 'fake' for network 'n': no room: all taken"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sys.stderr.write('first\\nlast\\n'); sys.exit(3)", "last"),
        ("sys.exit(3)", "it ended with code 3"),
        ("print('[]')", "its answer is no JSON object"),
        ("print('{')", "its answer is no JSON object"),
    ],
    ids=["stderr", "silent", "list", "cut off"],
)
def test_plugin_that_breaks_the_rules_is_named(folder: Path, text: str, words: str) -> None:
    """With the last thing that it said."""
    with pytest.raises(Unavailable, match=words):
        run_plugin("ADD", {"type": "fake", "name": "n"}, {}, directories=make(folder, text))


def test_plugin_that_hangs_is_killed(folder: Path) -> None:
    """After its time, with what it started."""
    directories = make(folder, "import subprocess; subprocess.run(['sleep', '1000'])")
    with pytest.raises(Timeout, match="it did not end within"):
        run_plugin("ADD", {"type": "fake", "name": "n"}, {}, directories=directories, timeout_s=0.3)


def test_plugin_is_a_plain_name_that_is_there(folder: Path) -> None:
    """A configuration cannot name a program elsewhere."""
    with pytest.raises(InvalidArgument, match="not a plain name"):
        find_plugin("../sh", [str(folder)])
    with pytest.raises(NotFound) as caught:
        find_plugin("bridge", [str(folder)])
    assert "containernetworking-plugins" in caught.value.hint


def test_program_that_a_plugin_lacks_is_named_in_the_hint(folder: Path) -> None:
    """The plugins for firewalls and ports call iptables, which no package of theirs brings."""
    words = 'failed to locate iptables: exec: "iptables": executable file not found in $PATH'
    directories = make(folder, f"print(json.dumps({{'code': 999, 'msg': {words!r}}})); sys.exit(1)")
    with pytest.raises(Unavailable, match="failed to locate iptables") as caught:
        run_plugin("ADD", {"type": "fake", "name": "n"}, {}, directories=directories)
    assert caught.value.hint == "install iptables: the plugin calls it"


def test_versions_that_a_plugin_knows_are_named_in_the_hint(folder: Path) -> None:
    """A cniVersion that is too new for a plugin is not left to be guessed."""
    script = (
        "if os.environ['CNI_COMMAND'] == 'VERSION':\n"
        "    sys.exit(print(json.dumps({'supportedVersions': ['0.3.1', '0.4.0']})))\n"
        "print(json.dumps({'code': 1, 'msg': 'incompatible CNI versions'})); sys.exit(1)"
    )
    with pytest.raises(Unsupported, match="incompatible CNI versions") as caught:
        run_plugin("ADD", {"type": "fake", "name": "n", "cniVersion": "1.0.0"}, {}, directories=make(folder, script))
    assert caught.value.hint == "the network asks for cniVersion '1.0.0', the plugin knows 0.3.1, 0.4.0"
