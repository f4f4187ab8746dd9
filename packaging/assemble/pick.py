"""pick PACKAGE STAGE DESTDIR: the staged files of one package, for formats with a builder of their own (PKGBUILD,
APKBUILD)."""

import os
import sys

from . import deb, description

name, stage, dest = sys.argv[1:]
build = description.Build(format="other", upstream="", revision="", epoch=0, arch="", libdir="/usr/lib",
                          maintainer="", homepage="", license="")
packages = description.load(os.path.join(os.path.dirname(os.path.dirname(__file__)), "packages.toml"), build)
for package in packages:
    if package.name == name:
        deb.copy(stage, dest, [f for f in description.staged(stage)
                               if any(description.claims(p, f) for p in package.patterns)])
        break
else:
    raise SystemExit(f"packages.toml has no {name}")
