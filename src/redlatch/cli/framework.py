"""Commands that are loaded when they are called, each with --home, --json and examples in its help."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from redlatch.cli.session import Session

_F = TypeVar("_F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Path_(click.Path):  # noqa: N801 - stands for click's
    """A path, as pathlib's; whether it exists is judged where it is used, with a better message."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)


PATH = Path_()

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Lifetime(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A number and a unit: 90s, 15m, 24h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,6})([smhd])", str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is no time; as in 90s, 15m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Command(click.Command):
    """A leaf: hands a Session to its callback and shows its examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params += [
            click.Option(["--home"], type=PATH, metavar="DIR", help="The site's folder (else REDLATCH_HOME)."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, errors included."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        home, as_json = ctx.params.pop("home"), ctx.params.pop("as_json")
        ctx.obj = Session(home or ctx.obj, as_json=as_json)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.examples)


def _write_examples(formatter: click.HelpFormatter, examples: tuple[str, ...]) -> None:
    """As they are typed: click would wrap them."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{' ' * formatter.current_indent}{example}\n")


def command(name: str, *examples: str) -> Callable[[_F], click.Command]:
    """Declares a command; its callback gets the Session first. Every command has an example."""

    def declare(function: _F) -> click.Command:
        return click.command(name, cls=Command, examples=examples)(click.pass_obj(function))

    return declare


class LazyGroup(click.Group):
    """`lazy`: name -> ("module:attribute", what it does in half a line). Help needs none of the modules."""

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]], examples: tuple[str, ...], **kwargs: Any
    ) -> None:
        kwargs.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **kwargs)
        self._lazy = lazy
        self._examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # asking for nothing is asking what there is, and no mistake
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}:{attribute} is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self._examples)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        own = [
            CompletionItem(name, help=text)
            for name, (_, text) in self._lazy.items()
            if name.startswith(incomplete)
        ]
        return own + click.Command.shell_complete(self, ctx, incomplete)
