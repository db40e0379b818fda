"""`redlatch completion`: click's own completion, as a script to source."""

from __future__ import annotations

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session


@command(
    "completion",
    "redlatch completion bash > ~/.local/share/bash-completion/completions/redlatch",
    "redlatch completion zsh > ~/.zfunc/_redlatch",
    "redlatch completion fish > ~/.config/fish/completions/redlatch.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(session: Session, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from redlatch.cli.root import cli

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - the choice above names click's own three
        raise click.UsageError(f"no completion for {shell}")
    found = kind(cli, {}, "redlatch", "_REDLATCH_COMPLETE")
    script = found.source_template % found.source_vars()
    session.out.document({"shell": shell, "script": script})
    if not session.out.as_json:
        click.echo(script)
