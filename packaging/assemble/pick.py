"""pick PACKAGE STAGE DESTDIR: copies the staged files of one package, for formats with a builder of their own (PKGBUILD,
APKBUILD)."""

import os
import shutil
import sys

from . import description

name, stage, dest = sys.argv[1:]
build = description.Build(format="other", upstream="", revision="", epoch=0, arch="", triple="", libdir="/usr/lib",
                          maintainer="", homepage="", license="")
packages = description.load(os.path.join(os.path.dirname(os.path.dirname(__file__)), "packages.toml"), build)
for package in packages:
    if package.name == name:
        for file in description.staged(stage):
            if any(description.claims(p, file) for p in package.patterns):
                os.makedirs(os.path.dirname(dest + file), exist_ok=True)
                shutil.copy2(stage + file, dest + file, follow_symlinks=False)
        break
else:
    raise SystemExit(f"packages.toml has no {name}")
