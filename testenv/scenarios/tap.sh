# Sourced by scenarios: `check "what" command…` counts, `finish` sums up.
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
        printf '%s\n' "$out" | tail -20 | sed 's/^/    /'
    fi
}

code_is() { # code_is CODE COMMAND…: the command must exit with that code
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" = "$wanted" ] || { echo "exit $code, wanted $wanted"; return 1; }
}

# `! COMMAND | grep` is also true where the command fails and says nothing.
says_nothing_of() { # says_nothing_of PATTERN COMMAND…: it must succeed and say something, but nothing that matches
    local pattern=$1 said
    shift
    said=$("$@") || return
    [ -n "$said" ] || { echo "it says nothing at all"; return 1; }
    ! grep -E -- "$pattern" <<<"$said"
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
