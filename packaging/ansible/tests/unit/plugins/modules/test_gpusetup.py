"""Tests the modules with a stand-in for gpusetup: which commands they run, and their results from its output."""

import json
import os
import stat

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes
from ansible_collections.gpusetup.gpu.plugins.modules import gpusetup, gpusetup_facts

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # before ansible-core 2.17
    patch_module_args = None

DIFF = [
    {
        "before_header": "/etc/docker/daemon.json",
        "after_header": "/etc/docker/daemon.json",
        "before": "{}\n",
        "after": '{"runtimes": {}}\n',
    },
    {
        "before_header": "/old",
        "after_header": "",
        "before": "x\n",
        "after": "",
    },
]
DONE = {
    "schema": 1,
    "changed": True,
    "restart_required": [],
    "warnings": ["a warning"],
    "foreign": {},
    "diff": DIFF,
    "verified": [{"engine": "docker", "how": "--gpus all", "ok": True, "detail": ""}],
}
NOTHING = dict(DONE, changed=False, diff=[], verified=[], warnings=[])
FAILED = {
    "schema": 1,
    "changed": False,
    "failed": True,
    "msg": "docker did not come back",
    "fix": "mend daemon.json",
    "left": [],
    "exit_code": 1,
}


class Host(object):
    """A directory with a stand-in for gpusetup, and runs of a module with it."""

    def __init__(self, directory, monkeypatch, capfd):
        self.directory = directory
        self.program = str(directory / "gpusetup")
        self.monkeypatch = monkeypatch
        self.capfd = capfd
        self.warnings = []
        monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _module, text: self.warnings.append(text))

    def says(self, *answers):
        """Makes the stand-in: each call gets the next answer, `(exit code, document or text)`; then always the last."""
        for number, (code, document) in enumerate(answers):
            text = document if isinstance(document, str) else json.dumps(document)
            (self.directory / ("answer.%d" % number)).write_text(text)
            (self.directory / ("code.%d" % number)).write_text(str(code))
        (self.directory / "gpusetup").write_text(
            "#!/bin/sh\n"
            'cd "$(dirname "$0")"\n'
            "touch calls; n=$(wc -l <calls 2>/dev/null)\n"
            '[ -e "answer.$n" ] || n=%d\n'
            'echo "$*" >>calls\n'
            'echo "a line of progress" >&2\n'
            "cat answer.$n\n"
            "exit $(cat code.$n)\n" % (len(answers) - 1)
        )
        os.chmod(self.program, stat.S_IRWXU)

    @property
    def calls(self):
        """The command lines that the stand-in was called with."""
        return (self.directory / "calls").read_text().splitlines()

    def run(self, main=gpusetup.main, check=False, diff=False, **params):
        """The module's output; `code` is its exit code."""
        params.setdefault("executable", self.program)
        args = dict(params, _ansible_check_mode=check, _ansible_diff=diff)
        if patch_module_args:
            with patch_module_args(args):
                return self._end(main)
        encoded = to_bytes(json.dumps({"ANSIBLE_MODULE_ARGS": args}))
        self.monkeypatch.setattr(basic, "_ANSIBLE_ARGS", encoded)
        return self._end(main)

    def _end(self, main):
        with pytest.raises(SystemExit) as end:
            main()
        said = json.loads(self.capfd.readouterr().out)
        said["code"] = end.value.code
        return said


@pytest.fixture(name="host")
def _host(tmp_path, monkeypatch, capfd):
    return Host(tmp_path, monkeypatch, capfd)


def test_changed_is_what_gpusetup_says(host):
    host.says((0, DONE), (0, NOTHING))
    first = host.run()
    assert first["changed"] and first["code"] == 0
    assert first["files"] == ["/etc/docker/daemon.json", "/old"]
    assert host.warnings == ["a warning"]
    assert "diff" not in first
    assert not host.run()["changed"]
    assert host.calls[0] == "install --yes --mode both --existing refuse --json", host.calls


