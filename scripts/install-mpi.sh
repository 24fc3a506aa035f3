#!/usr/bin/env bash
# Installs Open MPI with apt-get where that is allowed, so that ranks in processes are built and tested too. Everything else
# builds and passes without it, so a machine where it cannot be installed is no failure; it is said.
set -euo pipefail

command -v mpicc >/dev/null && command -v mpirun >/dev/null && exit 0
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    sudo -n true 2>/dev/null || { echo "install-mpi: no Open MPI, and no right to install it: ranks in processes are not tested"; exit 0; }
fi
command -v apt-get >/dev/null || { echo "install-mpi: no Open MPI, and no apt-get: ranks in processes are not tested"; exit 0; }
echo "install-mpi: installing openmpi-bin and libopenmpi-dev with apt-get"
"${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openmpi-bin libopenmpi-dev >/dev/null ||
    echo "install-mpi: Open MPI could not be installed: ranks in processes are not tested"
