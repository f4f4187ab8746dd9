"""Reads packages.toml, and finds out which package each staged file belongs to."""

import fnmatch
import os
import re
import tomllib
from dataclasses import dataclass, field

RELATIONS = ("depends", "recommends", "suggests", "conflicts", "provides", "replaces")


@dataclass
class Package:
    key: str
    name: str
    summary: str
    description: str
    section: str
    license: str
    arch: str
    patterns: list
    relations: dict
    multi_arch: str | None
    files: list = field(default_factory=list)


@dataclass
class Build:
    """What all packages of one run have in common."""

    format: str
    upstream: str
    revision: str
    epoch: int
    arch: str
    triple: str
    libdir: str
    maintainer: str
    homepage: str
    license: str

    @property
    def version(self):
        return f"{self.upstream}-{self.revision}"

    @property
    def same_version(self):
        """A relation to another package of this build; rpm's matches every release of a version."""
        return self.version if self.format == "deb" else self.upstream


def load(path, build):
    with open(path, "rb") as file:
        tables = tomllib.load(file)
    common = tables.pop("common")
    for key in ("revision", "maintainer", "homepage", "license"):
        setattr(build, key, common[key])
    return [package(key, table, build) for key, table in tables.items()]


def package(key, table, build):
    own = table.get(build.format, {})
    relations = {}
    for kind in RELATIONS:
        entries = table.get(kind, []) + own.get(kind, [])
        relations[kind] = [e.replace("@VERSION@", build.same_version) for e in entries]
    return Package(
        key=key,
        name=own.get("name", key),
        summary=table["summary"],
        description=table["description"].strip(),
        section=table["section"],
        license=table.get("license", build.license),
        arch=table.get("arch", "any"),
        patterns=[p.replace("@LIBDIR@", build.libdir) for p in table["files"]],
        relations=relations,
        multi_arch=own.get("multi-arch"),
    )


def staged(stage):
    """Every file and link below it, as absolute paths on the host, sorted."""
    found = []
    for directory, names, files in os.walk(stage):
        links = [n for n in names if os.path.islink(os.path.join(directory, n))]
        for name in files + links:
            found.append("/" + os.path.relpath(os.path.join(directory, name), stage))
    return sorted(found)


def claims(pattern, path):
    if pattern.endswith("/"):
        return path.startswith(pattern)
    # A star does not match a slash.
    return pattern.count("/") == path.count("/") and fnmatch.fnmatchcase(path, pattern)


def assign(packages, stage):
    """Assigns the files to packages; stops if a file belongs to none or to two."""
    for path in staged(stage):
        owners = [p for p in packages if any(claims(q, path) for q in p.patterns)]
        if len(owners) != 1:
            who = ", ".join(p.key for p in owners) or "no package"
            raise SystemExit(f"{path} is claimed by {who}: packages.toml must say one")
        owners[0].files.append(path)
    for p in packages:
        if not p.files:
            raise SystemExit(f"{p.key}: none of its files is there")


def relation(text):
    """NAME, OP, VERSION; the last two are None if any version will do."""
    match = re.fullmatch(r"(\S+) (<|<=|=|>=|>) (\S+)", text)
    return match.groups() if match else (text, None, None)
