"""manifests.py FILE…: validates each object of each file by the schema of its kind, strictly. Exits 1 where one is invalid."""

import sys

import kubernetes_validate
import yaml

BAD = 0
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        objects = [o for o in yaml.safe_load_all(file) if o]
    if not objects:
        print(f"not ok - {name} has no object")
        BAD += 1
    for one in objects:
        what = f"{one['kind']} {one['metadata']['name']}"
        try:
            for version in ("1.27", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(one, version, strict=True)
        except Exception as error:  # pylint: disable=broad-except
            print(f"not ok - {what}: {str(error).splitlines()[0]}")
            BAD += 1
        else:
            print(f"ok - {what}")
sys.exit(1 if BAD else 0)
