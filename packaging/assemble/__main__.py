"""assemble deb|rpm STAGE OUT VERSION EPOCH MACHINE: makes the packages of one format. Strips the programs; their symbols
go to STAGE.debug."""

import os
import sys

from . import changelog, deb, description, rpm, symbols

MACHINES = {
    "x86_64": {"deb": ("amd64", "x86_64-linux-gnu"), "rpm": ("x86_64", "")},
    "aarch64": {"deb": ("arm64", "aarch64-linux-gnu"), "rpm": ("aarch64", "")},
}


def main(format, stage, out, version, epoch, machine):
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    arch, triplet = MACHINES[machine][format]
    build = description.Build(
        format=format, upstream=version, revision="", epoch=int(epoch), arch=arch,
        triple=f"{machine}-unknown-linux-gnu",
        libdir=f"/usr/lib/{triplet}" if triplet else "/usr/lib64",
        maintainer="", homepage="", license="",
    )
    packages = description.load(f"{top}/packaging/packages.toml", build)
    description.assign(packages, stage)
    entries = changelog.with_version(changelog.read(f"{top}/packaging/changelog"), build.version)
    debug = f"{stage}.debug"
    for package in packages:
        for file in package.files:
            if symbols.is_elf(stage + file):
                symbols.split(stage + file, debug)
    os.makedirs(out, exist_ok=True)
    builder = {"deb": deb, "rpm": rpm}[format].Builder(build, top, stage, debug, out, entries)
    if format == "deb":
        made = [path for p in packages for path in builder.make(p)]
    else:
        made = builder.make(packages)
    for path in made:
        print(path)


main(*sys.argv[1:])
