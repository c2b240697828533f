"""``corral run`` and its relatives with real containers: streams, exit codes, terminals, signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from root.cli.conftest import Cli
from root.engine.conftest import eventually

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]


def test_run_shows_the_programs_output_and_leaves_nothing(cli: Cli) -> None:
    """The README's first command: both streams stay apart, and --rm removes the container."""
    done = cli("run", "--rm", "host", "--", "sh", "-c", "echo hello; echo oops >&2")
    assert (done.stdout, done.stderr) == ("hello\n", "oops\n")
    assert cli("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$; sleep 9"), 143),
        (("no-such-program",), 127),
        (("/etc/passwd",), 126),
    ],
    ids=["own", "signal", "missing", "not executable"],
)
def test_run_ends_with_the_programs_exit_code(cli: Cli, words: tuple[str, ...], code: int) -> None:
    """As a shell would: its own, 128 + signal, 127, 126."""
    # pid 1 has no default action for signals, so that the shell that kills itself has to be another.
    assert cli("run", "--rm", "--init", "host", *words, code=None).returncode in (code, 126 if code == 127 else code)


def test_run_without_init_tells_missing_programs_from_others(cli: Cli) -> None:
    """127 for what is not there, 126 for what cannot be executed, 125 for what Corral cannot do."""
    assert cli("run", "--rm", "host", "no-such-program", code=127).stdout == ""
    assert cli("run", "--rm", "host", "/etc/passwd", code=126).stdout == ""
    done = cli("run", "--rm", "-v", "/no-such-directory:/x", "host", "true", code=125)
    assert done.stderr.splitlines()[0].startswith("--volume '/no-such-directory:/x': ")
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_run_passes_what_is_piped_in_to_its_end(cli: Cli) -> None:
    """`-i`: the end of the input is the end of the program's; large input and output pass whole."""
    text = "".join(f"line {number}\n" for number in range(20000))
    assert cli("run", "--rm", "-i", "host", "cat", text=text).stdout == text


def test_run_without_interactive_has_no_input(cli: Cli) -> None:
    """Without -i the program reads the end of file at once."""
    assert cli("run", "--rm", "host", "wc", "-c", text="not for it").stdout.strip() == "0"


def test_run_on_a_terminal_has_one_of_its_size(cli: Cli) -> None:
    """`-it`: a terminal of its own with this one's size; lines end as a terminal wants it; the exit code is true."""
    seen, code = cli.on_terminal("run", "--rm", "-it", "host", "sh", typed=[("# ", "stty size; tty; exit 5\n")])
    assert "33 77\r\n/dev/pts/0\r\n" in seen
    assert code == 5


def test_detach_keys_leave_the_program_running_and_attach_goes_back(cli: Cli) -> None:
    """ctrl-p ctrl-q ends the command with 0; attach reaches the same shell."""
    _, code = cli.on_terminal("run", "-it", "--name", "t", "host", "sh", typed=[("# ", "x=41\n"), ("# ", "\x10\x11")])
    assert code == 0
    assert cli("ps", "--format", "{{.Names}} {{.State}}").stdout == "t running\n"
    seen, code = cli.on_terminal("attach", "t", typed=[("", "\n"), ("# ", "echo $((x+1)); exit 3\n")])
    assert "42" in seen
    assert code == 3


def test_interrupt_is_the_programs(cli: Cli) -> None:
    """Ctrl-C reaches a program that handles it, and the command ends with that program's code."""
    trap = "trap 'echo got it; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    process = cli.start("run", "--rm", "host", "sh", "-c", trap)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("got it\n", 9)


def test_repeated_interrupt_ends_a_program_that_ignores_it(cli: Cli) -> None:
    """Pid 1 does not even notice SIGINT; the third one kills it, whatever it does."""
    process = cli.start("run", "--rm", "--stop-timeout", "0", "host", "sh", "-c", "echo ready; exec sleep 300")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def interrupt_until_over() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    eventually(interrupt_until_over)
    process.communicate()
    assert process.returncode == 137


def test_run_in_the_background_prints_the_id(cli: Cli, tmp_path: Path) -> None:
    """`-d`: the id on stdout and in --cidfile; the container goes on by itself."""
    made = cli("run", "-d", "--name", "bg", "--cidfile", f"{tmp_path}/cid", "host", "sleep", "300").stdout.strip()
    assert (tmp_path / "cid").read_text() == made
    assert cli("inspect", "--format", "{{.Id}} {{.State.Status}}", "bg").stdout == f"{made} running\n"
    assert cli("run", "-d", "--cidfile", f"{tmp_path}/cid", "host", "true", code=125).stdout == ""


