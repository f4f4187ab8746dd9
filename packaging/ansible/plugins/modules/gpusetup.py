#!/usr/bin/python
# Copyright (c) the gpusetup contributors
# Apache-2.0 (see LICENSE)
"""Ansible module: GPU containers in the engines of a host."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: gpusetup
short_description: Set up, verify and undo GPU containers on a host
version_added: 0.1.0
description:
  - Runs C(gpusetup) on the host. It edits the configuration of Docker, containerd, CRI-O, Podman and
    Kubernetes distributions without losing a comment, restarts what needs it, proves the result by
    running a container in each engine, and puts everything back where a step fails.
  - Containers that get GPUs are those that ask for one. The driver is not installed by it.
  - A host that is set up already is not written to and nothing is restarted on it.
options:
  state:
    description:
      - C(present) sets the engines up. Where that changes something the result is verified, unless O(verify=false).
      - C(verified) does the same, and runs the containers of the verification also where nothing had to change.
        In check mode no container is run.
      - C(absent) takes out what C(gpusetup) has put in, and keeps what was changed since.
    type: str
    choices: [present, verified, absent]
    default: present
  engines:
    description:
      - Only these, by the names that C(gpusetup detect) gives, such as C(docker) or C(containerd).
      - All that are found where the list is empty.
    type: list
    elements: str
    default: []
  mode:
    description: How containers get GPUs; by CDI, by a runtime of the name C(nvidia), or by either.
    type: str
    choices: [both, cdi, runtime]
    default: both
  default_runtime:
    description: Make the runtime C(nvidia) the engines' default.
    type: bool
    default: false
  all_or_nothing:
    description:
      - Where one engine cannot be set up, put all of them back. Otherwise that engine alone is put back, the others are
        set up, and the task fails.
      - Engines that do not run are started. Otherwise they are left as they are, with a warning.
    type: bool
    default: false
  existing:
    description:
      - What becomes of a runtime C(nvidia), a CDI spec or a hook that another tool or you have set up.
      - C(refuse) fails and names it, C(adopt) puts ours in its place until O(state=absent), C(leave) leaves it.
    type: str
    choices: [refuse, adopt, leave]
    default: refuse
  restart:
    description:
      - C(auto) restarts or reloads the engines that need it, as a part of the transaction.
      - C(keep_containers) fails before anything is changed where a restart would stop a container.
      - C(never) leaves the restart to you. What needs one is in RV(restart_required). Nothing is verified then, and an
        engine that does not start with its new configuration is not put back.
      - A restart that an earlier run has left is done by C(auto), which then reports a change. With C(never) it stays
        in RV(restart_required), with a warning and without a change. A restart that is due because of somebody else's
        change is only named, in RV(restarts_due) and as a warning.
    type: str
    choices: [auto, keep_containers, never]
    default: auto
  verify:
    description:
      - With O(state=present), run containers where something changed. An engine in which one fails is put back.
    type: bool
    default: true
  daemon_reload:
    description:
      - With O(state=verified), also look whether containers keep their GPUs over a C(systemctl daemon-reload).
    type: bool
    default: true
  force:
    description: With O(state=absent), also where containers need what goes and would not start again.
    type: bool
    default: false
  root:
    description: Act on a directory tree instead of the running host, such as an image that is being built.
    type: path
    default: /
  driver_root:
    description: Where the driver's user space lives.
    type: path
    default: /
  executable:
    description: Path of C(gpusetup). It is looked for in PATH and the usual directories by default.
    type: path
  log_file:
    description: A file on the host to which each program run and each file written is appended, with times.
    type: path
  lock_timeout:
    description: How long, in seconds, to wait for another run of C(gpusetup) on the host to end.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Runs C(gpusetup plan) or C(gpusetup undo --dry-run), which write nothing.
  diff_mode:
    support: full
    description: Every file, before and after. Passwords in URLs are masked.
  platform:
    support: full
    platforms: linux
    description: Linux 5.6 or later.
notes:
  - Where C(gpusetup) is not installed, check mode reports a change and a warning, since an earlier task of
    the play would have installed it.
seealso:
  - module: gpusetup.gpu.gpusetup_facts
author:
  - gpusetup contributors (@gpusetup)
"""

EXAMPLES = r"""
- name: Every engine of this host can give containers GPUs
  gpusetup.gpu.gpusetup:

- name: Docker only, and by CDI only; no container that runs is stopped
  gpusetup.gpu.gpusetup:
    engines: [docker]
    mode: cdi
    restart: keep_containers

- name: Prove it again, whether or not something changed
  gpusetup.gpu.gpusetup:
    state: verified
  register: gpus

- name: Take over from nvidia-container-toolkit
  gpusetup.gpu.gpusetup:
    existing: adopt

- name: Back to before
  gpusetup.gpu.gpusetup:
    state: absent

- name: An image that is being built, without a GPU
  gpusetup.gpu.gpusetup:
    root: /mnt/image
"""