def test_check_mode_only_looks(host):
    host.says((2, DONE), (0, NOTHING))
    told = host.run(check=True, diff=True)
    assert told["changed"] and told["would_change"]
    assert told["diff"] == DIFF
    assert not host.run(check=True)["changed"]
    assert not host.run(check=True, state="absent")["changed"]
    assert [c.split(" --")[0] for c in host.calls] == ["plan", "plan", "undo"]
    assert "--dry-run" in host.calls[2]
    assert not any("--yes" in c for c in host.calls)


def test_a_restart_that_is_due_is_told(host):
    due = {
        "engine": "docker",
        "service": "docker.service",
        "whose": "ours",
        "why": "it has not read it",
        "command": "x",
    }
    left = dict(NOTHING, restart_required=["docker.service"], restarts_due=[due], warnings=["Restart due: docker"])
    # As gpusetup ends: plan with 2 although nothing changes, install with 0.
    host.says((2, left), (0, left), (2, dict(left, changed=True)), (0, dict(NOTHING, changed=True)))
    for check in (True, False):
        told = host.run(check=check, restart="never")
        assert not told["changed"] and told["restart_required"] == ["docker.service"]
        assert told["restarts_due"] == [due]
    assert host.warnings == ["Restart due: docker"] * 2
    assert host.run(check=True)["changed"]
    done = host.run()
    assert done["changed"] and done["restart_required"] == []


def test_an_engine_that_fails_is_told(host):
    down = {"engine": "docker", "service": "docker.service", "why": "it failed to start", "log": "x"}
    bad = dict(NOTHING, engines_down=[down], warnings=["Engine down: docker"])
    host.says((2, bad), (7, bad))
    for check in (True, False):
        told = host.run(check=check)
        assert not told["changed"] and told["engines_down"] == [down]
    assert host.warnings == ["Engine down: docker"] * 2


def test_options_are_flags(host):
    host.says((0, NOTHING))
    host.run(
        engines=["docker", "podman"],
        mode="cdi",
        default_runtime=True,
        all_or_nothing=True,
        existing="adopt",
        restart="keep_containers",
        verify=False,
        root="/image",
        driver_root="/opt/driver",
        log_file="/var/log/x",
    )
    assert host.calls == [
        "install --yes --mode cdi --existing adopt --engine docker --engine podman --default-runtime "
        "--all-or-nothing --no-verify --keep-containers --json --root /image --driver-root /opt/driver "
        "--log-file /var/log/x"
    ]
    host.run(state="absent", force=True, restart="never")
    assert host.calls[1] == "undo --yes --force --no-restart --json"


def test_a_failure_is_told_with_cause_and_fix(host):
    host.says((1, FAILED))
    said = host.run()
    assert said["failed"] and said["code"] == 1 and not said["changed"]
    assert said["msg"].splitlines() == [
        "docker did not come back",
        "Fix: mend daemon.json",
        "What this run did was put back.",
    ]
    assert said["cause"] == FAILED["msg"] and said["fix"] == FAILED["fix"]
    assert said["stderr"] == "a line of progress\n"


def test_what_could_not_be_put_back_is_a_change(host):
    left = ["put back /etc/docker/daemon.json: read-only"]
    host.says((3, dict(FAILED, changed=True, left=left, exit_code=3)))
    said = host.run()
    assert said["failed"] and said["changed"] and said["left"] == left
    assert "put back." not in said["msg"]


def test_an_engine_that_was_put_back_fails_the_task(host):
    skipped = [{"engine": "docker", "reason": "failed", "why": "did not come back"}]
    partly = dict(DONE, skipped=skipped, msg="left as it was: docker (did not come back)", fix="mend it")
    host.says((7, partly))
    said = host.run()
    assert said["failed"] and said["changed"] and said["exit_code"] == 7
    assert said["msg"].splitlines() == [
        "left as it was: docker (did not come back)",
        "Fix: mend it",
        "That engine is as before; the others are set up.",
    ]
    assert said["skipped"] == skipped


