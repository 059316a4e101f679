# bash completion for pyrunc; written by completions/generate.py
_pyrunc() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command= root= valued i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --root) root=${COMP_WORDS[++i]} ;;
            --log|--log-format|--root|--criu|--cgroup-manager|--rootless|--trace) ((i++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    local options arguments=
    case $command in
        '') options='--debug --log --log-format --root --criu --systemd-cgroup --cgroup-manager --rootless --trace --version -v --help -h'; valued='--log|--log-format|--root|--criu|--cgroup-manager|--rootless|--trace'; arguments='checkpoint create delete events exec features kill list pause ps restore resume run spec start state update warm-up help' ;;
        checkpoint) options='--image-path --work-path --parent-path --leave-running --tcp-established --tcp-skip-in-flight --link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd --page-server --file-locks --pre-dump --manage-cgroups-mode --empty-ns --auto-dedup --stats --help -h'; valued='--image-path|--work-path|--parent-path|--status-fd|--page-server|--manage-cgroups-mode|--empty-ns' ;;
        create) options='--bundle -b --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --config --help -h'; valued='--bundle|-b|--console-socket|--pidfd-socket|--pid-file|--preserve-fds|--config' ;;
        delete) options='--force -f --help -h'; valued='' ;;
        events) options='--interval --stats --help -h'; valued='--interval' ;;
        exec) options='--console-socket --pidfd-socket --cwd --env -e --tty -t --user -u --additional-gids -g --process -p --detach -d --pid-file --process-label --apparmor --no-new-privs --cap -c --preserve-fds --cgroup --ignore-paused --help -h'; valued='--console-socket|--pidfd-socket|--cwd|--env|-e|--user|-u|--additional-gids|-g|--process|-p|--pid-file|--process-label|--apparmor|--cap|-c|--preserve-fds|--cgroup' ;;
        features) options='--help -h'; valued='' ;;
        kill) options='--all -a --help -h'; valued='' ;;
        list) options='--format -f --quiet -q --help -h'; valued='--format|-f' ;;
        pause) options='--help -h'; valued='' ;;
        ps) options='--format -f --help -h'; valued='--format|-f' ;;
        restore) options='--console-socket --image-path --work-path --tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode --bundle -b --detach -d --pid-file --no-subreaper --no-pivot --empty-ns --auto-dedup --lazy-pages --lsm-profile --lsm-mount-context --help -h'; valued='--console-socket|--image-path|--work-path|--manage-cgroups-mode|--bundle|-b|--pid-file|--empty-ns|--lsm-profile|--lsm-mount-context' ;;
        resume) options='--help -h'; valued='' ;;
        run) options='--bundle -b --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --config --detach -d --keep --no-subreaper --help -h'; valued='--bundle|-b|--console-socket|--pidfd-socket|--pid-file|--preserve-fds|--config' ;;
        spec) options='--bundle -b --rootless --help -h'; valued='--bundle|-b' ;;
        start) options='--help -h'; valued='' ;;
        state) options='--help -h'; valued='' ;;
        update) options='--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpu-idle --cpuset-cpus --cpuset-mems --memory --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema --help -h'; valued='--resources|-r|--blkio-weight|--cpu-period|--cpu-quota|--cpu-burst|--cpu-share|--cpu-rt-period|--cpu-rt-runtime|--cpu-idle|--cpuset-cpus|--cpuset-mems|--memory|--memory-reservation|--memory-swap|--pids-limit|--l3-cache-schema|--mem-bw-schema' ;;
        warm-up) options='--help -h'; valued='' ;;
        *) return ;;
    esac
    if [[ "|$valued|" == *"|$before|"* ]]; then
        COMPREPLY=($(compgen -f -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        case $command in
            checkpoint|delete|events|exec|kill|pause|ps|resume|start|state|update)
                # compgen -W expands its words as the shell does: nothing but ids may get there.
                arguments=$(pyrunc ${root:+--root "$root"} list -q 2>/dev/null |
                    grep -x '[A-Za-z0-9_+.-]*') ;;
        esac
        COMPREPLY=($(compgen -W "$arguments" -- "$word"))
    fi
}
complete -o filenames -F _pyrunc pyrunc