RETURN = r"""
files:
  description: Files that were, or in check mode would be, written or removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/docker/daemon.json, /var/run/cdi/nvidia.yaml]
would_change:
  description: The same as RV(changed), for tasks that ask in check mode and say C(changed_when=false).
  returned: success
  type: bool
restart_required:
  description:
    - Services that must be restarted for what is set up to take effect; with O(restart=never) or in check mode.
    - Also without a change, where an earlier run was not followed by a restart.
  returned: success
  type: list
  elements: str
  sample: [docker.service]
restarts_due:
  description:
    - Restarts that are due although no file changes; RV(restarts_due[].whose) is C(ours) where what C(gpusetup) has
      set up is not in effect without it, and C(theirs) where somebody else has changed a file.
      RV(restarts_due[].command) is null where the service does not run the engine; RV(restarts_due[].by_another) says
      who has to restart it.
  returned: success
  type: list
  elements: dict
  sample:
    - engine: docker
      service: docker.service
      whose: ours
      why: it has not read what gpusetup wrote
      command: systemctl daemon-reload && systemctl restart docker.service
engines_down:
  description: Engines whose service fails or keeps crashing. One that somebody has stopped is none of them.
  returned: success
  type: list
  elements: dict
restarts_not_known:
  description: Engines of which it is not known whether a restart is due, each with the reason.
  returned: success
  type: list
  elements: dict
verified:
  description: What each container of the verification saw; empty where none was run.
  returned: success
  type: list
  elements: dict
  sample:
    - engine: docker
      how: --gpus all
      gpus: 2
      expected: 2
      ok: true
not_verified:
  description: Engines in which C(gpusetup) runs no container.
  returned: O(state=verified)
  type: list
  elements: str
  sample: [crio]
foreign:
  description: What of other tools is there that gives containers GPUs.
  returned: success
  type: dict
cause:
  description: What failed, and on which file or service.
  returned: failure
  type: str
  sample: no driver is loaded
skipped:
  description: Engines that were left as they were, each with C(reason) (C(does-not-run) or C(failed)) and C(why).
  returned: always
  type: list
  elements: dict
containers_down:
  description: Containers that ran before a restart and do not run, each with C(container) and C(why).
  returned: always
  type: list
  elements: dict
fix:
  description: What to do about it.
  returned: failure
  type: str
left:
  description: What could not be put back; empty where the host is as before.
  returned: failure
  type: list
  elements: str
exit_code:
  description: Exit code of C(gpusetup).
  returned: always
  type: int
  sample: 0
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpusetup.gpu.plugins.module_utils.program import (
    CHANGES,
    OPTIONS,
    Program,
    message,
)

#: The exit code where an engine was left out or is not verified.
PARTLY = 7
#: The exit code where containers that ran do not run again.
CONTAINERS_DOWN = 8
#: Exists while gpusetup has changed something on the host.
RECEIPT = "/var/lib/gpusetup/receipt.json"


def restart_flags(params):
    """The flags for the option restart."""
    return {
        "auto": [],
        "keep_containers": ["--keep-containers"],
        "never": ["--no-restart"],
    }[params["restart"]]


def engine_flags(params):
    """The flags for the option engines."""
    return [word for name in params["engines"] for word in ("--engine", name)]


def install_words(params, look):
    """The command line that sets up; with `look`, the one that only shows the changes."""
    words = ["plan"] if look else ["install", "--yes"]
    words += ["--mode", params["mode"], "--existing", params["existing"]]
    words += engine_flags(params)
    if params["default_runtime"]:
        words.append("--default-runtime")
    if params["all_or_nothing"]:
        words.append("--all-or-nothing")
    if not params["verify"]:
        words.append("--no-verify")
    return words + restart_flags(params)


def undo_words(params, look):
    """The command line that undoes; with `look`, the one that only shows the changes."""
    words = ["undo", "--dry-run"] if look else ["undo", "--yes"]
    if params["force"]:
        words.append("--force")
    return words + restart_flags(params)


def verify_words(params):
    """The command line that runs the containers."""
    words = ["verify"] + engine_flags(params)
    return words if params["daemon_reload"] else words + ["--no-daemon-reload"]


def bad(verified):
    """A sentence about each container that did not see what it should."""
    lines = []
    for one in verified:
        lost = one.get("reload") or {}
        if not one.get("ok"):
            lines.append("%s, %s: %s" % (one["engine"], one["how"], one["detail"]))
        elif lost.get("is") == "failed":
            lines.append("%s, %s: %s" % (one["engine"], one["how"], lost.get("why")))
        elif one.get("driver_trouble"):
            lines.append("%s, %s: %s" % (one["engine"], one["how"], one["driver_trouble"]))
    return lines


def warn_of_not_verified(module, document):
    """Warns of each reason why something is set up and not verified."""
    told = []
    for one in document.get("not_verified_why") or []:
        reason = "not verified: %s: %s" % (one["engine"], one["why"])
        if reason not in told:
            told.append(reason)
            module.warn(reason)


def fail_if_short(module, document, result):
    """Fails if an engine was put back although the others are set up, or if containers are down."""
    failed = [one for one in result["skipped"] if one.get("reason") == "failed"]
    if not (failed or result["containers_down"]):
        return
    cause = document.get("msg") or "gpusetup ended with %s" % document["exit_code"]
    fix = document.get("fix")
    result.update(cause=cause, fix=fix)
    module.fail_json(msg=message(cause, fix, document["exit_code"]), **result)


def paths(diff):
    """The files of the diff."""
    return [one["after_header"] or one["before_header"] for one in diff]


def end_if_missing(module, program):
    """The result without gpusetup: there is nothing to undo, and before it is installed nothing to report."""
    if program.path:
        return
    absent = module.params["state"] == "absent"
    stands = os.path.exists(module.params["root"].rstrip("/") + RECEIPT)
    if absent and not stands:
        module.exit_json(**outcome({"changed": False}))
    if module.check_mode and not absent:
        module.warn("gpusetup is not installed yet; what it would change can be told once it is")
        module.exit_json(**outcome({"changed": True}))
    # Also where there is a set-up but no gpusetup that could undo it.
    program.need()


def outcome(document):
    """The module's result, whatever was run."""
    diff = document.get("diff") or []
    return dict(
        changed=bool(document.get("changed")),
        would_change=bool(document.get("changed")),
        files=paths(diff),
        restart_required=document.get("restart_required") or [],
        restarts_due=document.get("restarts_due") or [],
        engines_down=document.get("engines_down") or [],
        restarts_not_known=document.get("restarts_not_known") or [],
        verified=document.get("verified") or [],
        foreign=document.get("foreign") or {},
        skipped=document.get("skipped") or [],
        containers_down=document.get("containers_down") or [],
        exit_code=document.get("exit_code", 0),
    )


