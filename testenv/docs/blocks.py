#!/usr/bin/env python3
"""blocks.py check | scripts DIR: checks and extracts the commands in the pages.

Each shell block (```sh) has a comment before it, which renderers do not show:

    <!-- run -->                           run the block line by line; each command has to succeed
    <!-- run, IMAGE is debian:scenario --> the same with a word replaced
    <!-- run, gpusetup plan exits 2 -->    a command that starts with these words has this exit code
    <!-- not run: REASON -->               do not run it

A page can also have <!-- before: COMMANDS -->, run at that point: what a reader already has there, such as an inventory.
A block has to name its language.

check: checks that every block of every page is marked. scripts: writes a script for each page with blocks to run, in the
order of the page. Exits 1 where a page is wrong, 4 on bad usage.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", TOP / "examples/README.md", TOP / "packaging/README.md", *sorted((TOP / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^(\s*)```(\w*)$")
MARK = re.compile(r"<!-- (run|not run|before)\b[,:]?\s*(.*?)\s*-->", re.S)


class Trouble(Exception):
    """An error to print: what is wrong, and where."""


def parts(page):
    """(line, kind, argument, text) of each mark and block, in the order of the page."""
    lines = page.read_text().splitlines()
    mark, at = None, 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        where = f"{page.relative_to(TOP)}:{number}"
        at += 1
        if line.lstrip().startswith("<!-- ") and MARK.match(line.lstrip() + ("" if "-->" in line else " -->")):
            text = line.lstrip()
            while "-->" not in text:
                text += "\n" + lines[at]
                at += 1
            kind, argument = MARK.match(text).groups()
            if kind == "before":
                yield number, kind, "", argument
            elif mark:
                raise Trouble(f"{where}: no block follows the mark before this one")
            else:
                mark = kind, argument
            continue
        fence = FENCE.match(line)
        if not fence:
            if mark and line.strip():
                raise Trouble(f"{where}: no block follows the mark before this line")
            continue
        block = []
        while at < len(lines) and not FENCE.match(lines[at]):
            block.append(lines[at].strip() if line.startswith(" ") else lines[at])
            at += 1
        at += 1
        language = fence[2]
        if not language:
            raise Trouble(f"{where}: name the block's language: sh for commands, text, json, …")
        if language in ("bash", "console", "shell"):
            raise Trouble(f"{where}: the language of commands is sh")
        if language == "sh":
            if not mark:
                raise Trouble(f"{where}: neither <!-- run --> nor <!-- not run: REASON -->")
            if mark[0] == "not run" and len(mark[1]) < 10:
                raise Trouble(f"{where}: not run, without a reason")
            yield number, *mark, "\n".join(block)
        elif mark:
            raise Trouble(f"{where}: a mark on a block that has no commands")
        mark = None
    if mark:
        raise Trouble(f"{page.relative_to(TOP)}: no block follows the last mark")


def commands(block):
    """The commands of a block, one a line except where a line ends in a backslash."""
    command = ""
    for line in block.splitlines():
        command += line
        if command.endswith("\\"):
            command += "\n"
            continue
        if command.strip() and not command.lstrip().startswith("#"):
            yield command
        command = ""


def quoted(command):
    """The command as a quoted word for a shell."""
    return "'" + command.replace("'", "'\\''") + "'"


def script(page):
    """The page as a script; None if no block of it is run."""
    name = page.relative_to(TOP)
    lines, any_run = [], False
    for number, kind, argument, text in parts(page):
        if kind == "before":
            lines.append(f"page_runs {name}:{number} 0 {quoted(text)}")
        elif kind == "run":
            any_run, codes = True, {}
            for clause in filter(None, (c.strip() for c in argument.split(", "))):
                if exits := re.fullmatch(r"(.+) exits (\d+)", clause):
                    codes[exits[1]] = exits[2]
                    continue
                word, is_, other = clause.partition(" is ")
                if not is_ or word not in text:
                    raise Trouble(f"{name}:{number}: {clause!r} is neither 'COMMAND exits N' nor 'WORD is OTHER' with a word of the block")
                text = text.replace(word, other)
            block_commands = list(commands(text))
            for beginning in codes:
                if not any(command.startswith(beginning) for command in block_commands):
                    raise Trouble(f"{name}:{number}: no command begins with {beginning!r}")
            for command in block_commands:
                code = next((n for beginning, n in codes.items() if command.startswith(beginning)), "0")
                lines.append(f"page_runs {name}:{number} {code} {quoted(command)}")
    return "\n".join(lines) + "\n" if any_run else None


def main():
    """Runs the command line. Returns the exit code."""
    try:
        match sys.argv[1:]:
            case ["check"]:
                blocks = [kind for page in PAGES for _, kind, _, _ in parts(page) if kind != "before"]
                for page in PAGES:
                    script(page)
                run = blocks.count("run")
                print(f"ok - {len(PAGES)} pages, {run} blocks run by testenv/docs/run, {len(blocks) - run} not, with a reason")
            case ["scripts", out]:
                for page in PAGES:
                    if text := script(page):
                        name = str(page.relative_to(TOP)).replace("/", "-")
                        (pathlib.Path(out) / f"{name}.sh").write_text(text)
            case _:
                print(__doc__, file=sys.stderr)
                return 4
    except Trouble as trouble:
        print(f"not ok - {trouble}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
