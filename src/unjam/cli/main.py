"""The entry point: the table of commands, loaded when called, and what an error looks like."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from unjam import __version__

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: module, attribute, one line of help
    "run": ("run", "run", "Submit a pipeline for files or folders and follow it."),
    "convert": ("short", "convert", "Convert video or audio: `unjam convert in.mov -o out`."),
    "exec": ("run", "exec_", "Run any command, supervised: `unjam exec -- make all`."),
    "ls": ("jobs", "ls", "List jobs, newest first."),
    "show": ("jobs", "show", "Everything about one job or batch."),
    "logs": ("logs", "logs", "The log of a job; -f follows it over attempts."),
    "watch": ("jobs", "watch", "Follow jobs until they end."),
    "wait": ("jobs", "wait", "Wait until jobs end; the exit code tells how."),
    "cancel": ("act", "cancel", "End jobs; finished units are kept until gc."),
    "pause": ("act", "pause", "Stop jobs at their next finished unit."),
    "resume": ("act", "resume", "Go on with paused, failed or cancelled jobs."),
    "retry": ("act", "retry", "Like resume, with fresh budgets."),
    "rm": ("act", "rm", "Forget ended jobs; their outputs stay."),
    "worker": ("operate", "worker", "Run a worker on this machine."),
    "workers": ("operate", "workers", "List workers."),
    "queues": ("operate", "queues", "List, pause and resume queues."),
    "locks": ("locks", "locks", "Who holds which job; release what the dead hold."),
    "recover": ("locks", "recover", "Free everything that dead workers hold."),
    "gc": ("operate", "gc", "Remove work folders, staged files and logs nobody needs."),
    "pipelines": ("about", "pipelines", "List pipelines, or one with its parameters."),
    "config": ("about", "config", "Settings in force and where they come from."),
    "db": ("about", "db", "Upgrade, back up or check the store."),
    "doctor": ("doctor", "doctor", "What works here, what does not, how to get it."),
    "completion": ("about", "completion", "Shell completion: `eval \"$(unjam completion bash)\"`."),
}  # fmt: skip


class ClosedPipe(Exception):
    """Nobody reads stdout any more."""


class Commands(click.Group):
    """Loads a command's module only when that command is called: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        import importlib

        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"unjam.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else "see unjam --help"
            raise click.UsageError(f"no such command: {args[0]}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click itself would exit with 1: whoever closed the pipe had enough, and that is no failure.
            raise ClosedPipe from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: unjam convert holiday.mov -o converted",
)
@click.option("--home", help="State folder (UNJAM_HOME).", metavar="DIR")
@click.option("--store", help="Where jobs live (UNJAM_STORE).", metavar="URL")
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see `unjam config show`."
)
@click.version_option(__version__, message="unjam %(version)s")
@click.pass_context
def cli(ctx: click.Context, home: str | None, store: str | None, pairs: tuple[str, ...]) -> None:
    """unjam runs media jobs that never jam: never lost, never hanging, always resumable."""
    from unjam.cli.app import App

    flags: dict[str, str | None] = {"home": home, "store": store}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise click.UsageError(f"--set {pair}: write KEY=VALUE")
        flags[key] = value
    ctx.obj = App(flags)


def run(argv: Sequence[str] | None = None) -> int:
    """One invocation; returns its exit code and raises nothing on purpose."""
    from unjam.cli.output import say
    from unjam.errors import UnjamError
    from unjam.printable import one_line

    try:
        result = cli.main(args=None if argv is None else list(argv), prog_name="unjam", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except UnjamError as error:
        from unjam.cli.exits import of_error

        say(f"unjam: {one_line(str(error))}")
        return of_error(error)
    except click.ClickException as error:
        hint = (
            f" ({error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        )
        say(f"unjam: {error.format_message()}{hint}")
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (ClosedPipe, BrokenPipeError):
        return 0
    except OSError as error:
        say(f"unjam: {error.filename or 'output'}: {error.strerror}" if error.strerror else f"unjam: {error}")
        return 1


def main() -> NoReturn:
    """The `unjam` command."""
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files need not be UTF-8; what was read as bytes is written as the same bytes.
        sys.stdout.reconfigure(errors="surrogateescape")
    code = run()
    try:
        sys.stdout.flush()
    except OSError:
        # What could not be written stays in the buffer, and Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


if __name__ == "__main__":
    main()
