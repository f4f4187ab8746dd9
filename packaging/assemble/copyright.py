"""copyright: the copyright file of all packages on standard output, in Debian's machine-readable form (DEP 5).

What is ours and what comes with the compilers stands in copyright.head; the crates that are linked in are
found anew at every build, with the copyright lines of their own licence files.
"""

import glob
import os
import re
import sys

from . import crates

# Where there is a choice of licences, the first of these that is offered. The names are those of DEP 5.
PREFERRED = ["Apache-2.0", "MIT", "Zlib", "ISC", "BSD-3-Clause", "BSD-2-Clause", "Unicode-3.0", "BSL-1.0", "Unlicense"]
NAMES = {"MIT": "Expat"}
NOTICE = re.compile(r"^\W*(copyright\W.*\d{4}.*|copyright \(c\) .*|copyright \d{4}.*)$", re.I)


def chosen(expression):
    """One licence for an SPDX expression; all of them where it says AND."""
    parts = []
    for part in re.split(r"\bAND\b", expression.replace("(", " ").replace(")", " ")):
        offered = [o.strip() for o in re.split(r"\bOR\b", part)]
        known = [p for p in PREFERRED if p in offered]
        if not known:
            raise SystemExit(f"licence {expression!r}: copyright.py knows no text for it")
        parts.append(known[0])
    return sorted(set(parts))


def notices(crate):
    """The copyright holders: the lines of its licence files, or else its authors."""
    lines = []
    for path in sorted(glob.glob(f"{crate.directory}/*")):
        if not re.match(r"(licen[cs]e|copying|copyright|notice)", os.path.basename(path), re.I) or os.path.isdir(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                line = line.strip().strip("/*# ")
                if NOTICE.match(line) and "[yyyy]" not in line and "{yyyy}" not in line and "<" not in line[:24]:
                    line = re.sub(r"^copyright\s*(:|\(c\)|©)?\s*(copyright)?\s*", "", line, flags=re.I)
                    line = re.sub(r"\.?\s*All rights reserved\.?$", "", line.strip(" ."), flags=re.I)
                    if line and line not in lines:
                        lines.append(line)
    return lines or [f"the authors of {crate.name}"]


def text_of(license, found):
    """The text of a licence without its notice, from a crate that contains it."""
    for crate in found:
        if chosen(crate.license) != [license]:
            continue
        for path in sorted(glob.glob(f"{crate.directory}/*")):
            if not re.match(r"licen[cs]e|copying|unlicense", os.path.basename(path), re.I) or not os.path.isfile(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            start = {"MIT": "Permission is hereby granted", "Zlib": "This software is provided", "ISC": "Permission to use",
                     "Unlicense": "This is free", "BSL-1.0": "Permission is hereby"}.get(license)
            if start and start in text:
                lines = [line.strip() for line in text[text.index(start):].rstrip().splitlines()]
                return "\n".join(f" {line}" if line else " ." for line in lines)
    raise SystemExit(f"no crate has the text of {license}")


def main(target):
    found = {}
    for program in ("gpusetup", "cri-client", "cuda-init", "gpu-container", "libgpucontainer"):
        found |= crates.linked(program, target)
    theirs = [c for _, c in sorted(found.items()) if not c.ours]
    with open(os.path.join(os.path.dirname(__file__), "copyright.head"), encoding="utf-8") as file:
        out = [file.read().strip()]
    used = set()
    for crate in theirs:
        licenses = chosen(crate.license)
        used |= set(licenses)
        whose = "\n           ".join(notices(crate))
        names = " and ".join(NAMES.get(x, x) for x in licenses)
        out.append(f"Files: crates/{crate.name}-{crate.version}/*\nCopyright: {whose}\nLicense: {names}"
                   + (f"\nComment: offered under {crate.license}" if crate.license not in licenses else ""))
    for license in sorted(used - {"Apache-2.0"}):
        out.append(f"License: {NAMES.get(license, license)}\n{text_of(license, theirs)}")
    print("\n\n".join(out))


main(sys.argv[1])
