"""Debian packages made by cargo-deb: a crate is generated for each, whose manifest names the staged files."""

import json
import os
import subprocess
import tempfile

from . import changelog, control, symbols
from .description import relation

RELATIONS = ("depends", "recommends", "suggests", "conflicts", "provides", "replaces")


class Builder:
    def __init__(self, build, top, stage, debug_tree, out, entries):
        self.build, self.top, self.stage, self.debug_tree, self.out = build, top, stage, debug_tree, out
        self.entries = entries

    def make(self, package):
        """Makes the package, and that of its debug symbols if it has programs. Returns their paths."""
        elf = [f for f in package.files if symbols.is_elf(self.stage + f)]
        libraries = [f for f in elf if f.startswith(self.build.libdir)]
        manifest = {
            "section": package.section,
            "extended-description": package.description,
            **{kind: ", ".join(debian_relation(r) for r in package.relations[kind]) for kind in RELATIONS},
        }
        manifest["depends"] = ", ".join(filter(None, [manifest["depends"], self.linked_with(package, elf)]))
        scripts = f"{self.top}/packaging/scripts/{package.name}"
        if os.path.exists(scripts):
            manifest["maintainer-scripts"] = scripts
        if os.path.exists(f"{scripts}/triggers"):
            manifest["triggers-file"] = f"{scripts}/triggers"
        assets = [(self.stage + f, f) for f in package.files]
        overrides = f"{self.top}/packaging/lint/{package.name}.lintian-overrides"
        if os.path.exists(overrides):
            assets.append((overrides, f"/usr/share/lintian/overrides/{package.name}"))
        fields = {
            "Source": "" if package.name == "gpusetup" else "gpusetup",
            "Multi-Arch": package.multi_arch or "",
        }
        if package.arch == "all":
            fields["Architecture"] = "all"
        made = [self.pack(package.name, package.summary, manifest, assets, fields, self.for_linking(package, libraries))]
        if elf:
            made.append(self.debug_symbols(package, [symbols.build_id(self.stage + f) for f in elf]))
        return made

    def debug_symbols(self, package, identities):
        manifest = {"section": "debug", "depends": f"{package.name} (= {self.build.version})"}
        files = ["/" + symbols.debug_file(i) for i in identities]
        fields = {
            "Source": "gpusetup",
            "Multi-Arch": package.multi_arch or "",
            "Auto-Built-Package": "debug-symbols",
            "Build-Ids": " ".join(sorted(identities)),
        }
        return self.pack(f"{package.name}-dbgsym", f"debug symbols for {package.name}", manifest,
                         [(self.debug_tree + f, f) for f in files], fields, {}, documents_of=package.name)

    def pack(self, name, summary, manifest, assets, fields, extra, documents_of=None):
        """Runs cargo-deb and completes the package. Returns its path."""
        crate = f"{self.stage}/../crates/{name}"
        os.makedirs(crate, exist_ok=True)
        write(f"{crate}/lib.rs", "")
        write(f"{crate}/changelog", changelog.debian(self.entries))
        assets = assets + [(os.path.abspath(f"{self.stage}/../documents/copyright"), f"/usr/share/doc/{name}/copyright")]
        package = {"name": name, "version": "0.0.0", "edition": "2021", "description": summary, "homepage": self.build.homepage}
        table = {"maintainer": self.build.maintainer, "changelog": "changelog", **manifest}
        lines = ["# Made by packaging/build from packaging/packages.toml.", "[package]", *keys(package),
                 "[lib]", 'path = "lib.rs"', "[workspace]", "[package.metadata.deb]", *keys(table),
                 "preserve-symlinks = true", "assets = ["]
        lines += [f"    [{json.dumps(source)}, {json.dumps(to[1:])}, \"{os.stat(source).st_mode & 0o777:o}\"],"
                  for source, to in assets]
        write(f"{crate}/Cargo.toml", "\n".join(lines + ["]", ""]))
        path = f"{self.out}/{name}_{self.build.version}_{fields.get('Architecture', self.build.arch)}.deb"
        # One thread: with more, the output of xz depends on their number.
        env = dict(os.environ, SOURCE_DATE_EPOCH=str(self.build.epoch), XZ_OPT="--threads=1")
        subprocess.run(["cargo", "deb", "--quiet", "--no-build", "--no-strip", "--offline", "--compress-system",
                        f"--manifest-path={crate}/Cargo.toml", f"--target={self.build.triple}",
                        f"--deb-version={self.build.version}", f"--output={path}"], check=True, env=env,
                       stdout=subprocess.DEVNULL)
        control.complete(path, fields, extra, documents_of)
        return path

    def for_linking(self, package, libraries):
        """Control files of a shared library: which package programs that link to it need."""
        if not libraries:
            return {}
        stem, major = os.path.basename(libraries[0]).split(".so.")
        table = dpkg_dev("dpkg-gensymbols", "-c4", f"-p{package.name}", f"-v{self.build.upstream}", "-O",
                         f"-I{self.top}/packaging/library/{package.name}.symbols",
                         *[f"-e{self.stage}{f}" for f in libraries], build=self.build, package=package)
        return {
            "shlibs": f"{stem} {major.split('.')[0]} {package.name} (>= {self.build.upstream})\n",
            "symbols": table,
        }

    def linked_with(self, package, elf):
        """The packages of the libraries that the programs need."""
        dynamic = [f for f in elf if "INTERP" in symbols.run("readelf", "-lW", self.stage + f) or ".so" in f]
        if not dynamic:
            return ""
        found = dpkg_dev("dpkg-shlibdeps", "--warnings=0", "-O", *[f"-e{self.stage}{f}" for f in dynamic],
                         build=self.build, package=package)
        return "".join(line.partition("=")[2] for line in found.splitlines() if line.startswith("shlibs:Depends="))


def dpkg_dev(*command, build, package):
    """The output of a command that needs a debian/control in its directory."""
    with tempfile.TemporaryDirectory() as tree:
        os.mkdir(f"{tree}/debian")
        write(f"{tree}/debian/control",
              f"Source: gpusetup\nMaintainer: {build.maintainer}\n\nPackage: {package.name}\nArchitecture: any\n")
        return symbols.run("env", "-C", tree, *command)


def debian_relation(text):
    name, operator, version = relation(text)
    if operator is None:
        return text
    # Debian writes strict comparisons with two characters.
    return f"{name} ({ {'<': '<<', '>': '>>'}.get(operator, operator) } {version})"


def keys(table):
    """The value as TOML, whose strings are written as in JSON."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if value]


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
