"""chart.py CHART BASE DIR: checks the Helm chart with Helm's own engine (helm-python-sdk wraps Helm's Go library): lints it,
renders it with each set of VALUES into DIR/NAME.yaml, checks that its schema refuses each of REFUSED, and that its pod is
that of kustomize's BASE. Exits 1 where a check fails."""

import pathlib
import sys

import helm_python
import yaml

VALUES = {
    "plain": {},
    "absent": {"state": "absent"},
    "nfd": {"report": "nfd"},
    "no-runtime-class": {"runtimeClass": False},
    "quotes": {"flags": "--keep-containers --engine 'docker'", "undoFlags": ""},
    "pull-secret": {"image": {"repository": "registry.example.com/node", "tag": "7", "pullSecrets": [{"name": "key"}]}},
    "everywhere": {"nodeSelectorTerms": [], "tolerations": [], "resources": {}, "maxUnavailable": 3},
}
REFUSED = [{"report": "post"}, {"stat": "absent"}, {"retry": "60"}, {"image": {"repository": ""}}]
# The fields of a pod's specification that the chart and the base must have in common.
SAME = ["affinity", "hostPID", "priorityClassName", "terminationGracePeriodSeconds", "tolerations", "volumes"]
SAME_CONTAINER = ["readinessProbe", "resources", "securityContext", "volumeMounts"]
BAD = 0


def check(text, good):
    """Prints the line of a check and counts failures."""
    global BAD  # pylint: disable=global-statement
    print(f"{'ok' if good else 'not ok'} - {text}")
    BAD += not good


def daemonset(text):
    """The DaemonSet of these manifests."""
    return next(o for o in yaml.safe_load_all(text) if o and o["kind"] == "DaemonSet")


def pod(text):
    """The fields of the pod that the chart and the base must have in common."""
    spec = daemonset(text)["spec"]["template"]["spec"]
    container = spec["containers"][0]
    return {k: spec[k] for k in SAME} | {k: container[k] for k in SAME_CONTAINER}


def refuses(chart, values):
    """Whether the chart's schema refuses these values."""
    try:
        chart.validate_schema(chart.merge_values(values))
    except helm_python.HelmError:
        return True
    return False


def main(where, base, out):
    """Runs all checks."""
    print(f"# Helm {helm_python.helm_sdk_version()}")
    result = helm_python.lint(where, strict=True)
    check("helm lint --strict", not result["errors"] and all(m["severity"] < 2 for m in result["messages"]))
    with helm_python.Chart.load(where) as chart:
        rendered = {}
        for name, values in VALUES.items():
            chart.validate_schema(chart.merge_values(values))
            files = chart.render(values, name="gpu", namespace="gpusetup")
            rendered[name] = files["gpusetup/templates/node.yaml"]
            (pathlib.Path(out) / f"{name}.yaml").write_text(rendered[name], encoding="utf-8")
        for values in REFUSED:
            check(f"{values} is refused", refuses(chart, values))
    check("its pod is the one of the base", pod(rendered["plain"]) == pod(pathlib.Path(base).read_text(encoding="utf-8")))
    env = {e["name"]: e.get("value") for e in daemonset(rendered["quotes"])["spec"]["template"]["spec"]["containers"][0]["env"]}
    check("flags arrive as they were given", env["GPUSETUP_FLAGS"] == VALUES["quotes"]["flags"] and env["GPUSETUP_UNDO_FLAGS"] == "")
    kinds = {name: [o["kind"] for o in yaml.safe_load_all(text) if o] for name, text in rendered.items()}
    check("no rights in the API without a report by it", "ClusterRole" in kinds["plain"] and "ClusterRole" not in kinds["nfd"])
    check("no RuntimeClass where none is wanted", "RuntimeClass" not in kinds["no-runtime-class"])


main(*sys.argv[1:])
sys.exit(1 if BAD else 0)
