"""Tables, sizes, times, progress."""

from __future__ import annotations

import io
import time

import pytest

from corral.cli import render
from corral.cli.flags import Line
from corral.cli.progress import Bars, line_of
from corral.cli.rows import container, status_text
from corral.errors import InvalidArgument
from corral.image.progress import Progress

ROWS = [({"id": "a" * 64, "n": 1}, {"ID": "a" * 12, "Name": "web"}), ({"id": "b" * 64}, {"ID": "b" * 12, "Name": "x"})]
COLUMNS = (("CONTAINER ID", "ID"), ("NAME", "Name"))


def printed(capsys: pytest.CaptureFixture[str], **values: str | bool) -> str:
    """What a list prints for these flags."""
    render.print_list(Line("ps", dict(values), []), ROWS, COLUMNS)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_list_is_a_table_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns as wide as they need to be, no blanks at the end of a line."""
    assert printed(capsys) == f"CONTAINER ID  NAME\n{'a' * 12}  web\n{'b' * 12}  x\n"
    assert printed(capsys, noheading=True) == f"{'a' * 12}  web\n{'b' * 12}  x\n"


def test_list_prints_what_format_and_quiet_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, JSON, a template, a table by a template."""
    assert printed(capsys, quiet=True) == f"{'a' * 12}\n{'b' * 12}\n"
    assert '"n": 1' in printed(capsys, format="json")
    assert printed(capsys, format="{{.Name}}") == "web\nx\n"
    assert printed(capsys, format="table {{.Name}}\\t{{.ID}}") == f"NAME  ID\nweb   {'a' * 12}\nx     {'b' * 12}\n"


def test_template_is_checked_when_there_are_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A field that is misspelt is an error today, not on the day that there is something to list."""
    for template in ("{{.Nmae}}", "table {{.Nmae}}\\t{{.ID}}", "{{json .Nmae}}"):
        with pytest.raises(InvalidArgument, match="there is no field 'Nmae'"):
            render.print_list(Line("ps", {"format": template}, []), [], COLUMNS, blank=ROWS[0][1])
    for template in ("{{.Name}}", "{{.created_ns}}", "{{json .}}", "table", "json"):
        render.print_list(Line("ps", {"format": template, "noheading": True}, []), [], COLUMNS, blank=ROWS[0][1])
    assert capsys.readouterr().out == "[]\n"


def test_names_from_strangers_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a label are shown, not obeyed."""
    render.print_table((), [["\x1b[2Jx", "y"]])
    assert capsys.readouterr().out == "?[2Jx  y\n"


@pytest.mark.parametrize(("count", "text"), [(0, "0B"), (999, "999B"), (1200, "1.2kB"), (72_800_000, "72.8MB")])
def test_sizes_are_in_powers_of_1000(count: int, text: str) -> None:
    """As Docker and Podman show them."""
    assert render.size(count) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512B"), (1024, "1KiB"), (64 << 20, "64MiB"), (3 << 29, "1.5GiB")])
def test_memory_is_in_powers_of_1024(count: int, text: str) -> None:
    """As limits are given."""
    assert render.size_binary(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (7300, "2 hours"),
     (86400, "1 day"), (15 * 86400, "2 weeks"), (400 * 86400, "1 year")],
)  # fmt: skip
def test_spans_read_as_people_say_them(seconds: float, text: str) -> None:
    """The largest unit that fits."""
    assert render.span(seconds) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"status": "running", "started_ns": 0}, "Up"),
        ({"status": "configured"}, "Created"),
        ({"status": "exited", "exit": {"code": 3}}, "Exited (3)"),
        ({"status": "exited", "exit": {"code": None}}, "Exited (unknown)"),
        ({"status": "exited", "exit": {"code": 137, "reason": "OOMKilled"}}, "Exited (137), out of memory"),
        ({"status": "dead"}, "Dead: clean-up pending"),
    ],
)
def test_status_says_what_is_known(row: dict[str, object], text: str) -> None:
    """An exit code that nobody saw is never invented."""
    assert status_text(row) == text


def test_running_container_shows_its_health() -> None:
    """As Docker: ``Up 5 minutes (healthy)``."""
    row = {"status": "running", "started_ns": time.time_ns() - 301 * 10**9, "health": {"status": "healthy"}}
    assert status_text(row) == "Up 5 minutes (healthy)"


def test_row_has_the_names_of_dockers_templates() -> None:
    """The ones that scripts use."""
    row = {"id": "c" * 64, "name": "n", "image": "i", "command": ["sh", "-c", "x" * 40], "status": "created"}
    shown = container(row, Line("ps", {}, []))
    assert (shown["ID"], shown["Names"], shown["State"]) == ("c" * 12, "n", "created")
    assert len(str(shown["Command"])) == 24
    assert container(row, Line("ps", {"no-trunc": True}, []))["ID"] == "c" * 64


def test_progress_in_a_pipe_is_one_line_at_the_end() -> None:
    """No escape sequences where nobody looks."""
    out = io.StringIO()
    with Bars("pulling x", out=out) as bars:
        bars.update(Progress("sha256:" + "a" * 64, "layer", "moving", 1, 10))
        bars.update(Progress("sha256:" + "a" * 64, "layer", "done", 10, 10))
        bars.update(Progress("sha256:" + "b" * 64, "layer", "present", 5, 5))
    assert out.getvalue() == "pulling x\n1 of 2 blobs moved, 10B; the others were there\n"


def test_bar_shows_share_and_rate() -> None:
    """Half of the bar for half of the bytes."""
    line = line_of(Progress("sha256:" + "a" * 64, "layer", "moving", 50, 100, 2000))
    assert line == f"{'a' * 12} layer  [{'=' * 14}>{' ' * 13}] 50B/100B 2kB/s"
