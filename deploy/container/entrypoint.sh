#!/bin/sh
# What a container of the image does: "scheduler", "worker", or any command of slcluster.
# Further words are options of "dask scheduler" and "dask worker"; they win over those given here.
set -eu

tls=${SLCLUSTER_TLS:-/run/slcluster/tls}
role=${1:-}

# Kernels that the image brings. Other processors find none of theirs, and add them here. Where nothing can be
# written, Numba says what is missing.
if [ -d /opt/slcluster/kernels ] && [ ! -e "$NUMBA_CACHE_DIR" ]; then
  cp -r /opt/slcluster/kernels "$NUMBA_CACHE_DIR" || true
fi

if [ -r "$tls/ca.pem" ]; then
  export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
  export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$tls/ca.pem"
  export DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT="$tls/scheduler.pem"
  export DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY="$tls/scheduler.key"
  export DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT="$tls/worker.pem"
  export DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY="$tls/worker.key"
  export DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT="$tls/client.pem"
  export DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY="$tls/client.key"
elif [ "$role" = scheduler ] || [ "$role" = worker ]; then
  # Whoever reaches a scheduler without certificates can have it run any code.
  echo "slcluster: error: no certificates in $tls; mount them there (deploy/container/README.md)" >&2
  exit 2
fi

case $role in
  scheduler)
    shift
    # Tasks without a worker would wait for ever.
    export DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT="${DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT:-1h}"
    exec dask scheduler --port 8786 --dashboard-address 127.0.0.1:8787 "$@"
    ;;
  worker)
    shift
    # A worker that is paused for memory would wait for ever: what fills it is the block that it computes.
    export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE="${DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE:-False}"
    exec dask worker --nthreads 1 --death-timeout 300 --local-directory /tmp \
      --no-dashboard --dashboard-address 127.0.0.1:0 "$@"
    ;;
  health)
    # Asked of the scheduler alone: a worker without one ends by itself, and a client has no server.
    # Its own word: the addresses of the others may hold it too.
    tr '\0' '\n' </proc/1/cmdline | grep -qx scheduler || exit 0
    exec python3 -c 'from urllib.request import urlopen; urlopen("http://127.0.0.1:8787/health", timeout=4)'
    ;;
  *)
    exec slcluster "$@"
    ;;
esac
