# Sourced by scenarios: `check "TEXT" COMMAND…` counts, `finish` sums up. What another process writes to the journal
# is looked for with `soon`, from `journal_end` on.
# shellcheck shell=bash
passed=0 failed=0

check() { # check TEXT COMMAND…: the command must succeed
    local text=$1 out
    shift
    if out=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok $((passed + failed)) - $text"
    else
        local code=$?
        failed=$((failed + 1))
        echo "not ok $((passed + failed)) - $text (exit $code)"
        ends "$out" | sed 's/^/    /'
    fi
}

ends() { # ends TEXT: prints it; of a long text the beginning, where a command's error is, and the end, where a check's is
    local lines
    mapfile -t lines <<<"$1"
    if [ ${#lines[@]} -le 40 ]; then printf '%s\n' "$1"; return; fi
    printf '%s\n' "${lines[@]:0:15}" "[… $((${#lines[@]} - 40)) lines …]" "${lines[@]: -25}"
}

code_is() { # code_is CODE COMMAND…: the command must exit with that code
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" = "$wanted" ] || { echo "exit $code, wanted $wanted"; return 1; }
}

# `! COMMAND | grep` would also succeed where the command fails and prints nothing.
says_nothing_of() { # says_nothing_of PATTERN COMMAND…: it succeeds and prints something, but nothing that matches
    local pattern=$1 output
    shift
    output=$("$@") || return
    [ -n "$output" ] || { echo "it says nothing at all"; return 1; }
    ! grep -E -- "$pattern" <<<"$output"
}

# A line can be missing from the journal for a while after it was written: journald reads a daemon's last words when
# it gets a processor, which can be after the end of the daemon and of systemctl.
soon() { # soon COMMAND…: it succeeds within some seconds; prints the output of the last try
    local out synced code=0 end=$((SECONDS + 15 * ${HOST_SLOW:-1}))
    while :; do
        synced=$(timeout 10 journalctl --sync 2>&1) || synced+=" (journalctl --sync: exit $?)"
        if out=$("$@" 2>&1); then printf '%s\n' "$out"; return; else code=$?; fi
        [ $SECONDS -lt $end ] || { printf '%s\n' "$out" ${synced:+"$synced"}; return $code; }
        sleep 0.2
    done
}

# A cursor and not a time: the same second has other lines too, and `-n` with `--since` means the first lines before
# systemd 254 (systemd issue 26657).
journal_end() { # journal_end: where the journal ends now, for --after-cursor
    timeout 10 journalctl --sync || true
    journalctl -n 1 -o export --no-pager | sed -n 's/^__CURSOR=//p'
}

# An undo leaves what the package's service makes: for a host that begins as if no scenario had run on it.
without_made_files() {
    rm -rf /run/gpusetup /run/cdi/nvidia.yaml
    find /dev/char -lname '*nvidia*' -delete
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
