"""Moves debug symbols out of the programs, into files named by build id."""

import os
import re
import subprocess


def run(*command):
    """The command's standard output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_elf(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def build_id(path):
    match = re.search(r"Build ID: ([0-9a-f]{8,})", run("readelf", "-n", path))
    if not match:
        raise SystemExit(f"{path} has no build id: it cannot be matched with its debug symbols")
    return match[1]


def debug_file(identity):
    return f"usr/lib/debug/.build-id/{identity[:2]}/{identity[2:]}.debug"


def split(path, debug_tree, objcopy="objcopy", strip="strip"):
    """Strips the file and keeps its symbols in the debug tree. Returns its build id."""
    identity = build_id(path)
    debug = os.path.join(debug_tree, debug_file(identity))
    os.makedirs(os.path.dirname(debug), exist_ok=True)
    run(objcopy, "--only-keep-debug", "--compress-debug-sections", path, debug)
    os.chmod(debug, 0o644)
    run(strip, "--strip-unneeded", "--remove-section=.comment", path)
    return identity