def test_limits_user_environment_and_mounts_reach_the_program(cli: Cli, tmp_path: Path) -> None:
    """What the flags say is what the program sees."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("mounted\n")
    done = cli(
        *("run", "--rm", "--memory", "64m", "--user", "65534:65534", "-e", "A=b c", "-w", "/tmp", "-h", "box"),
        *("-v", f"{tmp_path}:/data:ro", "--tmpfs", "/scratch:size=1m", "--ulimit", "nofile=77:88", "--read-only"),
        *("host", "sh", "-c", "id -u; id -g; echo $A; pwd; hostname; cat /data/file; ulimit -n; touch /x || echo ro"),
    )
    assert done.stdout.split("\n")[:-1] == ["65534", "65534", "b c", "/tmp", "box", "mounted", "77", "ro"]


def test_host_root_is_not_touched(cli: Cli) -> None:
    """What a container of `host` writes stays in its own layer."""
    cli("run", "--rm", "host", "sh", "-c", "echo x > /etc/corral-test-file")
    assert not Path("/etc/corral-test-file").exists()


def test_init_reaps_orphans_and_ends_as_the_program(cli: Cli) -> None:
    """--init: pid 1 is corral-init; orphans are reaped; exit code and signals pass."""
    script = "(sleep 0.1 &) ; sleep 0.3; ps -o stat= -A | grep -c Z; cat /proc/1/comm; exit 4"
    done = cli("run", "--rm", "--init", "host", "sh", "-c", script, code=4)
    assert done.stdout.split() == ["0", "corral-init"]


def test_exec_runs_beside_with_streams_and_code(cli: Cli) -> None:
    """Streams apart, input to its end, its own environment, user and exit code."""
    cli("run", "-d", "--name", "c", "host", "sleep", "300")
    done = cli("exec", "c", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert cli("exec", "-i", "c", "cat", text="typed\n").stdout == "typed\n"
    assert cli("exec", "-e", "A=1", "-u", "65534", "-w", "/tmp", "c", "sh", "-c", "echo $A $(id -u) $PWD").stdout == (
        "1 65534 /tmp\n"
    )
    assert cli("exec", "c", "no-such-program", code=127).stdout == ""
    seen, code = cli.on_terminal("exec", "-it", "c", "sh", typed=[("# ", "stty size; exit 6\n")])
    assert ("33 77\r\n" in seen, code) == (True, 6)


def test_exec_with_a_time_limit_ends_it_and_what_it_left_when_attached(cli: Cli) -> None:
    """`--timeout` holds in the foreground, with a terminal and without; a limit on a detached one is refused."""
    cli("run", "-d", "--name", "c", "host", "sleep", "300")
    script = "sleep 301 & echo begun; sleep 302"
    done = cli("exec", "--timeout", "500ms", "c", "sh", "-c", script, code=125)
    assert done.stdout == "begun\n"
    assert done.stderr.splitlines()[0] == "exec in container 'c': 'sh' did not end within 0.5 s"
    seen, code = cli.on_terminal("exec", "-it", "--timeout", "500ms", "c", "sh")
    assert ("did not end within 0.5 s" in seen, code) == (True, 125)
    assert [row["command"] for row in cli.engine.call("top", "c")] == ["sleep 300"]
    assert cli("exec", "--timeout", "60s", "c", "sh", "-c", "exit 4", code=4).stderr == ""
    assert "nobody waits for" in cli("exec", "-d", "--timeout", "1s", "c", "true", code=125).stderr


def test_wait_goes_on_when_a_policy_starts_the_container_again(cli: Cli, tmp_path: Path) -> None:
    """The code is that of the last run; `next-exit` is there for one end; `stop` ends what is always restarted."""
    script = f"echo x >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) -lt 3 ] && exit 7; exit 0"
    volume = ("-v", f"{tmp_path}:{tmp_path}")
    cli("run", "-d", "--name", "job", "--restart", "on-failure", *volume, "host", "sh", "-c", script)
    assert cli("wait", "job").stdout == "0\n"
    assert (tmp_path / "runs").read_text() == "x\n" * 3
    cli("run", "-d", "--name", "server", "--restart", "always", "host", "sh", "-c", "sleep 0.2; exit 5")
    assert cli("wait", "--condition", "next-exit", "server").stdout == "5\n"
    refused = cli("wait", "--timeout", "1s", "server", code=125).stderr
    assert refused.startswith("wait for container 'server' to end")
    waiting = cli.start("wait", "server")
    cli("stop", "-t", "0", "server")
    assert waiting.communicate(timeout=60)[0] in ("5\n", "137\n")


def test_export_writes_an_archive_that_import_takes(cli: Cli, tmp_path: Path) -> None:
    """To a file and to a pipe; a volume is not in it; one that is not there leaves no file behind."""
    (tmp_path / "root" / "bin").mkdir(parents=True)
    (tmp_path / "root" / "data").mkdir()
    shutil.copy(os.path.realpath("/bin/busybox"), tmp_path / "root" / "bin" / "sh")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "secret").touch()
    root = ("--rootfs", f"{tmp_path}/root:O")
    cli("run", "-d", "--name", "c", "--network", "none", "-v", f"{tmp_path}/volume:/data", *root, "sh", "-c",
        "echo made > /made; exec sh -c 'while :; do read x < /dev/null; done'")  # fmt: skip
    eventually(lambda: "A /made" in cli("diff", "c").stdout)
    cli("export", "-o", f"{tmp_path}/out.tar", "c")
    with tarfile.open(tmp_path / "out.tar") as made:
        names = set(made.getnames())
    assert {"made", "data", "bin/sh"} <= names
    assert "data/secret" not in names
    cli("stop", "-t", "0", "c")
    piped = subprocess.run(cli.words("export", "c"), capture_output=True, check=True, timeout=60)
    (tmp_path / "piped.tar").write_bytes(piped.stdout)
    cli("import", f"{tmp_path}/piped.tar", "again")
    assert cli("run", "--rm", "--network", "none", "again", "sh", "-c", "read x < /made; echo $x").stdout == "made\n"
    assert cli("export", "-o", f"{tmp_path}/none.tar", "missing", code=1).stderr.startswith("find container 'missing'")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("none")] == []
    for words in (("export", "c"), ("cp", "c:/bin", "-")):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(cli.words(*words), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr.splitlines()[0]) == (125, "write the archive: no space left on device")


def test_lifecycle_by_the_usual_words(cli: Cli) -> None:
    """create, start -a, logs, stop, restart, rename, wait, rm."""
    cli("create", "--name", "job", "host", "sh", "-c", "echo one; echo two >&2")
    assert cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout == "job Created\n"
    done = cli("start", "-a", "job")
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    logged = cli("logs", "job")
    assert (logged.stdout, logged.stderr) == ("one\n", "two\n")
    cli("rename", "job", "task")
    assert cli("wait", "task").stdout == "0\n"
    assert cli("rm", "task").stdout == "task\n"
    cli("run", "-d", "--name", "s", "host", "sleep", "300")
    cli("pause", "s")
    assert cli("ps", "--format", "{{.State}}").stdout == "paused\n"
    cli("unpause", "s")
    cli("restart", "-t", "0", "s")
    assert cli("stop", "-t", "0", "s").stdout == "s\n"
    assert cli("inspect", "--format", "{{.State.ExitCode}}", "s").stdout == "137\n"
    assert cli("rm", "-f", "s", "nothing").stdout == "s\n"


def test_lists_are_tables_json_and_templates(cli: Cli) -> None:
    """The same rows in all forms."""
    made = cli("run", "-d", "--name", "x", "--label", "a=b", "host", "sleep", "300").stdout.strip()
    heading, row = cli("ps").stdout.splitlines()
    assert heading.split()[0] == "CONTAINER"
    assert row.startswith(made[:12])
    assert json.loads(cli("ps", "--format", "json").stdout)[0]["id"] == made
    assert cli("ps", "--no-trunc", "-q").stdout.strip() == made
    assert cli("ps", "--filter", "label=a=b", "--format", "table {{.Names}}\t{{.Labels}}").stdout == (
        "NAMES  LABELS\nx      a=b\n"
    )
    rows = json.loads(cli("stats", "--no-stream", "--format", "json").stdout)
    assert rows[0]["name"] == "x"
    assert rows[0]["pids"] == 1
    assert cli("top", "x", "--format", "{{.Inside}} {{.Command}}").stdout == "1 sleep 300\n"
    assert "x  " in cli("top").stdout
    assert cli("events", "--since", "1h", "--stream=false", "--format", "{{.Action}}").stdout.split()[:2] == [
        "create",
        "start",
    ]


def test_live_view_is_drawn_until_q(cli: Cli) -> None:
    """`corral top` on a terminal: a screen of its own, left as it was found."""
    cli("run", "-d", "--name", "seen", "host", "sleep", "300")
    shown, code = cli.on_terminal("top", typed=[("seen", "q")])
    assert code == 0
    assert "1 running" in shown
    assert shown.rstrip().endswith("\x1b[?1049l")


def test_update_and_effective_limits(cli: Cli) -> None:
    """New limits hold at once; inspect --effective reads them from the kernel."""
    cli("run", "-d", "--name", "u", "--memory", "64m", "host", "sleep", "300")
    cli("update", "--memory", "32m", "u")
    effective = json.loads(cli("inspect", "--effective", "u").stdout)[0]["effective"]
    assert str(32 << 20) in json.dumps(effective)


def test_cp_and_diff_and_explain(cli: Cli, tmp_path: Path) -> None:
    """Files in and out; what changed; what a start would do."""
    cli("run", "-d", "--name", "f", "host", "sleep", "300")
    (tmp_path / "in").write_text("content\n")
    cli("cp", f"{tmp_path}/in", "f:/root/copied")
    assert cli("exec", "f", "cat", "/root/copied").stdout == "content\n"
    cli("cp", "f:/root/copied", f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "content\n"
    assert "A /root/copied" in cli("diff", "f").stdout.splitlines()
    assert "exec the program" in cli("explain", "f").stdout
    assert json.loads(cli("explain", "--config", "f").stdout)["process"]["args"] == ["sleep", "300"]


def test_completion_knows_the_containers(cli: Cli) -> None:
    """Names of containers after a command that takes them."""
    cli("create", "--name", "stays", "host", "true")
    assert cli("_complete", "--", "rm", "st").stdout == "stays\thost, configured\n"
    assert "--memory\t" in cli("_complete", "--", "run", "--mem").stdout


def test_errors_say_what_and_what_to_do(cli: Cli) -> None:
    """On stderr: the message, then the hint; the exit code tells whose fault it is."""
    done = cli("rm", "nothing", code=1)
    assert done.stderr.splitlines()[0] == "find container 'nothing': no such container"
    assert done.stderr.splitlines()[1].startswith("hint: ")
    assert cli("runn", "host", code=125).stderr.splitlines() == [
        "unknown command 'runn'",
        "hint: did you mean `corral run`? `corral --help` lists the commands",
    ]


def test_terminal_without_one_here_ends_with_the_input(cli: Cli) -> None:
    """`-it` with a pipe as input, as in CI: what is piped is typed, and its end is typed too."""
    done = cli("run", "--rm", "-it", "host", "sh", text="echo $((40 + 2)); exit 4\n", code=4)
    assert done.stdout.endswith("42\n")
    assert cli("run", "--rm", "-it", "host", "cat").returncode == 0


def test_pod_shares_its_network_and_is_shown_with_its_containers(cli: Cli) -> None:
    """pod create, run --pod, pod ps, pod stop, pod rm."""
    cli("pod", "create", "--network", "none", "site")
    cli("run", "-d", "--pod", "site", "--name", "one", "host", "sleep", "300")
    own = cli("exec", "one", "readlink", "/proc/self/ns/net").stdout
    assert cli("run", "--rm", "--pod", "site", "host", "readlink", "/proc/self/ns/net").stdout == own
    assert cli("pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}").stdout == "site Running 2\n"
    lines = [line.split()[0] for line in cli("top").stdout.splitlines()[4:]]
    assert lines == ["site-infra", "one"]
    cli("pod", "stop", "-t", "0", "site")
    assert cli("pod", "rm", "-f", "site").stdout == "site\n"
    assert cli("ps", "-aq").stdout == ""


def test_images_go_in_and_out(cli: Cli, tmp_path: Path) -> None:
    """import, run, commit, tag, save, rmi, load, history."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for name in ("sh", "echo", "cat"):
        (root / "bin" / name).symlink_to("busybox")
    cli("import", "-c", 'CMD ["/bin/echo", "from the image"]', "-c", "ENV A=b", str(root), "tiny:1")
    assert cli("run", "--rm", "--network", "none", "tiny:1").stdout == "from the image\n"
    cli("run", "--network", "none", "--name", "made", "tiny:1", "sh", "-c", "echo $A > /new")
    assert "A /new" in cli("diff", "made").stdout.splitlines()
    cli("commit", "-m", "with a file", "made", "tiny:2")
    assert cli("run", "--rm", "--network", "none", "tiny:2", "cat", "/new").stdout == "b\n"
    assert "with a file" in cli("history", "tiny:2").stdout
    cli("tag", "tiny:2", "other:x")
    assert sorted(cli("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()) == [
        "localhost/other:x",
        "localhost/tiny:1",
        "localhost/tiny:2",
    ]
    done = cli("rmi", "tiny:1", code=2)
    assert done.stderr.startswith("remove image 'tiny:1': in use by container-")
    cli("rm", "made")
    cli("save", "-o", f"{tmp_path}/all.tar", "tiny:2")
    cli("rmi", "-f", "tiny:1", "tiny:2", "other:x")
    assert cli("images", "-q").stdout == ""
    assert cli("load", "-i", f"{tmp_path}/all.tar").stdout == "loaded localhost/tiny:2\n"
    assert cli("inspect", "--format", "{{.Config.Cmd}}", "tiny:2").stdout == "[/bin/echo from the image]\n"


def test_wait_for_health_and_follow_logs(cli: Cli) -> None:
    """wait --condition healthy; one that cannot come is told at once; logs -f ends with the container."""
    cli("run", "-d", "--name", "h", "--health-cmd", "true", "--health-interval", "200ms", "host", "sleep", "300")
    cli("wait", "--condition", "healthy", "--timeout", "60s", "h")
    assert "(healthy)" in cli("ps", "--format", "{{.Status}}").stdout
    assert "it is running" in cli("wait", "--timeout", "100ms", "h", code=125).stderr
    cli("run", "-d", "--name", "talks", "host", "sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.2; done")
    assert cli("logs", "-f", "talks").stdout == "1\n2\n3\n"
    assert cli("logs", "--tail", "1", "talks").stdout == "3\n"
    assert "it has no health check" in cli("wait", "--condition", "healthy", "talks", code=125).stderr


def test_cp_reads_and_writes_tars(cli: Cli, tmp_path: Path) -> None:
    """`-` on either side."""
    cli("run", "-d", "--name", "t", "host", "sh", "-c", "echo inside > /root/made; sleep 300")
    shell = " ".join(cli.words())
    script = f"{shell} cp t:/root/made - | tar x -C {tmp_path} && tar c -C {tmp_path} made | {shell} cp - t:/var"
    eventually(lambda: subprocess.run(["sh", "-c", script], capture_output=True).returncode == 0)
    assert (tmp_path / "made").read_text() == "inside\n"
    assert cli("exec", "t", "cat", "/var/made").stdout == "inside\n"


def test_volumes_keep_what_is_written(cli: Cli) -> None:
    """A named volume outlives containers; a nameless one goes with its container."""
    assert cli("volume", "create", "--label", "a=b", "kept").stdout == "kept\n"
    cli("run", "--rm", "-v", "kept:/data", "host", "sh", "-c", "echo inside > /data/file")
    assert cli("run", "--rm", "-v", "kept:/data:ro", "host", "cat", "/data/file").stdout == "inside\n"
    cli("run", "--rm", "-v", "/nameless", "host", "touch", "/nameless/x")
    assert cli("volume", "ls", "--format", "{{.Name}} {{.Labels}}").stdout == "kept a=b\n"
    place = cli("volume", "inspect", "--format", "{{.Mountpoint}}", "kept").stdout.strip()
    assert (Path(place) / "file").read_text() == "inside\n"
    cli("create", "--name", "user", "-v", "kept:/data", "host", "true")
    assert cli("volume", "rm", "kept", code=None).returncode != 0
    cli("rm", "user")
    assert cli("volume", "rm", "kept").stdout == "kept\n"
    assert cli("volume", "rm", "-f", "kept").stdout == ""


def test_networks_are_made_listed_and_removed(cli: Cli) -> None:
    """network create, ls, inspect, rm."""
    assert cli("network", "create", "--subnet", "10.213.7.0/24", "apart").stdout == "apart\n"
    assert "apart" in cli("network", "ls", "-q").stdout.split()
    assert cli("network", "inspect", "--format", "{{.Subnets}}", "apart").stdout == "10.213.7.0/24\n"
    assert cli("network", "rm", "apart").stdout == "apart\n"
    assert cli("network", "inspect", "apart", code=1).stdout == ""


def test_detach_keys_leave_an_exec_running(cli: Cli) -> None:
    """The program of an exec goes on without the command that began it."""
    cli("run", "-d", "--name", "c", "host", "sleep", "300")
    typed = [("# ", "exec sleep 299\n"), ("exec sleep 299", "\x10\x11")]
    _, code = cli.on_terminal("exec", "-it", "c", "sh", typed=typed)
    assert code == 0
    assert "sleep 299" in cli("top", "c", "--format", "{{.Command}}").stdout.splitlines()


def test_terminal_is_put_back_when_the_command_is_ended(cli: Cli) -> None:
    """SIGTERM ends the command, not the container, and leaves the terminal as it was."""
    cli("run", "-d", "--name", "held", "-it", "host", "sh")
    before, during, after = cli.modes_around("attach", "held")
    assert (before == after, before == during) == (True, False)
    assert cli("ps", "-q").stdout != ""
