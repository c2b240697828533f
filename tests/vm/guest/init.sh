#!/bin/busybox sh
# The initramfs: load the disks' modules, mount the three disks by their serials, hand over to systemd.
export PATH=/bin
for applet in mount insmod cat sleep switch_root mkdir; do /bin/busybox ln -s busybox /bin/$applet; done
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module"; done </order

disk() {
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        for block in /sys/block/vd*; do
            [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && { echo "/dev/${block##*/}"; return; }
        done
        sleep 0.5
    done
    echo "corral-bench: no disk with the serial $1" >/dev/console
}

mount -t ext4 "$(disk root)" /new
mount -t erofs -o ro "$(disk modules)" /new/usr/lib/modules
mount -t erofs -o ro "$(disk payload)" /new/opt/corral
/bin/busybox umount /sys /proc
mount -o move /dev /new/dev
exec switch_root /new /sbin/init
