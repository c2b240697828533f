"""Output: to the log exactly once whatever happens to the monitor, and to clients with back-pressure."""

from __future__ import annotations

import functools
import json
import os
import random
import select
import signal
import threading
from pathlib import Path

import pytest

from corral.errors import FailedPrecondition
from root.monitor.bench import Bench, is_gone, output_of, stopped, wait_until

pytestmark = pytest.mark.requires("root", "busybox")

COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo line $i; done"


def read_all(fd: int) -> bytes:
    """Until the end of the pipe."""
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def _has_grown(log: Path, goal: int, exited: Path) -> bool:
    return log.stat().st_size > goal or exited.exists()


def kill_monitor(bench: Bench, container_id: str) -> None:
    """SIGKILL it, and wait until another one answers or none is needed any more."""
    pid = bench.monitor_pid(container_id)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), "the monitor's death")


@pytest.mark.parametrize("seed", range(4))
def test_log_has_every_line_once_when_monitors_are_killed(bench: Bench, seed: int) -> None:
    """SIGKILL at random moments in the middle of output: no byte is lost, none is twice, and the exit code is true."""
    chance = random.Random(seed)
    made = bench.run(["/bin/sh", "-c", f"{COUNT.format(30000)}; exit 9"])
    log, exited = Path(bench.places.container(made), "log"), Path(bench.places.container(made), "exit")
    # One more death within ten seconds would be a crash loop, after which the keeper pauses.
    for step in range(1, 4):
        goal = step * chance.randrange(100_000, 300_000)
        wait_until(functools.partial(_has_grown, log, goal, exited), "some output")
        if exited.exists():
            break
        kill_monitor(bench, made)
    record = bench.wait_exit(made)
    bench.wait_monitor_gone(made)
    assert output_of(bench.log(made)) == "".join(f"line {n}\n" for n in range(1, 30001))
    assert (record["status"], record["source"]) == (9 << 8, "observed")


def test_client_gets_output_when_it_is_attached(bench: Bench) -> None:
    """Both streams, completely, and the connection ends after the last of it."""
    made = bench.create(["/bin/sh", "-c", "seq 1 3000; echo bad >&2"])
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdout=out_end, stderr=err_end)
        os.close(out_end)
        os.close(err_end)
        bench.start(made)
        assert read_all(out) == "".join(f"{n}\n" for n in range(1, 3001)).encode()
        assert read_all(err) == b"bad\n"
        client.wait_detached(60)
    os.close(out)
    os.close(err)


def test_end_is_told_after_the_output_when_one_client_wants_both(bench: Bench) -> None:
    """Who is attached and attends has all output when it hears of the end."""
    made = bench.create(["/bin/sh", "-c", "seq 1 5000"])
    out, out_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdout=out_end, attends=True)
        os.close(out_end)
        bench.start(made)
        text = b""
        while not select.select([client.fileno()], [], [], 0)[0]:
            if select.select([out, client.fileno()], [], [], 60)[0] == [out]:
                text += os.read(out, 65536)
        assert client.receive_exit(60) is not None
        client.done()
        text += read_all(out)
    os.close(out)
    assert text == "".join(f"{n}\n" for n in range(1, 5001)).encode()


def test_process_waits_when_the_client_does_not_read(bench: Bench) -> None:
    """Back-pressure: what is written stays bounded, and nothing is lost."""
    made = bench.create(["/bin/sh", "-c", "seq 1 200000"], log="none")
    out, out_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdout=out_end)
        os.close(out_end)
        bench.start(made)
        wait_until(lambda: "pipe_write" in _wchans(bench.init_pid(made)), "the process waits in its write")
        assert read_all(out) == "".join(f"{n}\n" for n in range(1, 200001)).encode()
    os.close(out)


def _wchans(pid: int) -> set[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{one}/wchan").read_text().replace("anon_pipe", "pipe") for one in [str(pid), *children]}


def test_output_is_dropped_when_nobody_wants_it(bench: Bench) -> None:
    """Without log and clients the process is not held up."""
    made = bench.run(["/bin/sh", "-c", "seq 1 300000; seq 1 300000 >&2; exit 3"], log="none")
    assert bench.wait_exit(made)["status"] == 3 << 8
    assert not Path(bench.places.container(made), "log").exists()


def test_other_clients_go_on_when_one_closes_its_end(bench: Bench) -> None:
    """`| head` takes what it wants; the process and the log do not notice."""
    made = bench.create(["/bin/sh", "-c", "seq 1 50000"])
    out, out_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdout=out_end)
        os.close(out_end)
        bench.start(made)
        assert os.read(out, 4)
        os.close(out)
        assert bench.wait_exit(made)["status"] == 0
    assert output_of(bench.log(made)) == "".join(f"{n}\n" for n in range(1, 50001))


def test_monitor_serves_others_when_a_client_reads_nothing(bench: Bench) -> None:
    """A client's full pipe blocks the process, not the monitor."""
    made = bench.create(["/bin/sh", "-c", "while :; do echo y; done"])
    out, out_end = os.pipe()
    with bench.monitor(made) as slow, bench.monitor(made) as other:
        slow.attach(stdout=out_end)
        os.close(out_end)
        bench.start(made)
        wait_until(lambda: "pipe_write" in _wchans(bench.init_pid(made)), "the process waits in its write")
        with pytest.raises(FailedPrecondition, match="no terminal"):
            other.resize(24, 80)
        os.kill(bench.init_pid(made), signal.SIGKILL)
        record = other.watch(60)
        assert record is not None
        assert record["status"] == signal.SIGKILL
    os.close(out)


