"""Templates of --format: what people use of Go's text/template."""

from __future__ import annotations

import pytest

from corral.cli.template import Template
from corral.errors import InvalidArgument

VALUE = {
    "id": "abc",
    "Names": ["x", "y"],
    "state": {"exit_code": 7, "running": True, "error": ""},
    "labels": {"b": "2", "a": "1"},
    "none": None,
    "size_bytes": 2048,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.ID}}", "abc"),
        ("{{ .Id }}-{{.id}}", "abc-abc"),
        ("{{.State.ExitCode}}", "7"),
        ("{{.State.Running}}", "true"),
        ("{{.Names}}", "[x y]"),
        ("{{.Labels}}", "map[a:1 b:2]"),
        ("{{.None}}", "<no value>"),
        ("{{json .Names}}", '["x","y"]'),
        ("{{json .}}", None),
        ('{{join .Names ","}}', "x,y"),
        ("{{range .Names}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $i, $n := .Names}}{{$i}}{{$n}} {{end}}", "0x 1y "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .State.Error}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ('{{if eq .ID "q"}}1{{else if ne .ID "q"}}2{{else}}3{{end}}', "2"),
        ('{{if eq .ID "p" "abc"}}yes{{end}}', "yes"),
        ("{{if and .ID (not .State.Error)}}good{{end}}", "good"),
        ("{{with .State}}{{.ExitCode}}{{end}}", "7"),
        ("{{$x := .State}}{{$x.ExitCode}}{{$.ID}}", "7abc"),
        ('{{index .Labels "a"}}{{index .Names 1}}', "1y"),
        ("{{len .Names}}", "2"),
        ('{{.ID | upper | printf "%5s|%-5s|" "a"}}', "    a|ABC  |"),
        ('{{printf "%03d %q %v%%" .State.ExitCode .ID true}}', '007 "abc" true%'),
        ("{{truncate .ID 2}}{{.ID | truncate 1}}", "aba"),
        ("{{slice .ID 1 3}}", "bc"),
        ("{{ .ID -}}  \n x {{- .ID }}", "abcxabc"),
        ("{{/* nothing */}}a", "a"),
        ("{{`raw {{`}}", "raw {{"),
        ('{{"a\\tb"}}', "a\tb"),
        ("{{(index .Names 0)}}", "x"),
        ("{{lt 1 2}}{{ge .SizeBytes 2048}}", "truetrue"),
        ("plain", "plain"),
    ],
)
def test_template_renders_as_go_does(text: str, expected: str | None) -> None:
    """Fields, pipelines, branches, loops, variables, functions."""
    rendered = Template(text).render(VALUE)
    assert rendered == expected if expected is not None else rendered.startswith('{"id":"abc"')


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{{.ID", "'{{' at character 0 is not closed"),
        ("a {{if .ID}}b", "an {{end}} is missing"),
        ("{{end}}", "{{end}} without if, with or range"),
        ("{{nofunc .ID}}", "unknown function 'nofunc' in {{nofunc .ID}}"),
        ("{{.ID ~}}", "unexpected '~' in {{.ID ~}}"),
        ('{{"x}}', "'{{' at character 0 is not closed"),
        ("{{(.ID}}", "a parenthesis is not closed in {{(.ID}}"),
        ("{{| upper}}", "an empty command in {{| upper}}"),
    ],
)
def test_malformed_template_is_refused_with_the_place(text: str, cause: str) -> None:
    """The template and what is wrong with it stand in the message."""
    with pytest.raises(InvalidArgument) as caught:
        Template(text)
    assert str(caught.value) == f"--format {text!r}: {cause}"


def test_unknown_field_lists_the_known_ones() -> None:
    """The hint is the list."""
    with pytest.raises(InvalidArgument, match="there is no field 'Nmae'") as caught:
        Template("{{.State.Nmae}}").render(VALUE)
    assert caught.value.hint == "fields: .exit_code, .running, .error"


def test_exact_name_goes_before_a_similar_one() -> None:
    """``.Status`` is the text for people where a row has both ``Status`` and ``status``."""
    assert Template("{{.Status}} {{.status}}").render({"status": "running", "Status": "Up"}) == "Up running"
