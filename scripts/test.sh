#!/usr/bin/env bash
# Style, types and tests: bash scripts/test.sh [--oldest] [--slow | --browser] [pytest's arguments]
#   --oldest   on the oldest torch and torchvision that we support, in .venv-oldest
#   --slow     the tests marked slow as well
#   --browser  only those of the report in a real browser
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

folder=.venv pins=() marks="not gpu and not slow and not network and not browser"
while [ $# -gt 0 ]; do
    case $1 in
        --oldest) folder=.venv-oldest ;;
        --slow) marks="not gpu and not network and not browser" ;;
        --browser) marks="browser" ;;
        *) break ;;
    esac
    shift
done
if [ "$folder" = .venv-oldest ]; then
    base=$(find_python) || exit 1
    read -ra pins <<<"$("$base" "$root/scripts/environment.py" oldest)"
fi
prepare_environment "$folder" dev "${pins[@]}"
cd "$root"

"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy

# One thread a process and one process a core: the tensors are too small to share. No more
# than four: each loads its own torch.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
workers=$("$python" -c 'import os; print(min(4, len(os.sched_getaffinity(0))))')
exec "$python" -m pytest -n "$workers" --dist loadfile -m "$marks" "$@"
