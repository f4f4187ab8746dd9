"""sbom PROGRAM TARGET VERSION EPOCH: prints a software bill of materials, CycloneDX 1.6 in JSON."""

import json
import sys
import uuid
from datetime import datetime, timezone

from . import crates


def component(crate, kind="library"):
    out = {
        "type": kind,
        "bom-ref": crate.purl,
        "name": crate.name,
        "version": crate.version,
        "scope": "required",
        "licenses": [{"expression": crate.license}],
        "purl": crate.purl,
    }
    if crate.ours:
        del out["purl"]
    if crate.checksum:
        out["hashes"] = [{"alg": "SHA-256", "content": crate.checksum}]
    if crate.repository:
        out["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
    return out


def document(program, target, version, epoch):
    found = crates.linked(program, target)
    first = next(iter(found.values()))
    main = component(first, "library" if program.startswith("lib") else "application")
    main["version"] = version
    libraries = [component(c) for k, c in sorted(found.items()) if c is not first]
    rust = crates.subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    libraries.append({"type": "library", "bom-ref": f"rust-std@{rust}", "name": "rust-std", "version": rust,
                      "scope": "required", "licenses": [{"expression": "MIT OR Apache-2.0"}],
                      "externalReferences": [{"type": "vcs", "url": "https://github.com/rust-lang/rust"}]})
    dependencies = [{"ref": c.purl, "dependsOn": sorted(found[u].purl for u in c.uses)}
                    for _, c in sorted(found.items())]
    dependencies[[d["ref"] for d in dependencies].index(first.purl)]["dependsOn"].append(f"rust-std@{rust}")
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "packaging/assemble/sbom.py"}]},
            "component": main,
        },
        "components": libraries,
        "dependencies": dependencies,
    }
    # Derived from the content, so that the same source gives the same document.
    name = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "serialNumber": f"urn:uuid:{name}", **body}


if __name__ == "__main__":
    json.dump(document(*sys.argv[1:]), sys.stdout, indent=1)
    print()
