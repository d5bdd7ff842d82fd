"""A page as one bash script: its blocks in their order, in one shell, stopping at the first that fails."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.docs.blocks import JAVASCRIPT, PYTHON, SHELL, Block
from tests.harness import PASSWORD, BrokerProcess

# A refusal by the broker is a failure too, unless a page expects it (`|| true`).
_PRELUDE = """\
set -euo pipefail
curl() { command curl --fail-with-body --max-time 30 "$@"; }
declare -a _running=()
_told=
_stop() {
  test -z "$_told" || cat "$_told" >&2
  for pid in "${_running[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  # A program that has only just been started may miss the first signal.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    test -n "$(jobs -pr)" || return 0
    sleep 0.3
    kill -TERM $(jobs -pr) 2>/dev/null || true
  done
  kill -KILL $(jobs -pr) 2>/dev/null || true
}
trap _stop EXIT
_for_a_moment() {
  local status=0
  timeout --signal=INT --kill-after=10 2 bash -c "$1" < /dev/null || status=$?
  case $status in 0|124|130) ;; *) return $status ;; esac
}
"""
_PYTEST = "-q -p no:cacheprovider -o asyncio_mode=auto"
_ALIVE = 'for pid in "${_running[@]}"; do kill -0 "$pid"; done\n'


def script(page: list[Block], broker: BrokerProcess, directory: Path) -> str:
    """The page's blocks as bash. Files are saved into ``directory`` by the script itself."""
    parts = [_PRELUDE]
    for block in page:
        if block.not_run or (block.language not in {"test", *SHELL, *PYTHON, *JAVASCRIPT} and not block.file):
            continue
        text = here(block.commands, broker, directory)
        parts.append(f"\nprintf '\\n=== line {block.line}\\n' | tee /dev/stderr\n")
        if block.file:
            parts.append(_saved(block.file, text))
            parts.append(f"python -m pytest {_PYTEST} {block.file}\n" if block.file.startswith("test_") else "")
        else:
            parts.append(_run(block, text))
    parts.append(_ALIVE)
    return "".join(parts)


def here(text: str, broker: BrokerProcess, directory: Path) -> str:
    """The text with what differs here: the address, the password, directories that only an installation has."""
    changed = {
        "127.0.0.1:8000": broker.url.removeprefix("http://"),
        "localhost:8000": broker.url.removeprefix("http://"),
        "the password that the first start printed": PASSWORD,
        "STREAMBROKER_PASSWORD=…": f"STREAMBROKER_PASSWORD={PASSWORD}",
        "/var/lib/streambroker": str(directory / "data"),
        "/backup": str(directory / "backup"),
        "--port 8000": "--port 0",
        '("127.0.0.1", 9000)': '("127.0.0.1", 0)',
    }
    for written, ours in changed.items():
        text = text.replace(written, ours)
    return text


def _saved(name: str, text: str) -> str:
    return f"printf %s {shlex.quote(text)} > {shlex.quote(name)}\n"


def _run(block: Block, text: str) -> str:
    name = f"block_{block.line}" + {True: ".py", False: ".mjs"}[block.language in PYTHON]
    if block.language in SHELL or block.language == "test":
        if block.moments:
            return "".join(f"_for_a_moment {shlex.quote(command)}\n" for command in commands(text))
        command = text
    else:
        command = f"{'python' if block.language in PYTHON else 'node'} {name}\n"
    saved = "" if block.language in {"test", *SHELL} else _saved(name, text)
    if block.background:
        *before, last = commands(command)
        return "\n".join([saved, *before, f"{last} &", "_running+=($!)\n"])
    if block.says:
        told = f"said_{block.line}.txt"
        wanted = shlex.quote(block.says)
        # Not a pipe, whose left side would be another shell: what a block exports, the next one uses.
        return (
            f"{saved}_told={told}\nexec 3>&1 > {told}\n{command}exec 1>&3\ncat {told}; _told=\n"
            f"grep -qF -- {wanted} {told} || {{ echo it does not say {wanted} >&2; exit 1; }}\n"
        )
    return saved + command


def commands(text: str) -> list[str]:
    """The commands of a shell block one by one; a line that ends in a pipe or a backslash goes on."""
    joined = re.sub(r"(\\|\|)\n\s*", lambda end: "" if end[1] == "\\" else "| ", text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
