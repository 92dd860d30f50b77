#!/bin/bash
# tests/lower_bounds.sh [PACKAGE...]: does each lower bound of pyproject.toml install, and do the tests of what uses it pass?
#
# Outside the gate: it takes minutes and the package index. Each bound is tried in an environment of its own, where that
# package has its lowest version, with what this version asks for, and everything else is that of the environment that
# runs this. torch is left out: its bound is that of what it was built with, and it is 200 MB.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
SITE=$($PYTHON -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT

tests_of() {
  case $1 in
    click) echo tests/unit/cluster/cli/test_errors.py ;;
    matplotlib) echo tests/unit/logs/report ;;
    msgspec) echo tests/unit/data_prep/test_words.py tests/unit/jobs/sweeps ;;
    numpy) echo tests/unit/data_prep/test_words.py tests/unit/data_prep/test_batches.py ;;
    nvidia-ml-py) echo tests/unit/cluster/agent -k gpu ;;
    omegaconf) echo tests/unit/jobs/sweeps ;;
    polars) echo tests/unit/data_prep ;;
    psutil) echo tests/unit/cluster/host ;;
    rich) echo tests/unit/cluster/cli/test_data.py tests/unit/logs/text ;;
    ray) echo tests/unit/cluster/ray ;;
    scipy) echo tests/unit/logs/statistics ;;
    submitit) echo tests/unit/cluster/slurm ;;
    safetensors) echo tests/unit/jobs/process/test_checkpoints.py ;;
    sentencex) echo tests/unit/data_prep/test_sentences.py tests/unit/data_prep/test_words.py ;;
    tensorboard) echo tests/unit/logs -k tensorboard ;;
    *) echo tests/unit/house/test_docs.py ;;
  esac
}

bounds=$($PYTHON - "$@" <<'END'
import re, sys, tomllib
for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name, bound = re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\w.]+).*", line).groups()
    if name != "torch" and (len(sys.argv) == 1 or name in sys.argv[1:]):
        print(name, bound)
END
)
bad=0
while read -r name bound; do
  env=$WORK/$name
  $PYTHON -m venv "$env"
  if ! "$env/bin/pip" install -q --disable-pip-version-check "$name==$bound" >"$WORK/log" 2>&1 &&
    ! "$env/bin/pip" install -q --disable-pip-version-check "$name==$bound.*" >"$WORK/log" 2>&1; then
    echo "$name $bound: does not install: $(grep -m1 ERROR "$WORK/log")"; bad=1; continue
  fi
  echo "$SITE" >"$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/0-rest.pth"
  cp "$SITE"/__editable__*terry*.pth "$env"/lib/python3*/site-packages/
  # shellcheck disable=SC2046
  if "$env/bin/python" -m pytest -q -x -W default $(tests_of "$name") >"$WORK/log" 2>&1; then
    echo "$name $bound: installs; $(tail -1 "$WORK/log")"
  else
    echo "$name $bound: $(grep -m1 -E '^(E |FAILED|ERROR)' "$WORK/log" || tail -1 "$WORK/log")"; bad=1
  fi
  rm -rf "$env"
done <<<"$bounds"
exit $bad
