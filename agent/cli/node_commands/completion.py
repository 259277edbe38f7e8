"""`agentctl completion`: the script by which a shell completes commands, options, ids, kinds."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
COMPLETE_VARIABLE = "_AGENTCTL_COMPLETE"

# Click's own script for bash takes `nightly@2026-01-15T03:00:00Z` for several words, as bash does
# (COMP_WORDBREAKS). This one puts them together again, and offers of each word what is missing.
BASH = r"""
_agentctl_completion() {
    local IFS=$'\n' rest=${COMP_LINE:0:COMP_POINT} words=() part i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ $i -eq 0 || $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            words+=("$part")
        else
            words[${#words[@]} - 1]+=$part
        fi
        rest=${rest#"$part"}
    done
    local word=${words[${#words[@]} - 1]} breaks=${COMP_WORDBREAKS//[^@:=]/} typed=
    [[ -n $breaks ]] && typed=${word%"${word##*["$breaks"]}"}
    local response completion
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        _AGENTCTL_COMPLETE=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for completion in $response; do
        case ${completion%%,*} in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) completion=${completion#*,}; COMPREPLY+=("${completion#"$typed"}") ;;
        esac
    done
}

complete -o nosort -F _agentctl_completion agentctl
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script: `eval "$(agentctl completion bash)"`."""
    if shell == "bash":
        click.echo(BASH.strip())
        return
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "agentctl", COMPLETE_VARIABLE).source())
