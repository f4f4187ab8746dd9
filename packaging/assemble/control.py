"""Adds to the control archive of a package what cargo-deb 3.8 has no option for: fields of libraries and debug symbols,
`shlibs` and `symbols` for programs that link to a library, md5sums. The package's files stay as cargo-deb packed them,
except the copyright file that it puts into each: debug symbols link to that of their package."""

import hashlib
import io
import lzma
import os
import re
import tarfile

MAGIC = b"!<arch>\n"


def complete(path, fields, extra, documents_of=None):
    """`fields` replace those of that name; an empty one is left out. `extra` are control files and their text."""
    members = read(path)
    if documents_of:
        header, data = members["data.tar.xz"]
        members["data.tar.xz"] = (header, with_documents_of(documents_of, os.path.basename(path).partition("_")[0], data))
    files = {}
    with tarfile.open(fileobj=io.BytesIO(members["control.tar.xz"][1])) as archive:
        for entry in archive:
            files[os.path.basename(entry.name)] = (entry.mode, archive.extractfile(entry).read())
            time = entry.mtime
    text = files["control"][1].decode()
    had = {name: value.strip() for name, value in re.findall(r"^([^\s:]+):(.*\n(?: .*\n)*)", text, re.M)}
    # The description comes last, as everywhere.
    order = had | fields | {"Description": had["Description"]}
    order["Description"] = order.pop("Description")
    files["control"] = (0o644, "".join(f"{name}: {value}\n" for name, value in order.items() if value).encode())
    for name, content in extra.items():
        files[name] = (0o644, content.encode())
    files["md5sums"] = (0o644, sums(members["data.tar.xz"][1]).encode())

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, (mode, content) in sorted(files.items()):
            entry = tarfile.TarInfo(f"./{name}")
            entry.mode, entry.size, entry.mtime, entry.uname, entry.gname = mode, len(content), time, "root", "root"
            archive.addfile(entry, io.BytesIO(content))
    header = members["control.tar.xz"][0]
    members["control.tar.xz"] = (header, lzma.compress(packed.getvalue()))
    write(path, members)


def with_documents_of(package, name, data):
    """A link in place of the documents."""
    place = f"./usr/share/doc/{name}"
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
        for entry in old:
            if not f"{entry.name}/".startswith(f"{place}/"):
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
        link = tarfile.TarInfo(place)
        link.type, link.linkname, link.mode, link.mtime = tarfile.SYMTYPE, package, 0o777, entry.mtime
        new.addfile(link)
    return lzma.compress(out.getvalue())


def sums(data):
    lines = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            if entry.isreg():
                digest = hashlib.md5(archive.extractfile(entry).read()).hexdigest()
                lines.append((entry.name.removeprefix("./"), digest))
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))


def read(path):
    """The members of an ar archive, in order: the name with the 48 bytes up to its size, and the content."""
    members = {}
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise SystemExit(f"{path} is no package")
        while header := file.read(60):
            size = int(header[48:58])
            members[header[:16].decode().strip().rstrip("/")] = (header[:48], file.read(size))
            file.read(size % 2)
    return members


def write(path, members):
    with open(path, "wb") as file:
        file.write(MAGIC)
        for header, content in members.values():
            file.write(header + f"{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2))