def test_an_engine_that_does_not_run_is_a_warning(host):
    skipped = [{"engine": "docker", "reason": "does-not-run", "why": "it does not run"}]
    warning = "docker is left as it is: it does not run"
    host.says((7, dict(DONE, skipped=skipped, warnings=[warning])))
    said = host.run()
    assert said["code"] == 0 and said["changed"] and said["skipped"] == skipped
    assert host.warnings == [warning]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_containers_that_do_not_run_again_fail_the_task(host, state):
    down = [{"container": "web", "why": "no such network"}]
    message = "1 container that ran does not run: web (no such network)"
    host.says((8, dict(DONE, containers_down=down, msg=message, fix="docker start web")))
    said = host.run(state=state)
    assert said["failed"] and said["changed"] and said["containers_down"] == down
    assert said["msg"].splitlines() == [message, "Fix: docker start web", "The rest is done."]


def test_changes_to_make_are_no_end_of_an_install(host):
    host.says((2, DONE))
    assert host.run()["failed"]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '"text"'])
def test_what_is_no_document_is_told(host, text):
    host.says((0, text))
    said = host.run()
    assert said["failed"] and "a line of progress" in said["msg"]


def test_another_run_is_waited_for(host, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    locked = dict(FAILED, msg="another gpusetup holds /run/gpusetup.lock", exit_code=5)
    host.says((5, locked), (5, locked), (0, DONE))
    assert host.run()["changed"]
    assert len(host.calls) == 3
    (host.directory / "calls").unlink()
    said = host.run(lock_timeout=0)
    assert said["failed"] and said["exit_code"] == 5 and len(host.calls) == 1


def test_verified_runs_the_containers_where_nothing_changed(host):
    seen = {"schema": 1, "changed": False, "verified": DONE["verified"]}
    host.says((0, NOTHING), (0, dict(seen, not_verified=["crio"])))
    said = host.run(state="verified", daemon_reload=False, engines=["docker"])
    assert not said["changed"] and said["not_verified"] == ["crio"]
    assert host.calls[1] == "verify --engine docker --no-daemon-reload --json"


def test_verified_runs_them_once_where_something_changed(host):
    host.says((0, DONE))
    assert host.run(state="verified")["changed"]
    assert len(host.calls) == 1


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"ok": False, "detail": "0 of 2 GPUs"}, "0 of 2 GPUs"),
        ({"reload": {"is": "failed", "why": "0 of 2 GPUs are left"}}, "are left"),
    ],
)
def test_a_container_without_its_gpus_fails_the_task(host, wrong, word):
    seen = [dict(DONE["verified"][0], **wrong)]
    host.says((0, NOTHING), (1, {"schema": 1, "changed": False, "verified": seen}))
    said = host.run(state="verified")
    assert said["failed"] and not said["changed"]
    assert word in said["msg"] and "--gpus all" in said["msg"] and "Fix: " in said["msg"]


def test_without_gpusetup(host):
    missing = str(host.directory / "none")
    root = str(host.directory / "root")
    told = host.run(executable=missing, check=True)
    assert told["changed"] and "not installed" in host.warnings[0]
    assert not host.run(executable=missing, state="absent", root=root)["changed"]
    assert "not installed" in host.run(executable=missing)["msg"]
    # There is a set-up that only gpusetup can undo.
    (host.directory / "root/var/lib/gpusetup").mkdir(parents=True)
    (host.directory / "root/var/lib/gpusetup/receipt.json").write_text("{}")
    for check in (False, True):
        said = host.run(executable=missing, state="absent", root=root, check=check)
        assert said["failed"], said


def test_facts(host):
    found = {"schema": 1, "gpus": [], "engines": [], "driver": None}
    host.says((0, found), (0, "gpusetup 0.1.0\n"))
    said = host.run(main=gpusetup_facts.main)
    assert not said["changed"]
    assert said["ansible_facts"]["gpusetup"] == dict(found, installed=True, version="0.1.0")
    none = host.run(main=gpusetup_facts.main, executable="/nowhere")
    assert none["ansible_facts"]["gpusetup"] == {"installed": False}
