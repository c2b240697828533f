"""corral.runtime.main, log and usage: how a command ends, and what it says on the way."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from corral.errors import InvalidArgument, NotFound
from corral.linux.sockets import recv_fds, send_fds, seqpacket_pair
from corral.runtime import main as module
from corral.runtime.log import report, warn
from corral.runtime.main import main
from corral.runtime.options import COMMAND_FLAGS, GLOBAL_FLAGS
from corral.runtime.session import HEADER, REQUEST, TEXT
from corral.runtime.usage import usage


def test_error_is_one_line_of_json_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """podman reads the log as one document; the hint is a member of it."""
    log = tmp_path / "log"
    code = main(["--root", str(tmp_path), "--log", str(log), "--log-format", "json", "pause", "c1"])
    entry = json.loads(log.read_text())

    assert 1 == code
    assert ("error", "container 'c1': container does not exist") == (entry["level"], entry["msg"])
    assert entry["hint"].startswith("`corral-runtime list`")
    assert capsys.readouterr().err.startswith("container 'c1': container does not exist\nhint: ")


@pytest.mark.parametrize(
    "words", [["fly"], ["pause", "--wings", "c1"], ["--wings", "pause", "c1"], ["update", "--pids-limit", "x"]]
)
def test_command_line_that_cannot_be_read_is_told_in_the_log_too(tmp_path: Path, words: list[str]) -> None:
    """Whatever stands before the mistake is heeded: a caller reads the log, not stderr."""
    log = tmp_path / "log"
    code = main(["--log", str(log), "--log-format=json", *words])

    assert (1, "error") == (code, json.loads(log.read_text())["level"])


def test_text_log_is_logrus_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level and quoted message on one line, whatever is in it."""
    report(NotFound('no "x"\nhere'), log=str(tmp_path / "log"))
    line = (tmp_path / "log").read_text()

    assert 1 == line.count("\n")
    assert 'level=error msg="no \\"x\\" here"' in line
    assert 'no "x" here\n' == capsys.readouterr().err


def test_warning_goes_to_the_log_if_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Callers parse stderr."""
    warn("careful", log=str(tmp_path / "log"), log_format="json")
    assert ("", "warning") == (capsys.readouterr().err, json.loads((tmp_path / "log").read_text())["level"])
    warn("careful")
    assert "warning: careful\n" == capsys.readouterr().err


def test_log_that_cannot_be_written_hides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is on stderr all the same."""
    report(NotFound("gone"), log=str(tmp_path / "no" / "log"))

    assert f"gone\nwrite the log {tmp_path}/no/log: no such file or directory\n" == capsys.readouterr().err


def test_pointer_follows_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Which place of config.json is meant."""
    report(InvalidArgument("mount x: no", pointer="mounts[3]"))

    assert "mount x: no (config mounts[3])\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"), [([], 0), (["--help"], 0), (["list", "--help"], 0), (["help", "ps"], 0), (["fly"], 1)]
)
def test_help_exits_with_zero_and_the_unknown_does_not(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help is on stdout, errors on stderr."""
    assert code == main(words)
    out, err = capsys.readouterr()
    assert (bool(out), bool(err)) == (code == 0, code != 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["state"], "state: the container's id is missing\n"),
        (["kill", "a", "b", "c"], "kill: unexpected argument 'c'\n"),
    ],
)
def test_command_of_the_front_comes_here_only_to_be_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It could not read its arguments."""
    assert 1 == main(words)
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(("error", "code"), [(BrokenPipeError(), 1), (KeyboardInterrupt(), 130)])
def test_ends_that_are_no_errors_make_no_traceback(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that went away, and ^C."""

    def dispatch(line: object) -> int:
        raise error

    monkeypatch.setattr(module, "_dispatch", dispatch)
    assert code == main(["list"])


def test_cold_planner_serves_one_front_and_ends() -> None:
    """``--planner-fd=N``: the session lasts until the front hangs up."""
    front, planner = seqpacket_pair()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main([f"--planner-fd={planner.detach()}"])))
    thread.start()
    fd = os.memfd_create("request")
    os.write(fd, b"v=1\0cwd=/\0arg=run\0arg=-h\0")
    send_fds(front, HEADER.pack(REQUEST, 0, 0, 0), (fd,))
    data, _ = recv_fds(front, 1 << 17)
    os.close(fd)
    front.close()
    thread.join()

    assert (TEXT, [0]) == (HEADER.unpack_from(data)[0], codes)


def test_help_names_every_command_and_flag() -> None:
    """Nothing is hidden; every flag has its line of explanation."""
    text = usage("")
    assert [] == [command for command in COMMAND_FLAGS if command not in text]
    assert [] == [flag for flag in GLOBAL_FLAGS if f"--{flag}" not in text]
    for command, flags in COMMAND_FLAGS.items():
        assert [] == [flag for flag in flags if f"--{flag}" not in usage(command)]
