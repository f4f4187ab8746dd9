#!/usr/bin/python
# Copyright (c) the gpusetup contributors
# Apache-2.0 (see LICENSE)
"""Ansible module: GPUs, driver and container engines of a host as facts."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: gpusetup_facts
short_description: GPUs, driver and container engines of a host as facts
version_added: 0.1.0
description:
  - What C(gpusetup detect) finds on the host. It writes nothing and starts no container.
  - Where C(gpusetup) is not installed the module does not fail; C(ansible_facts.gpusetup.installed) is false then.
options:
  root:
    description: Look at a directory tree instead of the running host.
    type: path
    default: /
  driver_root:
    description: Where the driver's user space lives.
    type: path
    default: /
  executable:
    description: Path of C(gpusetup). It is looked for in PATH and the usual directories by default.
    type: path
attributes:
  check_mode:
    support: full
    description: It only looks.
  diff_mode:
    support: none
    description: It changes nothing.
  facts:
    support: full
    description: It sets C(ansible_facts.gpusetup).
  platform:
    support: full
    platforms: linux
    description: Linux 5.6 or later.
seealso:
  - module: gpusetup.gpu.gpusetup
author:
  - gpusetup contributors (@gpusetup)
"""

EXAMPLES = r"""
- name: Look
  gpusetup.gpu.gpusetup_facts:

- name: Hosts with a GPU that no engine can give to containers yet
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpusetup.gpus | length }} GPUs, not set up"
  when:
    - ansible_facts.gpusetup.gpus | default([]) | length > 0
    - ansible_facts.gpusetup.engines | rejectattr('configured') | list | length > 0
"""

RETURN = r"""
ansible_facts:
  description: Facts of the host.
  returned: always
  type: dict
  contains:
    gpusetup:
      description: The document of C(gpusetup detect --json), and whether C(gpusetup) is there.
      returned: always
      type: dict
      contains:
        installed:
          description: Whether C(gpusetup) is installed. The other keys are there only then.
          returned: always
          type: bool
        version:
          description: Version of C(gpusetup).
          returned: installed
          type: str
          sample: 0.1.0
        distribution:
          description: Distribution, and whether it is supported.
          returned: installed
          type: dict
        driver:
          description: Version of the loaded driver, of its CUDA, and how many files it has; null without one.
          returned: installed
          type: dict
          sample: {version: 580.65.06, cuda: "13.0", files: 40}
        gpus:
          description: GPUs of the host, with their MIG slices.
          returned: installed
          type: list
          elements: dict
        engines:
          description: Container engines, with version, config file, whether they run and whether they are set up.
          returned: installed
          type: list
          elements: dict
        foreign:
          description: What of other tools is there that gives containers GPUs.
          returned: installed
          type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpusetup.gpu.plugins.module_utils.program import (
    OPTIONS,
    Program,
)


def main():
    """Runs the module."""
    module = AnsibleModule(argument_spec=dict(OPTIONS), supports_check_mode=True)
    program = Program(module)
    facts = dict(installed=bool(program.path))
    if program.path:
        facts.update(program.call(["detect"]))
        facts.pop("exit_code")
        _code, out, _err = module.run_command([program.path, "--version"])
        facts["version"] = out.strip().split(" ")[-1]
    module.exit_json(changed=False, ansible_facts=dict(gpusetup=facts))


if __name__ == "__main__":
    main()
