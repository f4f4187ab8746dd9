"""Lists the crates that are linked into a program, as cargo resolves them for it alone."""

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass, field


@dataclass
class Crate:
    name: str
    version: str
    license: str
    repository: str
    ours: bool
    directory: str
    checksum: str | None
    uses: set = field(default_factory=set)

    @property
    def purl(self):
        return f"pkg:cargo/{self.name}@{self.version}"


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def linked(program, target):
    """The crates in the closure of this workspace member by (name, version), itself first. Crates that only run at build
    time are left out."""
    places = {}
    for package in json.loads(cargo("metadata", "--locked", "--format-version=1"))["packages"]:
        places[package["name"], package["version"]] = os.path.dirname(package["manifest_path"])
    with open("Cargo.lock", "rb") as file:
        sums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}
    tree = cargo("tree", "--locked", "-p", program, "-e", "normal,no-proc-macro", "--target", target,
                 "--prefix", "depth", "-f", "|{p}|{l}|{r}|")
    found, above = {}, []
    for line in tree.splitlines():
        depth, crate, license, repository, _ = re.fullmatch(r"(\d+)\|(.*?)\|(.*?)\|(.*?)\|(.*)", line).groups()
        name, version = re.match(r"(\S+) v(\S+)", crate).groups()
        key = (name, version)
        if key not in found:
            found[key] = Crate(name, version, license.replace("/", " OR "), repository, sums[key] is None,
                               places[key], sums[key])
        above[int(depth):] = [key]
        if len(above) > 1:
            found[above[-2]].uses.add(key)
    return found
