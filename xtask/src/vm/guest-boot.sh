# Second stage, in the Debian root: mounts what tests need, runs the command, reports, powers off.
export PATH=/murphy/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}"
mkdir -p /dev/pts /dev/shm /dev/virtio-ports
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin; ln -sf /proc/self/fd/1 /dev/stdout; ln -sf /proc/self/fd/2 /dev/stderr
for p in /sys/class/virtio-ports/*; do
    read -r name <"$p/name" 2>/dev/null && [ -n "$name" ] && ln -sf "/dev/${p##*/}" "/dev/virtio-ports/$name"
done
ports=/dev/virtio-ports

# Controllers for the groups that tests make.
for c in cpu io memory pids; do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; done
hostname murphy
/bin/ip link set lo up

# What is stuck must be told from what is slow; emulation is slow.
echo 30 >/proc/sys/kernel/watchdog_thresh 2>/dev/null
echo 120 >/proc/sys/kernel/hung_task_timeout_secs 2>/dev/null

. /murphy/environment
exec 9>$ports/murphy.control
echo started >&9

if [ -n "$MURPHY_VM_SHELL" ]; then
    stty -F /dev/hvc0 sane
    # The port announces a size of its own when it is opened: ours comes after.
    setsid --ctty sh -c 'stty rows $MURPHY_VM_ROWS cols $MURPHY_VM_COLS; cd; exec bash --noprofile --norc' \
        </dev/hvc0 >/dev/hvc0 2>&1 9>&-
    status=$?
else
    # A port can be opened once only, so the command writes to pipes, as it would anywhere else.
    mkfifo /run/.out /run/.err
    cat </run/.out >$ports/murphy.stdout 9>&- & out=$!
    cat </run/.err >$ports/murphy.stderr 9>&- & err=$!
    mkfifo /murphy/events
    cat <>/murphy/events >$ports/murphy.events 9>&- & events=$!
    cd /root
    sh /murphy/command.sh </dev/null >/run/.out 2>/run/.err 9>&-
    status=$?
    # A daemon left behind may hold the pipes open: its output is not waited for.
    n=0
    while kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null; do
        n=$((n + 1)); [ $n -gt 40 ] && break
        sleep 0.05
    done
fi
echo "exit $status" >&9
# The host ends the machine once it has read everything; this is for the case that it does not.
sleep 5
echo o >/proc/sysrq-trigger
sleep 60
