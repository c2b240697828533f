"""``corral completion SHELL``, and ``corral _complete``, which the scripts call."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import Command
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "completion",
        "bash|zsh|fish",
        least=1,
        most=1,
        text="Put the output where the shell reads it, or read it at once, as in the examples.",
        examples=(
            ("completion bash > /etc/bash_completion.d/corral", "for everybody, bash"),
            ("completion zsh > ~/.zfunc/_corral", "zsh, with ~/.zfunc in fpath"),
            ("completion fish > ~/.config/fish/completions/corral.fish", "fish"),
        ),
    ),
    Command("_complete", "[WORD...]", passes_rest=1),
)

_BASH = r"""# bash completion for corral
_corral() {
    local line word
    COMPREPLY=()
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        case $word in
            :files) compopt -o default -o bashdefault; COMPREPLY=(); return ;;
            :directories)
                mapfile -t COMPREPLY < <(compgen -d -- "${COMP_WORDS[COMP_CWORD]}")
                compopt -o filenames
                return ;;
            *) COMPREPLY+=("$word") ;;
        esac
    done < <(corral _complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -F _corral corral
"""
_ZSH = r"""#compdef corral
_corral() {
    local line word text
    local -a found
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        text=${line#*$'\t'}
        case $word in
            :files) _files; return ;;
            :directories) _files -/; return ;;
        esac
        word=${word//:/\\:}
        [[ $line == *$'\t'* ]] && found+=("$word:$text") || found+=("$word")
    done < <(corral _complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    _describe corral found
}
if [ "$funcstack[1]" = _corral ]; then _corral; else compdef _corral corral; fi
"""
_FISH = r"""# fish completion for corral
function __corral_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (corral _complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files*'
                __fish_complete_path (commandline -ct)
            case ':directories*'
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c corral -f -a '(__corral_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(line: Line, context: Context) -> int:
    """Print a script, or candidates."""
    if line.command == "_complete":
        from corral.cli.complete import candidates

        for word, text in candidates(line.args, context):
            write(f"{word}\t{text}\n" if text else f"{word}\n")
        return 0
    shell = line.args[0]
    if shell not in SCRIPTS:
        raise InvalidArgument(f"completion {shell!r}: no such shell", hint=f"one of {', '.join(SCRIPTS)}")
    write(SCRIPTS[shell])
    return 0
