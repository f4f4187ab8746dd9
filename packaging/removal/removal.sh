# shellcheck shell=sh
# Sourced by the prerm of our packages, with the tree that the package is removed from in $root ("" for this host).
# `may_go PACKAGE` ends the script with an error, before anything is changed, if something on the host needs PACKAGE, or
# another package of ours that goes with it. What could not be looked at is printed and keeps no package.

names=/usr/share/gpu-container
# removal_places.sh sets these.
configuration_files='' request_files='' container_files='' home_files='' program_words='' device_words=''
vendor_words='' own_names='' local_file_systems=''

# An administrator's decision for removals that nobody watches: a variable, or a file, since not every package manager
# hands its environment on.
is_decided() { [ "${GPUSETUP_REMOVE:-}" = anyway ] || [ -e "$root/run/gpusetup-remove-anyway" ]; }

refuse() { # refuse: says how to go on; the reason was printed before
    if is_decided; then
        echo "$package: removed all the same, as /run/gpusetup-remove-anyway or GPUSETUP_REMOVE says" >&2
        return 0
    fi
    cat >&2 <<TEXT
$package: not removed; nothing was changed. Do what is said above, then remove it. To remove it all the same:
  touch /run/gpusetup-remove-anyway
TEXT
    exit 1
}

callers() { # callers: prints the command lines of the package managers that started this script
    pid=$PPID
    while [ "${pid:-0}" -gt 1 ]; do
        case "$(cat "/proc/$pid/comm" 2>/dev/null)" in
            dpkg | apt | apt-get | aptitude | nala) tr '\0' ' ' <"/proc/$pid/cmdline" && echo ;;
        esac
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
    done
}

goes() { # goes PACKAGE: it is removed now or soon; also where the package manager does not say
    [ "$1" != "$package" ] || return 0
    case "$(dpkg-query --admindir="$root/var/lib/dpkg" -Wf '${db:Status-Want}' "$1" 2>/dev/null)" in
        install | hold) ;;
        *) return 0 ;;
    esac
    case "$(callers)" in
        *" $1 "* | *" $1:"*) return 0 ;;
    esac
    # Whatever was installed with this package goes with the next autoremove, when gpusetup cannot be asked any more.
    [ -z "$root" ] && [ -n "$(apt-mark showauto "$1" 2>/dev/null)" ]
}

