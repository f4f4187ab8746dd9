"""RPM packages, built by rpmbuild from the staged files and a generated spec."""

import glob
import os
import shutil
import subprocess
import tempfile

from . import changelog, symbols
from .description import relation

TAGS = {
    "depends": "Requires",
    "recommends": "Recommends",
    "suggests": "Suggests",
    "conflicts": "Conflicts",
    "provides": "Provides",
}
# Files in packaging/scripts/PACKAGE, and their names in a spec.
SCRIPTS = {
    "rpm-pretrans": "pretrans",
    "rpm-pre": "pre",
    "rpm-post": "post",
    "rpm-preun": "preun",
    "rpm-postun": "postun",
    "rpm-posttrans": "posttrans",
}
# File triggers in the same place; their first line has the paths: `# paths: PREFIX …`.
TRIGGERS = {
    "rpm-filetriggerin": "filetriggerin",
    "rpm-filetriggerpostun": "filetriggerpostun",
}
# Directories that the distributions' own packages have. Any other belongs to our package, which removes it too.
NOT_OURS = {
    "/", "/etc", "/etc/init.d", "/usr", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/lib64/pkgconfig",
    "/usr/lib/systemd", "/usr/lib/systemd/system", "/usr/lib/systemd/system-preset", "/usr/lib/tmpfiles.d",
    "/usr/lib/sysusers.d", "/usr/lib/udev", "/usr/lib/udev/rules.d", "/usr/lib/debug", "/usr/lib/debug/.build-id",
    "/usr/lib/systemd/system/multi-user.target.wants", "/usr/share", "/usr/share/doc", "/usr/share/licenses",
    "/usr/share/man", "/usr/share/man/man1", "/usr/share/man/man5", "/usr/share/man/man7", "/usr/share/man/man8",
    "/usr/share/bash-completion", "/usr/share/bash-completion/completions", "/usr/share/selinux",
    "/usr/share/selinux/packages",
}


