"""``--show-completion`` and ``--install-completion`` for a shell that is named; without a name typer sees which."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from streambroker.cli.exits import Exit, fail

_OPTIONS = ("--show-completion", "--install-completion")
_PROGRAM = "streambroker"


def named(arguments: Sequence[str]) -> tuple[str, str] | None:
    """The option and the shell, where that is what is asked for: ``--show-completion zsh``, also with ``=``."""
    words = arguments[0].split("=", 1) if len(arguments) == 1 else arguments
    return (words[0], words[1]) if len(words) == 2 and words[0] in _OPTIONS else None


def for_shell(option: str, shell: str) -> None:
    """Print a shell's completion, or install it for the user."""
    from typer.completion import Shells, get_completion_script, install  # type: ignore[attr-defined]

    if shell not in list(Shells):
        fail(Exit.USAGE, f"there is no completion for {shell!r}; say {', '.join(Shells)}")
    variable = f"_{_PROGRAM.upper()}_COMPLETE"
    if option == "--show-completion":
        sys.stdout.write(get_completion_script(prog_name=_PROGRAM, complete_var=variable, shell=shell) + "\n")
        return
    _, path = install(shell=shell, prog_name=_PROGRAM, complete_var=variable)
    sys.stdout.write(f"{shell} completion installed in {path}\nIt takes effect in the next terminal\n")
