"""Debian packages, from the staged files: a tree for dpkg-deb, with control files that dpkg-dev makes."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile

from . import changelog, symbols
from .description import relation

FIELDS = {
    "depends": "Depends",
    "recommends": "Recommends",
    "suggests": "Suggests",
    "conflicts": "Conflicts",
    "provides": "Provides",
    "replaces": "Replaces",
}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


class Builder:
    def __init__(self, build, top, stage, debug_tree, out, entries):
        self.build, self.top, self.stage, self.debug_tree, self.out = build, top, stage, debug_tree, out
        self.entries = entries

    def make(self, package):
        """The package, and its debug symbols where it has programs. Returns their paths."""
        with tempfile.TemporaryDirectory() as root:
            copy(self.stage, root, package.files)
            self.add_documents(package, root)
            elf = [f for f in package.files if symbols.is_elf(self.stage + f)]
            os.makedirs(f"{root}/DEBIAN", mode=0o755)
            self.add_library_files(package, root)
            depends = list(package.relations["depends"])
            self.add_scripts(package, root)
            self.write_control(package, root, depends + self.library_depends(package, root, elf))
            made = [self.pack(root, package.name, self.architecture(package))]
        if elf:
            made.append(self.debug_symbols(package, [symbols.build_id(self.stage + f) for f in elf]))
        return made

    def architecture(self, package):
        return "all" if package.arch == "all" else self.build.arch

    def add_documents(self, package, root):
        doc = f"{root}/usr/share/doc/{package.name}"
        os.makedirs(doc, exist_ok=True)
        shutil.copy(f"{self.stage}/../documents/copyright", f"{doc}/copyright")
        with open(f"{doc}/changelog.Debian.gz", "wb") as file:
            text = changelog.debian(self.entries).encode()
            file.write(gzip.compress(text, 9, mtime=0))
        overrides = f"{self.top}/packaging/lint/{package.name}.lintian-overrides"
        if os.path.exists(overrides):
            os.makedirs(f"{root}/usr/share/lintian/overrides", exist_ok=True)
            shutil.copy(overrides, f"{root}/usr/share/lintian/overrides/{package.name}")

    def add_library_files(self, package, root):
        """For a shared library: which package programs linked with it need."""
        libraries = [f for f in package.files if f.startswith(self.build.libdir) and symbols.is_elf(self.stage + f)]
        if not libraries:
            return
        minimum = f"{package.name} (>= {self.build.upstream})"
        stem, major = os.path.basename(libraries[0]).split(".so.")
        write(f"{root}/DEBIAN/shlibs", f"{stem} {major.split('.')[0]} {minimum}\n")
        with source_tree(self.build, package) as tree:
            subprocess.run(
                ["dpkg-gensymbols", "-c4", f"-p{package.name}", f"-P{root}", f"-v{self.build.upstream}",
                 f"-I{self.top}/packaging/library/{package.name}.symbols", f"-O{root}/DEBIAN/symbols"],
                cwd=tree, check=True, stdout=subprocess.DEVNULL)

    def library_depends(self, package, root, elf):
        dynamic = [f for f in elf if "INTERP" in symbols.run("readelf", "-lW", self.stage + f) or ".so" in f]
        if not dynamic:
            return []
        with source_tree(self.build, package) as tree:
            found = symbols.run("env", "-C", tree, "dpkg-shlibdeps", "--warnings=0", "-O", f"-S{root}",
                                *[f"-e{root}{f}" for f in dynamic])
        for line in found.splitlines():
            if line.startswith("shlibs:Depends="):
                return [d.strip() for d in line.partition("=")[2].split(",")]
        return []

    def add_scripts(self, package, root):
        """Maintainer scripts and triggers, as they stand in packaging/scripts/PACKAGE."""
        source = f"{self.top}/packaging/scripts/{package.name}"
        for name in SCRIPTS + ("triggers",):
            if os.path.exists(f"{source}/{name}"):
                shutil.copy(f"{source}/{name}", f"{root}/DEBIAN/{name}")
                os.chmod(f"{root}/DEBIAN/{name}", 0o644 if name == "triggers" else 0o755)

    def write_control(self, package, root, depends):
        conffiles = [f for f in package.files if f.startswith("/etc/")]
        if conffiles:
            write(f"{root}/DEBIAN/conffiles", "".join(f + "\n" for f in conffiles))
        fields = {
            "Package": package.name,
            "Source": "gpusetup",
            "Version": self.build.version,
            "Architecture": self.architecture(package),
            "Multi-Arch": package.multi_arch,
            "Maintainer": self.build.maintainer,
            "Installed-Size": str(size(root)),
            "Section": package.section,
            "Priority": "optional",
            "Homepage": self.build.homepage,
        }
        relations = dict(package.relations, depends=depends)
        for kind, name in FIELDS.items():
            fields[name] = ", ".join(debian_relation(r) for r in relations[kind])
        if package.name == "gpusetup":
            del fields["Source"]
        body = [f" {line}" if line else " ." for line in package.description.splitlines()]
        fields["Description"] = "\n".join([package.summary] + body)
        write_fields(root, fields)

    def debug_symbols(self, package, identities):
        with tempfile.TemporaryDirectory() as root:
            copy(self.debug_tree, root, ["/" + symbols.debug_file(i) for i in identities])
            name = f"{package.name}-dbgsym"
            os.makedirs(f"{root}/usr/share/doc")
            os.symlink(package.name, f"{root}/usr/share/doc/{name}")
            os.makedirs(f"{root}/DEBIAN", mode=0o755)
            write_fields(root, {
                "Package": name,
                "Source": "gpusetup",
                "Version": self.build.version,
                "Auto-Built-Package": "debug-symbols",
                "Architecture": self.build.arch,
                "Multi-Arch": package.multi_arch,
                "Maintainer": self.build.maintainer,
                "Installed-Size": str(size(root)),
                "Depends": f"{package.name} (= {self.build.version})",
                "Section": "debug",
                "Priority": "optional",
                "Description": f"debug symbols for {package.name}",
                "Build-Ids": " ".join(sorted(identities)),
            })
            return self.pack(root, name, self.build.arch)

    def pack(self, root, name, arch):
        sums = []
        for directory, names, files in os.walk(root):
            names.sort()
            if directory.startswith(f"{root}/DEBIAN"):
                continue
            for file in files:
                path = os.path.join(directory, file)
                if not os.path.islink(path):
                    sums.append((os.path.relpath(path, root), hashlib.md5(read(path)).hexdigest()))
        write(f"{root}/DEBIAN/md5sums", "".join(f"{s}  {p}\n" for p, s in sorted(sums)))
        settle(root, self.build.epoch)
        path = f"{self.out}/{name}_{self.build.version}_{arch}.deb"
        # xz: older releases cannot read zstd, which is what Ubuntu's dpkg-deb makes unless told.
        # One thread: with more, what xz writes depends on how many.
        env = dict(os.environ, SOURCE_DATE_EPOCH=str(self.build.epoch), DPKG_DEB_THREADS_MAX="1")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, path], check=True,
                       stdout=subprocess.DEVNULL, env=env)
        return path


def debian_relation(text):
    name, operator, version = relation(text)
    if operator is None:
        return text
    # A strict order is doubled in Debian's language.
    return f"{name} ({ {'<': '<<', '>': '>>'}.get(operator, operator) } {version})"


def copy(source, root, files):
    for file in files:
        os.makedirs(os.path.dirname(root + file), exist_ok=True)
        shutil.copy2(source + file, root + file, follow_symlinks=False)


def settle(root, epoch):
    """Modes and times as if made by nobody in particular."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in files + names:
            path = os.path.join(directory, name)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
        os.chmod(directory, 0o755)
    os.utime(root, (epoch, epoch))


def size(root):
    """Installed-Size as Debian policy 5.6.20 counts it: KiB, a directory or a link is one."""
    total = 0
    for directory, names, files in os.walk(root):
        total += len(names)
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            total += 1 if os.path.islink(os.path.join(directory, name)) else -(-status.st_size // 1024)
    return total


def source_tree(build, package):
    """What dpkg-dev's tools want to stand in."""
    tree = tempfile.TemporaryDirectory()
    os.mkdir(f"{tree.name}/debian")
    write(f"{tree.name}/debian/control",
          f"Source: gpusetup\nMaintainer: {build.maintainer}\n\nPackage: {package.name}\nArchitecture: any\n")
    return tree


def write_fields(root, fields):
    write(f"{root}/DEBIAN/control", "".join(f"{k}: {v}\n" for k, v in fields.items() if v))


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    with open(path, "rb") as file:
        return file.read()
