# Sourced by scenarios: runs playbooks of the collection gpusetup.gpu on this host, with the payload's Ansible.
# shellcheck shell=bash disable=SC2154 # The payload is the scenario's.
[ -d "$payload/ansible" ] || { echo "no Ansible in the payload: use testenv/ansible/run"; exit 1; }
if ! command -v ansible-playbook >/dev/null; then
    tar -C / --skip-old-files -xf "$payload/ansible/programs.tar"
    ldconfig
fi
export ANSIBLE_COLLECTIONS_PATH=$payload/ansible/collections ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=0
export ANSIBLE_RETRY_FILES_ENABLED=0 ANSIBLE_DEPRECATION_WARNINGS=0
mkdir -p /run/plays
printf 'localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n' >/run/plays/hosts
log=/run/plays/log
variables=(-e gpusetup_source=bundle -e gpusetup_bundle="$payload/ansible/bundle.tar.gz")

play() { # play PLAYBOOK [ARGUMENT…]: runs it; its output is in $log
    local playbook=$1
    shift
    ansible-playbook -i /run/plays/hosts "gpusetup.gpu.$playbook" "${variables[@]}" "$@" >$log 2>&1
}
ends_with() { # ends_with RECAP PLAYBOOK [ARGUMENT…]: the playbook succeeds with this recap
    local recap=$1
    shift
    if play "$@" && grep -Eq "$recap" $log; then return; fi
    cat $log
    return 1
}
changes() { ends_with 'changed=[1-9].* failed=0' "$@"; }
same() { ends_with 'changed=0 .* failed=0' "$@"; }
fails() { ! play "$@" || { cat $log; return 1; }; }
log_has() { grep -q -- "$1" $log || { tail -40 $log; return 1; }; }
snapshot() {
    find /etc -xdev -not -name ld.so.cache -printf '%y %m %u:%g %p %l\n' | sort
    find /etc -xdev -not -name ld.so.cache -type f -exec sha256sum {} + | sort -k2
}
is_as() { snapshot >/run/now; diff "$1" /run/now; }
main_pid() { systemctl show -p MainPID docker containerd; }

for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 1; done
docker load -qi "$payload/image.tar" || exit 1