class Builder:
    def __init__(self, build, top, stage, debug_tree, out, entries):
        self.build, self.top, self.stage, self.debug_tree, self.out = build, top, stage, debug_tree, out
        self.entries = entries

    def make(self, packages):
        """Makes all packages in one run. Returns their paths."""
        with tempfile.TemporaryDirectory() as work:
            buildroot = f"{work}/root"
            shutil.copytree(self.stage, buildroot, symlinks=True)
            for p in packages:
                self.add_documents(p, buildroot)
            debug = {p.name: self.add_symbols(p, buildroot) for p in packages}
            spec = f"{work}/gpusetup.spec"
            with open(spec, "w", encoding="utf-8") as file:
                file.write(self.spec(packages, debug))
            shutil.copy(spec, f"{self.out}/../gpusetup.spec")
            self.rpmbuild(work, spec, buildroot)
            made = []
            for path in sorted(glob.glob(f"{work}/rpms/*/*.rpm")):
                made.append(shutil.copy(path, self.out))
            return made

    def rpmbuild(self, work, spec, buildroot):
        macros = {
            "_topdir": f"{work}/top",
            "_rpmdir": f"{work}/rpms",
            "_buildhost": "reproducible",
            "source_date_epoch_from_changelog": "0",
            "use_source_date_epoch_as_buildtime": "1",
            "clamp_mtime_to_source_date_epoch": "1",
            # Every rpm can read gzip and xz; zstd came with 4.14.
            "_binary_payload": "w6.xzdio",
            "_source_filedigest_algorithm": "8",
            "_binary_filedigest_algorithm": "8",
            "_build_id_links": "none",
            "debug_package": "%{nil}",
            # The staged files are final: stripped, compressed, byte for byte those of the .deb.
            "__os_install_post": "%{nil}",
            "__brp_compress": "%{nil}",
        }
        command = ["rpmbuild", "-bb", "--quiet", "--nodeps", f"--target={self.build.arch}-linux",
                   f"--buildroot={work}/install"]
        for name, value in macros.items():
            command += ["--define", f"{name} {value}"]
        command += ["--define", f"staged {buildroot}", spec]
        env = dict(os.environ, SOURCE_DATE_EPOCH=str(self.build.epoch), LC_ALL="C.UTF-8")
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise SystemExit(f"rpmbuild:\n{done.stdout}{done.stderr}")

    def add_documents(self, package, root):
        licenses = f"{root}/usr/share/licenses/{package.name}"
        os.makedirs(licenses)
        shutil.copy(f"{self.top}/LICENSE", licenses)
        shutil.copy(f"{self.stage}/../documents/copyright", f"{licenses}/copyright")
        package.rpm_files = package.files + [f"/usr/share/licenses/{package.name}/{n}" for n in ("LICENSE", "copyright")]

    def add_symbols(self, package, root):
        files = []
        for file in package.files:
            if not symbols.is_elf(self.stage + file):
                continue
            debug = "/" + symbols.debug_file(symbols.build_id(self.stage + file))
            os.makedirs(os.path.dirname(root + debug), exist_ok=True)
            shutil.copy2(self.debug_tree + debug, root + debug)
            files.append(debug)
        return files

    def spec(self, packages, debug):
        b = self.build
        first, rest = packages[0], packages[1:]
        out = [
            "# Made by packaging/build from packaging/packages.toml.",
            f"Name: {first.name}",
            f"Version: {b.upstream}",
            f"Release: {b.revision}",
            f"Vendor: {b.maintainer.partition(' <')[0]}",
            f"Packager: {b.maintainer}",
        ]
        if b.homepage:
            out.append(f"URL: {b.homepage}")
        out += self.preamble(first)
        for p in rest:
            out += [f"%package -n {p.name}"] + self.preamble(p)
        for p in packages:
            if debug[p.name]:
                out += [
                    f"%package -n {p.name}-debuginfo",
                    f"Summary: Debug symbols for {p.name}",
                    "Group: Development/Debug",
                    "AutoReqProv: no",
                    f"License: {p.license}",
                    f"Requires: {p.name} = {b.same_version}",
                    f"%description -n {p.name}-debuginfo",
                    f"Debug symbols for {p.name}, found by its programs' build ids.",
                    "",
                ]
        out += ["%prep", "%build", "%install", "mkdir -p %{buildroot}", "cp -a %{staged}/. %{buildroot}/", ""]
        for p in packages:
            out += self.scripts(p)
        for p in packages:
            out += [f"%files -n {p.name}"] + self.entries_of(p.rpm_files)
            if debug[p.name]:
                out += [f"%files -n {p.name}-debuginfo"] + self.entries_of(debug[p.name])
        out += ["%changelog", changelog.rpm(self.entries)]
        return "\n".join(out) + "\n"

    def preamble(self, p):
        out = [f"Summary: {p.summary[0].upper()}{p.summary[1:]}", f"Group: {group(p.section)}"]
        out.append(f"License: {p.license}")
        if p.arch == "all":
            out.append("BuildArch: noarch")
        for kind, tag in TAGS.items():
            for text in p.relations[kind]:
                name, operator, version = relation(text)
                out.append(f"{tag}: {name} {operator} {version}" if operator else f"{tag}: {text}")
        return out + ["", f"%description -n {p.name}", p.description, ""]

    def scripts(self, p):
        source = f"{self.top}/packaging/scripts/{p.name}"
        out = []
        for name, section in (SCRIPTS | TRIGGERS).items():
            if not os.path.exists(f"{source}/{name}"):
                continue
            with open(f"{source}/{name}", encoding="utf-8") as file:
                lines = file.read().splitlines()
            if lines and lines[0].startswith("#!"):
                lines = lines[1:]
            on = ""
            if name in TRIGGERS:
                paths = [line for line in lines if line.startswith("# paths: ")]
                if not paths:
                    raise SystemExit(f"{source}/{name}: no line '# paths: PREFIX …'")
                on = " -- " + paths[0].removeprefix("# paths: ")
            body = "\n".join(lines).replace("%", "%%")
            out += [f"%{section} -n {p.name}{on}", body, ""]
        return out

    def entries_of(self, files):
        directories = set()
        for file in files:
            directory = os.path.dirname(file)
            while directory not in NOT_OURS:
                directories.add(directory)
                directory = os.path.dirname(directory)
        out = [f"%dir %attr(0755,root,root) {d}" for d in sorted(directories)]
        for file in files:
            kind = ""
            if file.startswith("/usr/share/licenses/"):
                kind = "%license "
            elif file.startswith("/etc/"):
                kind = "%config(noreplace) "
            elif file.startswith(("/usr/share/doc/", "/usr/share/man/")):
                kind = "%doc "
            mode = ""
            if not os.path.islink(self.stage + file):
                path = self.path_of(file)
                # Unlike on Debian, shared libraries are executable in rpm distributions.
                runs = os.access(path, os.X_OK) or symbols.is_elf(path)
                mode = f"%attr({'0755' if runs else '0644'},root,root) "
            out.append(f"{kind}{mode}{file}")
        return out + [""]

    def path_of(self, file):
        """Licences and debug symbols are not in a stage; they are plain files."""
        path = self.stage + file
        return path if os.path.exists(path) else f"{self.top}/LICENSE"


def group(section):
    return {"libs": "System/Libraries", "libdevel": "Development/Libraries/C and C++"}.get(section, "System/Management")
