#!/usr/bin/env python3
"""blocks.py check | scripts DIR: the commands in the pages.

Each shell block (```sh) has a comment before it, which no renderer shows:

    <!-- run -->                                    it is run, line by line; each has to succeed
    <!-- run, IMAGE is debian:scenario -->   with words replaced
    <!-- run, gpusetup plan exits 2 -->       what begins so has another exit code
    <!-- not run: REASON -->

and a page can have <!-- before: COMMANDS -->, run where it stands: what a reader has by now, such as an inventory.
A block without a language is neither commands nor anything else; it is refused.

check: every block of every page is marked. scripts: a script of each page with blocks to run, top to bottom.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", TOP / "examples/README.md", TOP / "packaging/README.md", *sorted((TOP / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^(\s*)```(\w*)$")
MARK = re.compile(r"<!-- (run|not run|before)\b[,:]?\s*(.*?)\s*-->", re.S)


class Trouble(Exception):
    """What is wrong, where."""


def parts(page):
    """(line, kind, argument, text) of each mark and block, in order."""
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
                raise Trouble(f"{where}: no block comes after the mark before")
            else:
                mark = kind, argument
            continue
        fence = FENCE.match(line)
        if not fence:
            if mark and line.strip():
                raise Trouble(f"{where}: no block comes after the mark before")
            continue
        block = []
        while at < len(lines) and not FENCE.match(lines[at]):
            block.append(lines[at].strip() if line.startswith(" ") else lines[at])
            at += 1
        at += 1
        language = fence[2]
        if not language:
            raise Trouble(f"{where}: say what the block is: sh for commands, text, json, …")
        if language in ("bash", "console", "shell"):
            raise Trouble(f"{where}: commands are sh")
        if language == "sh":
            if not mark:
                raise Trouble(f"{where}: neither <!-- run --> nor <!-- not run: REASON -->")
            if mark[0] == "not run" and len(mark[1]) < 10:
                raise Trouble(f"{where}: not run, and no reason")
            yield number, *mark, "\n".join(block)
        elif mark:
            raise Trouble(f"{where}: a mark on what is no commands")
        mark = None
    if mark:
        raise Trouble(f"{page.relative_to(TOP)}: no block comes after the last mark")


def commands(block):
    """The block's commands: a line each, but for those that go on."""
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
    """For a shell."""
    return "'" + command.replace("'", "'\\''") + "'"


def script(page):
    """The page as a script, or None where nothing of it is run."""
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
                    raise Trouble(f"{name}:{number}: {clause!r} is no 'COMMAND exits N', and no 'WORD is OTHER' of the block")
                text = text.replace(word, other)
            said = list(commands(text))
            for beginning in codes:
                if not any(command.startswith(beginning) for command in said):
                    raise Trouble(f"{name}:{number}: no command begins with {beginning!r}")
            for command in said:
                code = next((n for beginning, n in codes.items() if command.startswith(beginning)), "0")
                lines.append(f"page_runs {name}:{number} {code} {quoted(command)}")
    return "\n".join(lines) + "\n" if any_run else None


def main():
    """The program."""
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
