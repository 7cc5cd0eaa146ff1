#!/bin/busybox sh
# First program in the guest, in the initrd: finds the disks, builds the root, hands over.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /rw /new
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for m in /boot/*.ko; do [ -e "$m" ] && $b insmod "$m"; done

# virtio probes its devices in the background.
n=0
until [ -b /dev/vda ] && [ "$($b ls /sys/class/virtio-ports 2>/dev/null | $b wc -l)" -ge 4 ]; do
    n=$((n + 1))
    [ $n -gt 600 ] && { echo "murphy: the guest's disks or ports did not appear" >/dev/console; $b poweroff -f; }
    $b usleep 50000
done

$b mount -t squashfs -o ro /dev/vda /lower || { echo "murphy: cannot mount the root image" >/dev/console; $b poweroff -f; }
$b mount -t tmpfs -o size=80% rw /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /new ||
    { echo "murphy: cannot mount the overlay" >/dev/console; $b poweroff -f; }
[ -b /dev/vdb ] && $b mount -t squashfs -o ro /dev/vdb /new/usr/lib/modules
$b mount -t tmpfs murphy /new/murphy
$b cp -a /payload/. /new/murphy/
for d in proc sys dev; do $b mkdir -p /new/$d; $b mount --move /$d /new/$d; done
exec $b switch_root /new /bin/sh /murphy/boot.sh
