"""The changelog, which is in Debian's format."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime


@dataclass
class Entry:
    version: str
    text: str
    who: str
    when: datetime


HEAD = re.compile(r"^gpusetup \((?P<version>[^)]+)\)")
FOOT = re.compile(r"^ -- (?P<who>.+>)  (?P<when>.+)$")


def read(path):
    entries, version, lines = [], None, []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            if head := HEAD.match(line):
                version, lines = head["version"], []
            elif foot := FOOT.match(line):
                when = parsedate_to_datetime(foot["when"])
                entries.append(Entry(version, "\n".join(lines).strip("\n"), foot["who"], when))
            else:
                lines.append(line)
    if not entries:
        raise SystemExit(f"{path}: no entry")
    return entries


def with_version(entries, version):
    """The changelog with a first entry for a version that has none, as in a test of an upgrade."""
    if entries[0].version == version:
        return entries
    first = entries[0]
    return [Entry(version, "  * A build from the source tree.", first.who, first.when)] + entries


def debian(entries):
    return "\n\n".join(
        f"gpusetup ({e.version}) unstable; urgency=medium\n\n{e.text}\n\n -- {e.who}  {format_datetime(e.when)}"
        for e in entries
    ) + "\n"


def rpm(entries):
    out = []
    for e in entries:
        out.append(f"* {e.when.strftime('%a %b %d %Y')} {e.who} - {e.version}")
        text = re.sub(r"^  \* ", "- ", e.text, flags=re.M)
        out.append(re.sub(r"^    ", "  ", text, flags=re.M))
        out.append("")
    return "\n".join(out)
