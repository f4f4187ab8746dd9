# Copyright (c) the gpusetup contributors
# Apache-2.0 (see LICENSE)
"""Runs gpusetup and reads the one document that it prints."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json
import os
import time

#: Exit codes of gpusetup.
CHANGES = 2
NOT_PUT_BACK = 3
LOCKED = 5

#: The state of the host after a failure, by exit code.
STANDS = {
    1: "What this run did was put back.",
    4: "Nothing was changed.",
    5: "Nothing was changed.",
    6: "Nothing was changed.",
    7: "That engine is as before; the others are set up.",
    8: "The rest is done.",
    130: "What this run did was put back.",
}

OPTIONS = dict(
    executable=dict(type="path"),
    root=dict(type="path", default="/"),
    driver_root=dict(type="path", default="/"),
)


class Program(object):
    """gpusetup on this host."""

    def __init__(self, module):
        self.module = module
        self.path = self._find()

    def _find(self):
        asked = self.module.params["executable"]
        if asked:
            # Otherwise the failure would look like a program that is still to be installed.
            if os.path.isabs(asked) and os.access(asked, os.X_OK):
                return asked
            return None
        return self.module.get_bin_path("gpusetup")

    def need(self):
        """Fails if it is not installed."""
        if not self.path:
            cause = "gpusetup is not installed on this host"
            fix = "install the package gpusetup first; the role gpusetup.gpu.host does so"
            self.module.fail_json(msg=message(cause, fix, 6), cause=cause, fix=fix, exit_code=6)

    def _run(self, words, env):
        params = self.module.params
        line = [self.path] + words + ["--json"]
        for option, flag in (("root", "--root"), ("driver_root", "--driver-root")):
            if params[option] != "/":
                line += [flag, params[option]]
        if params.get("log_file"):
            line += ["--log-file", params["log_file"]]
        return line, self.module.run_command(line, environ_update=env)

    def call(self, words, ends=(0,)):
        """The document of a command that ends with one of these codes; otherwise fails with cause and fix."""
        # The output is parsed, so it must not depend on a terminal's language and colours.
        env = dict(LC_ALL="C", NO_COLOR="1")
        until = time.time() + (self.module.params.get("lock_timeout") or 0)
        while True:
            line, (code, out, err) = self._run(words, env)
            if code != LOCKED or time.time() >= until:
                break
            time.sleep(2)
        try:
            document = json.loads(out)
        except ValueError:
            document = None
        if code in ends and isinstance(document, dict):
            document["exit_code"] = code
            return document
        self._fail(line, code, document, err)

    def _fail(self, line, code, document, err):
        if not isinstance(document, dict):
            # It was not even started, or its command line is wrong.
            document = {}
        cause = document.get("msg") or (
            "%s ended with %s and said: %s" % (" ".join(line), code, err.strip() or "nothing")
        )
        fix = document.get("fix")
        self.module.fail_json(
            msg=message(cause, fix, code),
            cause=cause,
            fix=fix,
            changed=bool(document.get("changed")),
            left=document.get("left") or [],
            exit_code=code,
            cmd=line,
            stderr=err,
        )


def message(cause, fix, code):
    """The message of a play that fails: the cause, what to do, and the state of the host."""
    lines = [cause]
    if fix:
        lines.append("Fix: " + fix)
    if code in STANDS:
        lines.append(STANDS[code])
    return "\n".join(lines)
