"""The help of a command, in panels.

typer draws such panels with rich, whose import takes longer than everything else that `--help`
does. These are drawn without it.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from chem_persistence.cli.terminal.plain_values import NotPlain, plain_value
from chem_persistence.cli.terminal.text import has_box_characters

__all__ = ["HelpfulCommand", "HelpfulGroup"]

Row = tuple[str, str]

LEAST_WIDTH = 40
FRAME = 4
"""The columns that the frame of a panel takes, with the blanks inside of it."""

BEFORE_TEXT = 2


class HelpfulCommand(TyperCommand):
    """A command that draws its help itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments; typer converts only what `plain_values` does not, and for no completion.

        Its conversion imports pydantic.
        """
        values, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if rest and not ctx.resilient_parsing:
            return super().parse_args(ctx, args)  # which says that there are too many
        hints = get_type_hints(self.callback, include_extras=True)
        _give_flags_a_default(self.get_params(ctx))
        for param in sorted(self.get_params(ctx), key=lambda param: not param.is_eager):
            value, source = param.consume_value(ctx, values)
            if not ctx.resilient_parsing:
                try:
                    value = _plain(param, hints.get(param.name), value)
                except NotPlain:
                    param.handle_parse_result(ctx, values, rest)
                    continue
            ctx.params[param.name] = value
            ctx.set_parameter_source(param.name, source)
        ctx.args = rest
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this command to a formatter of click."""
        formatter.write(_help_text(self, ctx, []))


class HelpfulGroup(TyperGroup):
    """A group of commands that draws its help itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments; typer converts none of them."""
        _give_flags_a_default(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of this group to a formatter of click, its commands by panel."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        formatter.write(_help_text(self, ctx, [command for command in commands if command]))


def _give_flags_a_default(params: Iterable[Any]) -> None:
    """Have typer's own flags default to False, as it converts None by pydantic."""
    for param in params:
        if param.default is None and getattr(param, "is_flag", False):
            param.default = False


def _plain(param: Any, hint: Any, value: Any) -> Any:
    is_missing = value is None or (param.nargs != 1 and not value)
    if param.is_eager or param.callback is not None or (is_missing and param.required):
        raise NotPlain
    return plain_value(hint, value)


def _help_text(command: Any, context: Any, commands: Iterable[Any]) -> str:
    panels: dict[str, list[Row]] = {}
    pieces = [context.command_path, "[OPTIONS]"]
    for param in command.get_params(context):
        if param.param_type_name == "argument":
            pieces.append(param.metavar if param.required else f"[{param.metavar}]")
            panels.setdefault("Arguments", []).append((param.metavar, _text(param)))
    panels["Options"] = [
        (_names(param), _text(param))
        for param in command.get_params(context)
        if param.param_type_name == "option"
    ]
    for inner in commands:
        row = (inner.name, _paragraphs(inner.help)[0])
        panels.setdefault(inner.rich_help_panel or "Commands", []).append(row)
    if commands:
        pieces.append("COMMAND [ARGS]...")
    width = max(LEAST_WIDTH, shutil.get_terminal_size().columns)
    lines = ["", f" Usage: {' '.join(pieces)}", ""]
    for paragraph in _paragraphs(command.help):
        lines += [f" {line}" for line in wrap(paragraph, width - 2)] + [""]
    for title, rows in panels.items():
        lines += _panel(title, rows, width)
    return "\n".join(lines) + "\n"


def _paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each as one line."""
    return [" ".join(part.split()) for part in (text or "").split("\n\n")]


def _names(option: Any) -> str:
    """Return the names of an option, the short one first, and the name of its value."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar or 'VALUE'}"


def _text(param: Any) -> str:
    """Return the help of a parameter with its default."""
    default = param.show_default if isinstance(param.show_default, str) else param.default
    has_default = param.show_default and default not in {None, False} and not callable(default)
    return f"{param.help or ''} [default: {default}]" if has_default else param.help or ""


def _panel(title: str, rows: Iterable[Row], width: int) -> Iterator[str]:
    """Yield the lines of a panel: two columns in a frame of this width."""
    characters = "─│╭╮╰╯" if has_box_characters() else "-|++++"
    across, down, left, right, lower_left, lower_right = [*characters]
    names = max(len(name) for name, _ in rows)
    texts = width - FRAME - names - BEFORE_TEXT
    side = _style(down, dim=True)
    first = f"{left}{across} {title} ".ljust(width - 1, across) + right
    yield _style(first, dim=True)
    for name, text in rows:
        for place, line in enumerate(wrap(text, texts) or [""]):
            shown = _style(name.ljust(names), fg="cyan", bold=True) if place == 0 else " " * names
            yield f"{side} {shown}{' ' * BEFORE_TEXT}{line.ljust(texts)} {side}"
    yield _style(lower_left + across * (width - 2) + lower_right, dim=True)


def _style(text: str, **style: Any) -> str:
    """Return a text with its style, which typer removes where the output is not a terminal."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if is_plain else typer.style(text, **style)
