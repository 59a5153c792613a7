#!/bin/bash
# Start slcluster@lab by a systemd of an unprivileged user, on a machine that was not booted by systemd too, and say
# what the service can do. A small program stands in for slcluster. Needs root, and Debian's package systemd:
#   bash tests/deploy/start_unit.sh
# Exit code 0: it started, writes where the unit says, and nowhere else. 77: this machine allows no mounts.
set -euo pipefail
unit=$(cd "$(dirname "$0")/../.." && pwd)/deploy/systemd/slcluster@.service
[ "${1:-}" = inside ] || { unshare --mount true || exit 77; exec unshare --mount --propagation private bash "$0" inside; }

# Mounts are of this script alone. The user's manager expects what a booted system has made.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/{system,unit-root,mount-rootfs} /run/user
mount -t cgroup2 none /sys/fs/cgroup || exit 77
# A group of its own: a manager that starts in the uppermost takes every process that it finds there.
group=/sys/fs/cgroup/slcluster-unit-$$
mkdir "$group" || exit 77
chown nobody "$group" "$group"/cgroup.{procs,subtree_control,threads}

home=/run/home
mkdir -p "$home"/{run,slcluster/.venv/bin,.config/systemd/user}
cp "$unit" "$home/.config/systemd/user/"
cat > "$home/slcluster/.venv/bin/slcluster" <<'PROGRAM'
#!/bin/sh
may() { if "$@" 2>/dev/null; then echo yes; else echo no; fi; }
{
  echo "words: $*"
  echo "home: $(may touch "$HOME/written")"
  echo "var: $(may touch /var/tmp/slcluster-unit-$$)"
  echo "usr: $(may mkdir /usr/slcluster-unit)"
  echo "namespaces: $(may unshare --user true)"
} > "$HOME/told"
exec sleep 1000
PROGRAM
chmod +x "$home/slcluster/.venv/bin/slcluster"
chown -R nobody "$home"
chmod 700 "$home/run"

(
  echo "$BASHPID" > "$group/cgroup.procs"
  cd "$home"
  exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all \
    env -i PATH="$PATH" HOME="$home" XDG_RUNTIME_DIR="$home/run" timeout 120 bash -c '
      /lib/systemd/systemd --user > /dev/null 2>&1 &
      until systemctl --user start slcluster@lab 2>/dev/null; do sleep 0.5; done
      until grep -q namespaces told 2>/dev/null; do sleep 0.2; done
      systemctl --user show -p ActiveState -p SubState slcluster@lab
      systemctl --user exit
      wait'
) || true
cat "$home/told"
for _ in $(seq 50); do
  find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
  sleep 0.2
done

diff - "$home/told" <<TOLD
words: cluster start $home/.config/slcluster/lab.yaml --name lab --foreground
home: yes
var: no
usr: no
namespaces: no
TOLD
echo "the unit holds"
