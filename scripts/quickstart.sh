#!/usr/bin/env bash
# Install if need be, then train a small SoRA detector on drawn clear-weather scenes and
# print its score under every weather: bash scripts/quickstart.sh [quickstart.py's arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

prepare_environment .venv ""
cd "$root"
exec "$python" scripts/quickstart.py "$@"
