# Sourced by the other scripts: makes .venv hold the extras asked for, and puts it on the PATH.
# usage: ensure_environment EXTRAS   (such as "dev" or "server,rl")

ensure_environment() {
  local extras=$1 venv=${ROADLOOP_VENV:-.venv} wanted stamp
  wanted=$(cat pyproject.toml constraints.txt | cksum)" $extras"
  stamp="$venv/.roadloop-$(echo "$extras" | tr ',' '-')"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    local python
    python=$(find_python) || { echo "error: expected Python 3.11 or newer on the PATH" >&2; return 1; }
    [ -x "$venv/bin/python" ] || { echo "==> creating $venv with $("$python" --version)"; "$python" -m venv "$venv"; }
    echo "==> installing roadloop[$extras]: about 1.5 GB with torch, a few minutes the first time"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
    echo "$wanted" > "$stamp"
  fi
  export PATH="$PWD/$venv/bin:$PATH"
}

find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}