def verify(module, program, result):
    """Runs the containers; fails if one does not see its GPUs."""
    seen = program.call(verify_words(module.params), ends=(0, 1, PARTLY))
    result["verified"] = seen.get("verified") or []
    result["not_verified"] = seen.get("not_verified") or []
    warn_of_not_verified(module, seen)
    for warning in seen.get("warnings") or []:
        module.warn(warning)
    wrong = bad(result["verified"])
    if seen.get("failed") or wrong:
        cause = seen.get("msg") or "; ".join(wrong)
        fix = seen.get("fix") or (
            "`gpusetup detect` on the host says what is there; `gpusetup verify -v` shows each step"
        )
        # Verifying changes nothing, so there is nothing to roll back.
        result.update(cause=cause, fix=fix, exit_code=seen["exit_code"])
        module.fail_json(msg=message(cause, fix, None), **result)


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(
                type="str",
                choices=["present", "verified", "absent"],
                default="present",
            ),
            engines=dict(type="list", elements="str", default=[]),
            mode=dict(type="str", choices=["both", "cdi", "runtime"], default="both"),
            default_runtime=dict(type="bool", default=False),
            all_or_nothing=dict(type="bool", default=False),
            existing=dict(type="str", choices=["refuse", "adopt", "leave"], default="refuse"),
            restart=dict(
                type="str",
                choices=["auto", "keep_containers", "never"],
                default="auto",
            ),
            verify=dict(type="bool", default=True),
            daemon_reload=dict(type="bool", default=True),
            force=dict(type="bool", default=False),
            log_file=dict(type="path"),
            lock_timeout=dict(type="int", default=60),
            **OPTIONS
        ),
        supports_check_mode=True,
    )
    params = module.params
    program = Program(module)
    end_if_missing(module, program)
    look = module.check_mode
    if params["state"] == "absent":
        words = undo_words(params, look)
    else:
        words = install_words(params, look)
    document = program.call(words, ends=(0, CHANGES) if look else (0, PARTLY, CONTAINERS_DOWN))
    warn_of_not_verified(module, document)
    for warning in document.get("warnings") or []:
        module.warn(warning)
    result = outcome(document)
    if module._diff:  # pylint: disable=protected-access
        result["diff"] = document.get("diff") or []
    fail_if_short(module, document, result)
    if params["state"] == "verified" and not look and not result["verified"]:
        verify(module, program, result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