has_vendor_names() {
    case "$(readlink -f "$root/usr/bin/nvidia-container-runtime" || :)" in
        */gpu-container/*) return 0 ;;
    esac
    return 1
}

may_go() {
    package=$1
    going=
    for one in gpusetup gpu-container-toolkit gpusetup-nvidia-compat; do
        if [ "$one" = gpusetup-nvidia-compat ] && ! has_vendor_names; then continue; fi
        if goes "$one"; then going="$going $one"; fi
    done
    gpusetup=$root/usr/bin/gpusetup
    code=127 said=
    if [ -x "$gpusetup" ]; then
        code=0
        # $going is several words.
        # shellcheck disable=SC2086
        said=$("$gpusetup" --root "$root/" references $going --after-undo 2>&1) || code=$?
        [ "$code" = 0 ] || echo "$said" >&2
        [ "$code" != 2 ] || refuse
        undo
    fi
    # gpusetup has gone before, or could not look everywhere.
    case $code in
        0 | 2) ;;
        *) search ;;
    esac
}

undo() { # undo: takes back what gpusetup has set up for root, or looks whether the package that goes later can
    [ -e "$root/var/lib/gpusetup/receipt.json" ] || [ -e "$root/var/lib/gpusetup/journal.json" ] || return 0
    restart=--keep-containers
    # In a tree that is not this host, and in an image under construction, nothing runs that could be restarted.
    [ -z "$root" ] && [ -d /run/systemd/system ] || restart=--no-restart
    case "$package $going" in
        gpusetup-nvidia-compat*" gpusetup"*)
            code_of_undo=0
            said=$("$gpusetup" --root "$root/" undo --dry-run $restart 2>&1) || code_of_undo=$?
            case $code_of_undo in
                0 | 2) return 0 ;;
            esac
            echo "$said" >&2
            refuse
            return 0
            ;;
        gpusetup-nvidia-compat*) return 0 ;;
    esac
    if "$gpusetup" --root "$root/" undo --yes $restart >&2; then return 0; fi
    # Undone, and somebody else's configuration still names our programs: `references` has said whether it needs what
    # goes now.
    [ -e "$root/var/lib/gpusetup/receipt.json" ] || [ -e "$root/var/lib/gpusetup/journal.json" ] || return 0
    echo "$package: the engines' configuration still needs it. Run \`gpusetup undo\`, then remove it." >&2
    refuse
    "$gpusetup" --root "$root/" undo --yes --force $restart >&2 ||
        "$gpusetup" --root "$root/" undo --yes --force --no-restart >&2 || :
}

# What follows is for a host where gpusetup has gone before: it finds less, by the list that was made of gpusetup's own.

search() {
    if [ ! -r "$root$names/removal_places.sh" ]; then
        echo "$package: $root$names/removal_places.sh is missing, so it was not looked whether something needs this package" >&2
        return 0
    fi
    # shellcheck source=/dev/null
    . "$root$names/removal_places.sh"
    found=$(search_all)
    [ -n "$found" ] || return 0
    echo "$package: these need this package. Take it out of them, restart what reads them, then remove it:" >&2
    echo "$found" | sed 's/^/  /' >&2
    refuse
}

search_all() { # search_all: prints each file that needs a package that goes
    words=
    case "$going " in
        *" gpu-container-toolkit "*) words=$program_words ;;
    esac
    requests=$words
    if [ -n "$words" ] && is_our_spec; then
        requests="$words
$device_words"
    fi
    remote=$(remote_mounts)
    {
        naming "$words" "$configuration_files"
        naming "$requests" "$request_files
$container_files"
        cut -d: -f6 "$root/etc/passwd" 2>/dev/null | sort -u | while read -r home; do
            case $home in
                /?*) ;;
                *) continue ;;
            esac
            if is_near "$home"; then
                naming "$requests" "$(echo "$home_files" | sed "s|^|$home/|")" near
            else
                echo "$package: not looked at: $home, which is a link or on a file system that may not answer" >&2
            fi
        done
    } | sort -u
}

naming() { # naming WORDS PATTERNS [near]: prints the files that have one of the words, or a vendor's name if those go
    (
        IFS='
'
        for pattern in $2; do
            # The pattern is to be expanded.
            # shellcheck disable=SC2231
            for file in $root$pattern; do
                if [ -f "$file" ] && { [ -z "${3:-}" ] || is_near "${file#"$root"}"; } && names_us "$1" "$file"; then
                    echo "${file#"$root"}"
                fi
            done
        done
    )
}

names_us() { # names_us WORDS FILE
    case /$2 in
        */gpusetup-*) return 1 ;;
    esac
    if [ -n "$1" ] && grep -v '^[[:space:]]*[#;]' "$2" | grep -qF "$1"; then return 0; fi
    case "$going " in
        *" gpusetup-nvidia-compat "*)
            grep -v '^[[:space:]]*[#;]' "$2" | grep -vF "$own_names" | grep -qF "$vendor_words"
            ;;
        *) return 1 ;;
    esac
}

is_our_spec() { # is_our_spec: the device names are ours, or nobody's now
    ! cat "$root"/etc/cdi/* "$root"/run/cdi/* 2>/dev/null | grep -q nvidia.com/gpu ||
        grep -qs gpu-container-hook "$root/run/cdi/nvidia.yaml"
}

remote_mounts() { # remote_mounts: prints where file systems are mounted that may not answer
    awk -v known="$(echo "$local_file_systems" | tr '\n' ' ')" '
        BEGIN { count = split(known, kinds, " "); for (i = 1; i <= count; i++) near[kinds[i]] = 1 }
        { for (i = 7; i < NF && $i != "-"; i++); if (!($(i + 1) in near) && $5 != "/") print $5 }
    ' "$root/proc/self/mountinfo" 2>/dev/null || :
}

is_near() { # is_near PATH: no part of it is a link, or on a file system that may not answer
    walked=
    rest=${1#/}
    while [ -n "$rest" ]; do
        walked=$walked/${rest%%/*}
        case $rest in
            */*) rest=${rest#*/} ;;
            *) rest= ;;
        esac
        case "
$remote
" in
            *"
$walked
"*) return 1 ;;
        esac
        [ ! -L "$root$walked" ] || return 1
    done
}