def _write_and_close(fd: int, text: bytes) -> None:
    os.write(fd, text)
    os.close(fd)


def test_input_reaches_the_process_when_a_client_gives_it(bench: Bench) -> None:
    """And with stdin_once its end is the end of the process's input."""
    made = bench.create(["/bin/cat"], stdin="1", stdin_once="1")
    source, source_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdin=source)
        os.close(source)
        bench.start(made)
        text = b"".join(b"%d\n" % n for n in range(100000))
        writer = threading.Thread(target=_write_and_close, args=(source_end, text))
        writer.start()
        assert bench.wait_exit(made)["status"] == 0
        writer.join()
    assert output_of(bench.log(made)).encode() == text


def test_input_stays_open_when_a_client_leaves(bench: Bench) -> None:
    """Without stdin_once the next client types on; CLOSE_STDIN ends it."""
    made = bench.create(["/bin/cat"], stdin="1")
    bench.start(made)
    for word in ("one\n", "two\n"):
        source, source_end = os.pipe()
        with bench.monitor(made) as client:
            client.attach(stdin=source)
            os.close(source)
            os.write(source_end, word.encode())
            os.close(source_end)
            wait_until(lambda word=word: word in output_of(bench.log(made)), "the echo")  # type: ignore[misc]
    with bench.monitor(made) as client:
        client.close_stdin()
    assert bench.wait_exit(made)["status"] == 0


def test_second_client_is_refused_when_the_input_is_taken(bench: Bench) -> None:
    """Standard input has one owner."""
    made = bench.create(["/bin/cat"], stdin="1")
    source, source_end = os.pipe()
    with bench.monitor(made) as first, bench.monitor(made) as second:
        first.attach(stdin=source)
        with pytest.raises(FailedPrecondition, match="another client"):
            second.attach(stdin=source)
    os.close(source)
    os.close(source_end)


def test_process_sees_no_input_when_none_was_asked_for(bench: Bench) -> None:
    """Its standard input is /dev/null."""
    made = bench.run(["/bin/cat"])
    assert bench.wait_exit(made)["status"] == 0


def test_log_rotates_when_it_is_full(bench: Bench) -> None:
    """log, log.1, log.2: each within the limit, and together what was written last."""
    made = bench.run(["/bin/sh", "-c", COUNT.format(3000)], log_max_bytes="20000", log_files="3")
    bench.wait_exit(made)
    folder = Path(bench.places.container(made))
    files = sorted(path.name for path in folder.glob("log*"))
    assert files == ["log", "log.1", "log.2"]
    assert all((folder / name).stat().st_size <= 20000 for name in files)
    lines = output_of(bench.log(made)).splitlines()
    assert lines == [f"line {n}" for n in range(3001 - len(lines), 3001)]


def test_log_goes_on_in_a_new_file_when_it_is_reopened(bench: Bench) -> None:
    """For who rotates by itself."""
    made = bench.create(["/bin/cat"], stdin="1")
    bench.start(made)
    folder = Path(bench.places.container(made))
    source, source_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdin=source)
        os.close(source)
        os.write(source_end, b"one\n")
        wait_until(lambda: (folder / "log").read_text().endswith("one\n"), "the first line")
        (folder / "log").rename(folder / "old")
        client.reopen_log()
        os.write(source_end, b"two\n")
        wait_until(lambda: (folder / "log").read_text().endswith("two\n"), "the second line")
    os.close(source_end)
    assert "two" not in (folder / "old").read_text()


def test_json_log_is_json_when_output_is_not_text(bench: Bench) -> None:
    """Each line an object; bytes that are no UTF-8 are replaced, a character that is written in two parts is not."""
    script = "printf 'a\\303'; sleep 0.1; printf '\\244\\377\\001\"\\\\\\n'; printf end"
    made = bench.run(["/bin/sh", "-c", script], log="json")
    bench.wait_exit(made)
    rows = [json.loads(line) for line in Path(bench.places.container(made), "log").read_text().splitlines()]
    assert "".join(row["log"] for row in rows) == 'aä\ufffd\x01"\\\nend'
    assert {row["stream"] for row in rows} == {"stdout"}


def test_record_does_not_wait_when_a_child_keeps_the_pipe(bench: Bench) -> None:
    """A leaked child holds standard output; the exit is told all the same."""

    def share_pids(spec: dict) -> None:  # type: ignore[type-arg]
        spec["linux"]["namespaces"] = [item for item in spec["linux"]["namespaces"] if item["type"] != "pid"]

    made = bench.run(["/bin/sh", "-c", "sleep 1000 & echo done"], share_pids)
    record = bench.wait_exit(made)
    assert record["status"] == 0
    assert output_of(bench.log(made)) == "done\n"


def test_nobody_waits_when_the_monitor_is_stopped(bench: Bench) -> None:
    """S4.5: the keeper serves others while one monitor hangs."""
    hangs = bench.run(["/bin/sleep", "1000"])
    with stopped(bench.monitor_pid(hangs)):
        other = bench.run(["/bin/true"])
        assert bench.wait_exit(other)["status"] == 0
        with bench.keeper() as keeper:
            assert [item["id"] for item in keeper.list() if item["id"] == hangs] == [hangs]
