"""The command line: what a user types becomes the layer of settings that wins, and a plan.

Commands are imported when they are asked for, so that ``kshark run`` starts in a moment. Results go to
standard output, everything else to standard error. No traceback reaches a user: `main` turns what is
unexpected into one line (``KSHARK_DEBUG=1`` shows all of it).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click
from click.exceptions import Exit

from kshark import settings
from kshark.api import Options, PluginError
from kshark.settings import Given
from kshark.stderr import say

if TYPE_CHECKING:
    from kshark.plugins import Registry

DONE, FAILED, WRONG = 0, 1, 2
COMMANDS: Final[Mapping[str, str]] = {
    "run": "kshark.cli_run",
    "protocols": "kshark.cli_lists",
    "backends": "kshark.cli_lists",
    "sinks": "kshark.cli_lists",
    "plugins": "kshark.cli_lists",
    "doctor": "kshark.cli_doctor",
    "dissect": "kshark.cli_dissect",
    "schema": "kshark.cli_lists",
    "fields": "kshark.cli_fields",
    "flows": "kshark.cli_flows",
    "new-plugin": "kshark.cli_new",
    "fuzz": "kshark.cli_fuzz",
    "verify": "kshark.cli_verify",
}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class ReaderGone(Exception):
    """Who read our standard output has seen enough."""


class CommandFailed(Exception):
    """A plugin's command raised what it should not."""


class Kshark(click.Group):
    """The group of commands: our own by name, those of plugins when nobody else has the name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_plugins()
        return [*COMMANDS, *sorted(set(self.commands) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            found: click.Command = getattr(
                import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_")
            )
            return found
        self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise click.UsageError(f"no command {name!r}{settings.nearest(name, known)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would make an exit code of
            raise ReaderGone from error
        except (OSError, PluginError, ReaderGone, click.ClickException, click.Abort, Exit):
            raise
        except Exception as error:
            if ctx.invoked_subcommand in COMMANDS:
                raise
            raise CommandFailed(ctx.invoked_subcommand) from error

    def _add_plugins(self) -> None:
        if not self.commands:
            from kshark.plugins import add_commands

            for name in COMMANDS:  # their names are taken
                self.commands[name] = click.Command(name)
            for plugin in add_commands(registry(needed={}), self):
                say(plugin.line())


def registry(
    files: Sequence[str] = (),
    config: str = "",
    needed: Mapping[str, Any] | None = None,
) -> Registry:
    """The plugins, for commands that list or use them; says which were refused."""
    from kshark.places import places
    from kshark.plugins import load

    found = load(files, places({}, config).plugin_options(), needed=needed)
    for plugin in found.refused():
        say(plugin.line())
    return found


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--plugin`` and ``--config``, which every command has that loads plugins."""
    function = click.option(
        "--config", metavar="FILE", default="", help="Settings, TOML [env: KSHARK_CONFIG]."
    )(function)
    return click.option(
        "--plugin",
        "plugins",
        metavar="PATH",
        multiple=True,
        help="Load this plugin file, too [env: KSHARK_PLUGINS].",
    )(function)


def flags(options: type[Options], metavars: Mapping[str, str]) -> Decorator:
    """Command line flags from a declaration of options: one declaration, three places."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(settings.fields(options)):
            function = _flag(one, metavars.get(one.key, ""))(function)
        return function

    return decorate


def _flag(one: settings.Field, metavar: str) -> Decorator:
    name = one.key.replace("_", "-")
    text = f"{one.text} [env: {settings.variable(one.key)}]."
    if one.yes_no and one.default:
        text = f"Do not {text[0].lower()}{text[1:]}"
        return click.option(f"--no-{name}", one.key, flag_value="no", help=text)
    if one.yes_no:
        return click.option(f"--{name}", one.key, flag_value="yes", help=text)
    return click.option(f"--{name}", one.key, metavar=metavar, multiple=one.many, help=text)


def line_layer(options: type[Options], values: Mapping[str, Any]) -> dict[str, Given]:
    """What was typed, as a layer of settings."""
    layer = {}
    for one in settings.fields(options):
        value = values.get(one.key)
        if value is None or value == ():
            continue
        if one.unit == "words":
            value = list(value)
        layer[one.key] = Given(value, f"--{one.key}")
    return layer


EXITS: Final = """\b
Exit codes: 0 done; 1 something was lost or failed at run time; 2 what you typed was wrong."""


@click.group(
    cls=Kshark,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXITS,
)
@click.version_option(package_name="kshark", message="kshark %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """See the API calls of a machine, a cluster or a capture file: requests with their responses.

    \b
    kshark run                                  what this machine's interfaces carry, live
    kshark run --read capture.pcap              a file
    tcpdump -w - | kshark run --read -          what another program captures
    kshark run --sink jsonl:calls.ndjson        one JSON object a call
    kshark doctor                               what this machine allows, and why not more
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; gives the exit code."""
    _open_streams()
    try:
        code = _guarded(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        from kshark.errors import silence_stdout

        silence_stdout()
        return DONE
    except OSError as error:  # of a listing: a full disk, a closed standard output
        from kshark.errors import explain, silence_stdout

        silence_stdout()
        say(explain(error))
        return FAILED
    return code


def _open_streams() -> None:
    """Where the shell closed a standard stream (``>&-``), no file of ours may get its number.

    The null device stands in: writing to standard output then fails, as it should, since it is opened
    for reading; what we would say on standard error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _guarded(arguments: Sequence[str] | None) -> int:
    """Run; whatever happens ends as an exit code and at most one line."""
    debug = os.environ.get("KSHARK_DEBUG", "") not in ("", "0")
    try:
        result = cli.main(arguments, prog_name="kshark", standalone_mode=False)
    except PluginError as error:
        if debug:
            raise
        say(str(error))
        return WRONG
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except (OSError, ReaderGone):
        raise
    except CommandFailed as failure:
        if debug:
            raise
        from kshark.errors import explain

        say(f"the command {failure}, of a plugin, failed: {explain(failure.__cause__)}")
        return FAILED
    except Exception as error:  # the one place where our own mistakes end
        if debug:
            raise
        from kshark.errors import explain

        say(f"{explain(error)} (a mistake in kshark; KSHARK_DEBUG=1 shows where)")
        return FAILED
    return result if isinstance(result, int) else DONE


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "kshark"
    say(f"{error.format_message().rstrip('.')} (see {command} --help)")
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
