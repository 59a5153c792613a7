# A dask-gateway server that starts slcluster's workers as Slurm jobs, each as the user who asks for it.
#   DASK_GATEWAY_PASSWORD=... dask-gateway-server --config dask_gateway_config.py
# README.md beside this file says how to set it up. "c" is what dask-gateway-server reads.

import os

from dask_gateway_server.options import Float, Integer, Mapping, Options

# --- what your site decides -------------------------------------------------------------------------------
# The environment that slcluster is installed in, at a path that all nodes see.
environment = os.environ.get("SLCLUSTER_ENVIRONMENT", "/shared/envs/slcluster")

c.DaskGateway.backend_class = "dask_gateway_server.backends.jobqueue.slurm.SlurmBackend"
# c.SlurmClusterConfig.partition = "normal"
# c.SlurmClusterConfig.account = "my-project"

# Where users reach the server. On loopback it is for those who are logged in here; for others give it a name and a
# certificate, or passwords travel as they are.
c.Proxy.address = "127.0.0.1:8000"
# c.Proxy.address = "gateway.example.org:8000"
# c.Proxy.tls_cert = "/etc/dask-gateway/gateway.pem"
# c.Proxy.tls_key = "/etc/dask-gateway/gateway.key"
# Where schedulers on the nodes report to: this machine, on the network between the nodes.
# c.DaskGateway.address = "10.0.0.1:8001"

# One password for everybody, who may then call themselves what they like: for a machine whose users trust each
# other. Kerberos and JupyterHub know who somebody is.
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = os.environ["DASK_GATEWAY_PASSWORD"]
# c.DaskGateway.authenticator_class = "dask_gateway_server.auth.KerberosAuthenticator"

# --- what a cluster is ------------------------------------------------------------------------------------
# The server's own defaults, dask-scheduler and dask-worker, are commands that Dask no longer has.
c.ClusterConfig.scheduler_cmd = [f"{environment}/bin/dask", "scheduler"]
c.ClusterConfig.worker_cmd = [f"{environment}/bin/dask", "worker"]
c.ClusterConfig.environment = {
    # One thread for libraries that would start their own: cores are for workers.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    # Tasks without a worker would wait for ever.
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "1h",
    # So would a worker that is paused for memory: what fills it is the block that it computes.
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
}
c.ClusterConfig.scheduler_memory = "2 G"
c.ClusterConfig.cluster_max_workers = 64
# Seconds without work after which a forgotten cluster ends.
c.ClusterConfig.idle_timeout = 3600


def asked_for(options):
    """What a profile of kind gateway asks for, as the server's settings of one cluster."""
    return {
        "worker_cores": options.worker_cores,
        "worker_memory": f"{options.worker_memory} G",
        "environment": {**c.ClusterConfig.environment, **options.environment},
    }


# The names are those that slcluster asks for: cores, memory (in GiB) and environment of a profile.
c.Backend.cluster_options = Options(
    Integer("worker_cores", 1, min=1, max=16),
    Float("worker_memory", 4, min=1, max=64, label="worker memory in GiB"),
    Mapping("environment", {}),
    handler=asked_for,
)
